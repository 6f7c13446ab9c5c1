//! What blkback says about the disk, checked.

use super::ConnectError;
use crate::frontend::Numbers;
use crate::xenstore::Xenstore;
use kernel::Hypervisor;
use xen_pv_sys::io::blkif::SECTOR_SIZE;

/// `VDISK_READONLY` in blkback's `info`.
const VDISK_READONLY: u64 = 0x4;
/// Logical blocks larger than a page cannot be written from single pages.
const MAX_SECTOR_SIZE_BYTES: u64 = 4096;

/// Where blkback says it, in the order of [`Geometry::read`].
const NODES: [&str; 9] = [
    "sectors",
    "sector-size",
    "physical-sector-size",
    "info",
    "feature-flush-cache",
    "feature-discard",
    "discard-granularity",
    "discard-alignment",
    "discard-secure",
];

/// Properties of the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Geometry {
    /// Length in 512-byte units; a multiple of the sector size, never 0.
    pub sectors: u64,
    /// Logical block: 512, 1024, 2048 or 4096.
    pub sector_size_bytes: u32,
    /// Physical block: a power of two, at least the logical one. Advice only.
    pub physical_sector_size_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// [`super::Op::Flush`] is understood. Without it a completed write is all there is.
    pub flush: bool,
    /// [`super::Op::Discard`] is understood.
    pub discard: Option<Discard>,
}

/// How the disk discards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Discard {
    /// Smaller discards may do nothing.
    pub granularity_bytes: u32,
    /// Where the first granule starts.
    pub alignment_bytes: u32,
    /// Secure discard is understood.
    pub secure: bool,
}

impl Geometry {
    /// Reads and judges the nodes in blkback's directory.
    pub(super) fn read<H: Hypervisor>(xs: &mut Xenstore<H>, backend: &str) -> Result<Geometry, ConnectError> {
        let mut nodes = Numbers::read(xs, backend, &NODES)?;
        let sectors = nodes.next()?.ok_or(ConnectError::Missing("sectors"))?;
        let sector_size = nodes.next()?.unwrap_or(SECTOR_SIZE);
        let sector_size_ok =
            sector_size.is_power_of_two() && (SECTOR_SIZE..=MAX_SECTOR_SIZE_BYTES).contains(&sector_size);
        let sector_size_bytes = u32::try_from(sector_size)
            .ok()
            .filter(|_| sector_size_ok)
            .ok_or(ConnectError::BadValue("sector-size"))?;
        let physical = nodes.next()?.and_then(|bytes| u32::try_from(bytes).ok());
        // It is a hint. One that makes no sense costs speed only, so the disk is not refused.
        let physical = physical.filter(|bytes| bytes.is_power_of_two() && *bytes >= sector_size_bytes);
        let info = nodes.next()?.unwrap_or(0);
        let flush = nodes.next()?.unwrap_or(0) == 1;
        let discard = if nodes.next()?.unwrap_or(0) == 1 {
            let bytes = |value: Option<u64>, key, default| {
                let bytes = value.map_or(Ok(default), u32::try_from);
                bytes.map_err(|_| ConnectError::BadValue(key))
            };
            let granularity_bytes = bytes(nodes.next()?, "discard-granularity", sector_size_bytes)?;
            let alignment_bytes = bytes(nodes.next()?, "discard-alignment", 0)?;
            Some(Discard {
                // 0 is "unknown" in Linux's queue limits.
                granularity_bytes: granularity_bytes.max(sector_size_bytes),
                alignment_bytes,
                secure: nodes.next()?.unwrap_or(0) == 1,
            })
        } else {
            None
        };
        let geometry = Geometry {
            sectors,
            sector_size_bytes,
            physical_sector_size_bytes: physical.unwrap_or(sector_size_bytes),
            read_only: info & VDISK_READONLY != 0,
            flush,
            discard,
        };
        if geometry.sectors_ok(sectors) { Ok(geometry) } else { Err(ConnectError::BadValue("sectors")) }
    }

    /// Whether the disk may be `sectors` long: not empty, whole logical blocks, and its
    /// length in bytes fits 64 bits.
    pub(super) fn sectors_ok(&self, sectors: u64) -> bool {
        let bytes = sectors.checked_mul(SECTOR_SIZE);
        bytes.is_some_and(|bytes| bytes > 0 && bytes.is_multiple_of(self.sector_size_bytes.into()))
    }

    /// Whether `sectors` 512-byte units from `first_sector` are whole logical blocks of the
    /// disk.
    pub(super) fn contains(&self, first_sector: u64, sectors: u64) -> bool {
        let block = u64::from(self.sector_size_bytes).checked_div(SECTOR_SIZE).unwrap_or(1);
        let inside = first_sector.checked_add(sectors).is_some_and(|end| end <= self.sectors);
        inside && sectors > 0 && first_sector.is_multiple_of(block) && sectors.is_multiple_of(block)
    }
}
