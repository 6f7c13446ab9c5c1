//! A disk in the stub's own memory. It starts zeroed and ends with the stub.

use super::{Discard, Geometry, Io, Outcome, SECTOR_BYTES, Storage, Submitted, byte_range};
use crate::blk::{Operation, Ticket};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use kernel::Port;

/// Longest range that is zeroed in one go: no guest vCPU waits longer than for that.
const MAX_ZERO_SECTORS: u32 = 2048;

/// The stub has not enough memory for a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub len_bytes: u64,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory for a RAM disk of {} bytes", self.len_bytes)
    }
}

impl core::error::Error for OutOfMemory {}

/// The disk. Requests are over when they are submitted; a flush has nothing to do.
pub struct RamDisk {
    bytes: Vec<u8>,
    read_only: bool,
}

impl RamDisk {
    /// A zeroed disk of `len_bytes`, rounded down to whole sectors.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(len_bytes: u64, read_only: bool) -> Result<RamDisk, OutOfMemory> {
        let refused = OutOfMemory { len_bytes };
        let len = usize::try_from(len_bytes & !(SECTOR_BYTES - 1)).map_err(|_| refused)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| refused)?;
        bytes.resize(len, 0);
        Ok(RamDisk { bytes, read_only })
    }

    fn range(operation: Operation) -> Option<Range<usize>> {
        let (start, len) = byte_range(operation)?;
        let start = usize::try_from(start).ok()?;
        Some(start..start.checked_add(usize::try_from(len).ok()?)?)
    }

    fn serve(&mut self, io: &Io<'_>, ticket: &Ticket) -> Outcome {
        let operation = ticket.operation();
        if operation == Operation::Flush {
            return Outcome::Done;
        }
        let Some(bytes) = Self::range(operation).and_then(|range| self.bytes.get_mut(range)) else {
            return Outcome::IoError;
        };
        let copied = match operation {
            Operation::Read { .. } => io.scatter_bytes(ticket, bytes),
            Operation::Flush => Ok(()),
            _ if self.read_only => return Outcome::IoError,
            Operation::Write { .. } => io.gather_bytes(ticket, bytes),
            // Zeroed memory is discarded beyond recovery, too.
            Operation::Discard { .. } | Operation::WriteZeroes { .. } => {
                bytes.fill(0);
                Ok(())
            }
        };
        copied.map_or(Outcome::IoError, |()| Outcome::Done)
    }
}

impl Storage for RamDisk {
    fn geometry(&self) -> Geometry {
        Geometry {
            capacity_sectors: u64::try_from(self.bytes.len()).unwrap_or(u64::MAX) / SECTOR_BYTES,
            block_size_bytes: 512,
            physical_block_size_bytes: 4096,
            transfer_bytes: 1 << 20,
            read_only: self.read_only,
            flush: true,
            discard: Some(Discard { granularity_bytes: 512, max_sectors: MAX_ZERO_SECTORS, secure: true }),
            max_write_zeroes_sectors: MAX_ZERO_SECTORS,
        }
    }

    fn port(&self) -> Option<Port> {
        None
    }

    fn submit(&mut self, io: &Io<'_>, ticket: Ticket) -> Submitted {
        let outcome = self.serve(io, &ticket);
        Submitted::Done(ticket, outcome)
    }

    fn kick(&mut self) {}

    fn next_completion(&mut self, _io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        None
    }

    fn arm(&mut self, _batch: u32) -> bool {
        false
    }
}
