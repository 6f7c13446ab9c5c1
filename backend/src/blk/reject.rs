//! Why a request is refused, and the rules for where its data may lie on the disk.

use crate::storage::{Geometry, SECTOR_BYTES};
use core::fmt;

/// Why a request is answered with an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rejected {
    /// Fewer than 16 readable bytes, or they cannot be read.
    Header,
    /// Buffers of the wrong direction or length for the operation.
    Data,
    /// Beyond the end of the disk, or not whole logical blocks of it.
    Range,
    /// A write to a read-only disk.
    ReadOnly,
    /// An unknown type.
    Unsupported(u32),
    /// An operation that the disk cannot do.
    NotOffered,
    /// Flags of a range that are unknown, or wrong for the operation.
    Flags(u32),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejected::Header => "no header",
            Rejected::Data => "buffers unfit for the operation",
            Rejected::Range => "outside the disk or not whole blocks",
            Rejected::ReadOnly => "the disk is read-only",
            Rejected::Unsupported(kind) => return write!(f, "unknown type {kind}"),
            Rejected::NotOffered => "an operation that was not offered",
            Rejected::Flags(flags) => return write!(f, "unfit flags {flags:#x}"),
        })
    }
}

/// Whole logical blocks on the disk, and no buffer of the other direction.
pub(super) fn check_data(
    geometry: &Geometry,
    first_sector: u64,
    len_bytes: u64,
    other_bytes: u64,
) -> Result<(), Rejected> {
    if other_bytes > 0 {
        return Err(Rejected::Data);
    }
    check_blocks(geometry, first_sector, len_bytes)
}

/// Whole logical blocks on the disk, at least one.
pub(super) fn check_blocks(geometry: &Geometry, first_sector: u64, len_bytes: u64) -> Result<(), Rejected> {
    if len_bytes == 0 || !len_bytes.is_multiple_of(SECTOR_BYTES) {
        return Err(Rejected::Data);
    }
    let block_bytes = u64::from(geometry.block_size_bytes).max(SECTOR_BYTES);
    let block_sectors = block_bytes / SECTOR_BYTES;
    if !first_sector.is_multiple_of(block_sectors) || !len_bytes.is_multiple_of(block_bytes) {
        return Err(Rejected::Range);
    }
    let end = first_sector.checked_add(len_bytes / SECTOR_BYTES);
    if end.is_some_and(|end| end <= geometry.capacity_sectors) { Ok(()) } else { Err(Rejected::Range) }
}
