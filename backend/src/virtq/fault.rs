//! The rules of a queue that a driver can break.

use crate::guest_mem::MemFault;
use core::fmt;

/// Why a guest's queue can no longer be served; leads to `DEVICE_NEEDS_RESET`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueueFault {
    /// `avail.idx` offers more chains than the queue has descriptors.
    AvailOverrun {
        /// Chains offered and not returned.
        outstanding: u16,
    },
    /// A chain's head lies outside the descriptor table.
    HeadOutOfTable(u16),
    /// A head was offered again before it was returned.
    HeadInFlight(u16),
    /// A descriptor's `next` points outside its table.
    NextOutOfTable(u16),
    /// A chain is longer than the longest queue, or loops.
    ChainTooLong,
    /// A readable descriptor follows a writable one.
    ReadableAfterWritable,
    /// `VIRTQ_DESC_F_INDIRECT` without the feature.
    IndirectNotNegotiated,
    /// An indirect descriptor inside an indirect table.
    IndirectNested,
    /// An indirect descriptor with `VIRTQ_DESC_F_NEXT`.
    IndirectWithNext,
    /// An indirect table whose length is zero or no multiple of 16.
    IndirectLength(u32),
    /// A chain has no byte that the device may write, so no status can be told.
    NoStatusByte,
    /// After a restart: the used ring is not what we wrote there.
    UsedChanged,
    /// A ring or a descriptor cannot be reached.
    Memory(MemFault),
}

impl From<MemFault> for QueueFault {
    fn from(fault: MemFault) -> QueueFault {
        QueueFault::Memory(fault)
    }
}

impl fmt::Display for QueueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueFault::AvailOverrun { outstanding } => {
                write!(f, "avail.idx leaves {outstanding} chains outstanding, more than the queue holds")
            }
            QueueFault::HeadOutOfTable(head) => write!(f, "head {head} lies outside the descriptor table"),
            QueueFault::HeadInFlight(head) => write!(f, "head {head} was offered twice"),
            QueueFault::NextOutOfTable(next) => write!(f, "next {next} lies outside its table"),
            QueueFault::ChainTooLong => f.write_str("a descriptor chain is too long or loops"),
            QueueFault::ReadableAfterWritable => f.write_str("a readable descriptor follows a writable one"),
            QueueFault::IndirectNotNegotiated => f.write_str("an indirect descriptor without the feature"),
            QueueFault::IndirectNested => f.write_str("an indirect descriptor in an indirect table"),
            QueueFault::IndirectWithNext => f.write_str("an indirect descriptor that continues"),
            QueueFault::IndirectLength(len) => write!(f, "an indirect table of {len} bytes"),
            QueueFault::NoStatusByte => f.write_str("a request without a status byte"),
            QueueFault::UsedChanged => f.write_str("the used ring was changed by somebody else"),
            QueueFault::Memory(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for QueueFault {}
