//! `public/memory.h`: mapping frames into the caller's physical address space.

/// `XENMEM_decrease_reservation`.
pub const XENMEM_DECREASE_RESERVATION: u64 = 1;
/// `XENMEM_populate_physmap`.
pub const XENMEM_POPULATE_PHYSMAP: u64 = 6;
/// `XENMEM_add_to_physmap`.
pub const XENMEM_ADD_TO_PHYSMAP: u64 = 7;
/// `XENMEM_remove_from_physmap`.
pub const XENMEM_REMOVE_FROM_PHYSMAP: u64 = 15;
/// `XENMEM_add_to_physmap_batch`.
pub const XENMEM_ADD_TO_PHYSMAP_BATCH: u64 = 23;
/// `XENMEM_acquire_resource`.
pub const XENMEM_ACQUIRE_RESOURCE: u64 = 28;

/// `XENMAPSPACE_shared_info`.
pub const XENMAPSPACE_SHARED_INFO: u16 = 0;
/// `XENMAPSPACE_grant_table`.
pub const XENMAPSPACE_GRANT_TABLE: u16 = 1;
/// `XENMAPSPACE_gmfn_foreign`.
pub const XENMAPSPACE_GMFN_FOREIGN: u16 = 4;
/// `XENMEM_resource_ioreq_server`.
pub const XENMEM_RESOURCE_IOREQ_SERVER: u16 = 0;
/// `XENMEM_resource_grant_table`.
pub const XENMEM_RESOURCE_GRANT_TABLE: u16 = 1;
/// `XENMEM_resource_ioreq_server_frame_ioreq(0)`: the synchronous page.
pub const XENMEM_RESOURCE_IOREQ_SERVER_FRAME_IOREQ_0: u64 = 1;

/// `struct xen_memory_reservation`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryReservation {
    /// In: address of an array of `nr_extents` u64, the frames.
    pub extent_start: u64,
    /// In: how many there are.
    pub nr_extents: u64,
    /// In: pages of each, as a power of two.
    pub extent_order: u32,
    /// In: `XENMEMF_*`.
    pub mem_flags: u32,
    /// In: the domain, or [`DOMID_SELF`](crate::xen::DOMID_SELF).
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
}

/// `struct xen_add_to_physmap`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct AddToPhysmap {
    /// In: the domain whose map changes.
    pub domid: u16,
    /// In: pages (only for `XENMAPSPACE_gmfn_range`).
    pub size: u16,
    /// In: `XENMAPSPACE_*`.
    pub space: u32,
    /// In: index into the source space.
    pub idx: u64,
    /// In: frame number where it appears.
    pub gpfn: u64,
}

/// `struct xen_add_to_physmap_batch`. The handles are addresses of arrays.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct AddToPhysmapBatch {
    /// In: the domain whose map changes.
    pub domid: u16,
    /// In: `XENMAPSPACE_*`.
    pub space: u16,
    /// In: entries in each array.
    pub size: u16,
    /// In: for `XENMAPSPACE_gmfn_foreign`, the domain that owns the frames.
    pub foreign_domid: u16,
    /// In: array of u64, source frames.
    pub idxs: u64,
    /// In: array of u64, destination frames.
    pub gpfns: u64,
    /// Out: array of i32, 0 or a negative errno for each entry.
    pub errs: u64,
}

/// `struct xen_remove_from_physmap`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveFromPhysmap {
    /// In: the domain whose map changes.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// In: the frame to remove.
    pub gpfn: u64,
}

/// `struct xen_mem_acquire_resource`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct AcquireResource {
    /// In: the domain whose resource is mapped.
    pub domid: u16,
    /// In: `XENMEM_resource_*`.
    pub resource_type: u16,
    /// In: for an ioreq server, its identifier.
    pub id: u32,
    /// In and out: frames.
    pub nr_frames: u32,
    /// Must be 0.
    pub pad: u32,
    /// In: first frame of the resource.
    pub frame: u64,
    /// In: address of an array of u64, the destination frames.
    pub frame_list: u64,
}
