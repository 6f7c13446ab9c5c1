//! `public/grant_table.h`: version 1 grant entries, the set-up operations, and how another domain's
//! grants are used.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `GTF_permit_access`.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// `GTF_readonly`.
pub const GTF_READONLY: u16 = 1 << 2;
/// `GTF_reading`: the peer has the page mapped for reading.
pub const GTF_READING: u16 = 1 << 3;
/// `GTF_writing`: the peer has the page mapped for writing.
pub const GTF_WRITING: u16 = 1 << 4;
/// `GNTTAB_NR_RESERVED_ENTRIES`: the first entries belong to the toolstack.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// `GNTTABOP_query_size`.
pub const GNTTABOP_QUERY_SIZE: u64 = 6;
/// `GNTTABOP_map_grant_ref`.
pub const GNTTABOP_MAP_GRANT_REF: u64 = 0;
/// `GNTTABOP_unmap_grant_ref`.
pub const GNTTABOP_UNMAP_GRANT_REF: u64 = 1;
/// `GNTTABOP_copy`.
pub const GNTTABOP_COPY: u64 = 5;
/// `GNTMAP_host_map`: for the CPU.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// `GNTCOPY_source_gref`: what is copied from is a grant.
pub const GNTCOPY_SOURCE_GREF: u16 = 1;
/// `GNTCOPY_dest_gref`: what is copied to is a grant.
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;
/// `GNTST_okay`.
pub const GNTST_OKAY: i16 = 0;
/// `GNTST_general_error`.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// `GNTST_bad_gntref`.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// `GNTST_permission_denied`.
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// `GNTST_bad_copy_arg`: a copy beyond the end of a page.
pub const GNTST_BAD_COPY_ARG: i16 = -10;

/// `struct grant_entry_v1` (8 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GrantEntryV1 {
    /// `GTF_*`.
    pub flags: u16,
    /// The domain that is granted access.
    pub domid: u16,
    /// The frame that is granted.
    pub frame: u32,
}

/// `struct gnttab_query_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GnttabQuerySize {
    /// In: the domain asked about.
    pub dom: u16,
    /// Padding.
    pub pad: u16,
    /// Out: frames in use.
    pub nr_frames: u32,
    /// Out: frames allowed.
    pub max_nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub pad2: u16,
}

/// `struct gnttab_map_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GnttabMapGrantRef {
    /// In: where, on Arm a guest physical address.
    pub host_addr: u64,
    /// In: `GNTMAP_*`.
    pub flags: u32,
    /// In: the grant.
    pub gref: u32,
    /// In: whose it is.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: what to unmap it by.
    pub handle: u32,
    /// Out: of no use here.
    pub dev_bus_addr: u64,
}

/// `struct gnttab_unmap_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GnttabUnmapGrantRef {
    /// In: where it was mapped.
    pub host_addr: u64,
    /// In: 0.
    pub dev_bus_addr: u64,
    /// In: what the mapping gave.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// One end of a copy: `source` and `dest` of `struct gnttab_copy`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GnttabCopyEnd {
    /// A grant, or the number of a frame. A grant has 32 bits; the upper ones are not read then.
    pub page: u64,
    /// Whose it is.
    pub domid: u16,
    /// First byte in the page.
    pub offset: u16,
    /// Padding.
    pub pad: u32,
}

/// `struct gnttab_copy`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GnttabCopy {
    /// In: what is copied.
    pub source: GnttabCopyEnd,
    /// In: where to.
    pub dest: GnttabCopyEnd,
    /// In: bytes, within one page at both ends.
    pub len: u16,
    /// In: `GNTCOPY_*`.
    pub flags: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub pad: u16,
}
