//! The architecture's facade: one set of names, whatever lies below.
//!
//! On the stub it is `aarch64`. On a host it is a twin that answers every hypercall with
//! `ENOSYS`, so that this crate and all above it build and test there.

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod aarch64;
#[cfg(all(feature = "guest", target_os = "none", target_arch = "aarch64"))]
pub(crate) use aarch64::{
    Start, is_off, map_registers, read_register, read_register_8, read_register_16, read_register_64,
    write_register, write_register_8, write_register_16, write_register_64,
};
#[cfg(all(feature = "hostile", target_os = "none", target_arch = "aarch64"))]
pub(crate) use aarch64::{contention, misuse};
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub(crate) use aarch64::{copy_blocks, counter, counter_hz, halt, hypercall, image, map_block, restart};

#[cfg(not(target_os = "none"))]
mod host;
#[cfg(all(feature = "hostile", not(target_os = "none")))]
pub(crate) use host::{contention, misuse};
#[cfg(not(target_os = "none"))]
pub(crate) use host::{copy_blocks, counter, counter_hz, hypercall, map_block};

#[cfg(all(target_os = "none", not(target_arch = "aarch64")))]
compile_error!("the stub runs on aarch64 only");

/// Bytes that one entry of a level 2 translation table maps.
pub(crate) const BLOCK_SIZE: u64 = 2 << 20;
/// Bytes that one entry of a level 1 translation table maps.
const LARGE_BLOCK_SIZE: u64 = 1 << 30;

/// Why a block could not be mapped. Always a bug or a layout that we do not support.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MapError {
    /// The address is not a multiple of the block's size.
    Unaligned(u64),
    /// The address lies beyond what the tables can express (512 GiB).
    TooHigh(u64),
    /// Something else is mapped there already.
    Taken(u64),
    /// All level 2 tables are in use.
    NoTable(u64),
}

impl core::fmt::Display for MapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (address, why) = match self {
            Self::Unaligned(address) => (address, "is not a multiple of its size"),
            Self::TooHigh(address) => (address, "is beyond 512 GiB"),
            Self::Taken(address) => (address, "is mapped already"),
            Self::NoTable(address) => (address, "finds all tables in use"),
        };
        write!(f, "{address:#x} {why}")
    }
}

/// Maps the blocks of `range` that are not mapped yet, by large blocks where that can be, which need
/// no table.
///
/// # Errors
/// As [`map_block`].
pub(crate) fn map_missing(range: core::ops::Range<u64>) -> Result<(), MapError> {
    let mut at = range.start / BLOCK_SIZE * BLOCK_SIZE;
    while at < range.end {
        let large = at.is_multiple_of(LARGE_BLOCK_SIZE) && range.end - at >= LARGE_BLOCK_SIZE;
        // If it is taken, then perhaps in part only.
        if large && map_block(at, LARGE_BLOCK_SIZE).is_ok() {
            at += LARGE_BLOCK_SIZE;
            continue;
        }
        match map_block(at, BLOCK_SIZE) {
            Ok(()) | Err(MapError::Taken(_)) => at += BLOCK_SIZE,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
