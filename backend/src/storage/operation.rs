//! What an engine is asked to do, and the ticket that says so.

use super::SECTOR_BYTES;
use crate::virtq::Chain;
use core::ops::Range;

/// What a storage engine is asked to do. Sectors are 512 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Read into the guest.
    Read {
        /// Where on the disk.
        first_sector: u64,
        /// How much; whole sectors, at least one.
        len_bytes: u64,
    },
    /// Write from the guest.
    Write {
        /// Where on the disk.
        first_sector: u64,
        /// How much; whole sectors, at least one.
        len_bytes: u64,
    },
    /// Make every completed write durable.
    Flush,
    /// Give up the content of a range; what it reads as afterwards is open.
    Discard {
        /// Where on the disk.
        first_sector: u64,
        /// How much; whole sectors, at least one.
        len_bytes: u64,
        /// The content must not be recoverable.
        secure: bool,
    },
    /// Write zeros. Whether the space is given back for them is the engine's choice.
    WriteZeroes {
        /// Where on the disk.
        first_sector: u64,
        /// How much; whole sectors, at least one.
        len_bytes: u64,
    },
}

/// Bytes that an engine moves at once at most: more takes several turns. In tests so few that their
/// requests do.
pub(crate) const AT_ONCE_BYTES: u64 = if cfg!(test) { 64 << 10 } else { 1 << 20 };

impl Operation {
    /// What it counts in a turn of its device, in bytes.
    pub(crate) fn turn_bytes(self) -> u64 {
        match self {
            Operation::Flush => 0,
            Operation::Read { len_bytes, .. }
            | Operation::Write { len_bytes, .. }
            | Operation::WriteZeroes { len_bytes, .. }
            | Operation::Discard { len_bytes, .. } => len_bytes.min(AT_ONCE_BYTES),
        }
    }

    /// Whether it changes the disk.
    pub(super) fn is_write(self) -> bool {
        !matches!(self, Operation::Read { .. } | Operation::Flush)
    }

    /// Its sector range, as offset and length in bytes. `None`: it has none.
    pub(crate) fn byte_range(self) -> Option<(u64, u64)> {
        match self {
            Operation::Read { first_sector, len_bytes }
            | Operation::Write { first_sector, len_bytes }
            | Operation::WriteZeroes { first_sector, len_bytes }
            | Operation::Discard { first_sector, len_bytes, .. } => {
                Some((first_sector.checked_mul(SECTOR_BYTES)?, len_bytes))
            }
            Operation::Flush => None,
        }
    }
}

/// The part of a chain's buffers that is a request's data: past the header, before the status.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct DataRun {
    /// Where it begins in the chain's readable part (of a write) or writable part (of a read).
    pub(crate) start_bytes: u64,
    pub(crate) len_bytes: u64,
}

impl DataRun {
    /// Where the bytes `part` of the data lie, as far as there are any.
    pub(super) fn part(self, part: Range<u64>) -> Range<u64> {
        let place = |at: u64| self.start_bytes.saturating_add(at.min(self.len_bytes));
        place(part.start)..place(part.end)
    }
}

/// A request in flight: the right and the duty to answer it.
#[must_use = "a dropped ticket leaves the guest waiting"]
#[derive(Debug, Eq, PartialEq)]
pub struct Ticket {
    pub(crate) queue: u16,
    /// The queue's epoch when the request was taken.
    pub(crate) epoch: u32,
    pub(crate) chain: Chain,
    pub(crate) operation: Operation,
    pub(crate) data: DataRun,
}

impl Ticket {
    /// What to do.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }
}
