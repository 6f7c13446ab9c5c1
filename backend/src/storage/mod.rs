//! Where a disk's sectors live, behind one small trait.
//!
//! A [`Ticket`] moves into the engine with [`Storage::submit`] and comes back on every path:
//! at once, with a completion, or refused for want of room. So no request can be lost.

mod any;
#[cfg(any(test, feature = "testkit"))]
mod faulty;
mod io;
#[cfg(feature = "nbd")]
mod nbd;
mod operation;
mod pv;
mod ram;
mod remote;

pub use any::AnyStorage;
#[cfg(any(test, feature = "testkit"))]
pub use faulty::{Faults, FaultyStorage};
pub use io::{DataError, Io};
#[cfg(feature = "nbd")]
pub use nbd::{NbdDisk, NbdJournal, NbdOptions, Reason as NbdReason};
pub(crate) use operation::{AT_ONCE_BYTES, DataRun};
pub use operation::{Operation, Ticket};
pub use pv::PvDisk;
pub use ram::{OutOfMemory, RamDisk};

use kernel::Port;

/// Unit of capacities, positions and lengths, whatever the logical block.
pub const SECTOR_BYTES: u64 = 512;

/// What a disk is like. Fixed while it is in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Geometry {
    /// Length in 512-byte sectors.
    pub capacity_sectors: u64,
    /// Logical block in bytes: the unit the guest should use.
    pub block_size_bytes: u32,
    /// Physical block in bytes; advice.
    pub physical_block_size_bytes: u32,
    /// Data that the engine moves in one go; longer requests are good, but take several.
    pub transfer_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// [`Operation::Flush`] makes completed writes durable. Without it the device offers no
    /// `VIRTIO_BLK_F_FLUSH`: a completed write is then as durable as the engine makes it.
    pub flush: bool,
    /// The engine understands [`Operation::Discard`].
    pub discard: Option<Discard>,
    /// Longest range that [`Operation::WriteZeroes`] may have, in 512-byte sectors; 0: the
    /// engine does not understand it.
    pub max_write_zeroes_sectors: u32,
}

/// How a disk discards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Discard {
    /// Smaller or unaligned parts of a range may keep their content. Advice.
    pub granularity_bytes: u32,
    /// Longest range, in 512-byte sectors; not 0.
    pub max_sectors: u32,
    /// Discarded content can be made unrecoverable.
    pub secure: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// As asked.
    Done,
    /// Not done, or only in part.
    IoError,
    /// The engine cannot do it.
    Unsupported,
}

/// What became of a submission.
#[derive(Debug)]
#[must_use]
pub enum Submitted {
    /// It is over.
    Done(Ticket, Outcome),
    /// It will come back from [`Storage::next_completion`].
    Pending,
    /// No room now; try again after a completion. Only while something is pending.
    Full(Ticket),
}

/// A storage engine. It serves requests in any order; [`Operation::Flush`] covers the writes
/// that completed before it was submitted.
///
/// # Examples
/// A read-only disk of zeros, which answers each request at once:
///
/// ```
/// use backend::storage::{Geometry, Io, Operation, Outcome, Storage, Submitted, Ticket};
/// use kernel::Port;
///
/// struct Zeros;
///
/// impl Storage for Zeros {
///     fn geometry(&self) -> Geometry {
///         Geometry {
///             capacity_sectors: 2048,
///             block_size_bytes: 512,
///             physical_block_size_bytes: 4096,
///             transfer_bytes: 1 << 20,
///             read_only: true,
///             flush: false,
///             discard: None,
///             max_write_zeroes_sectors: 0,
///         }
///     }
///     fn port(&self) -> Option<Port> {
///         None
///     }
///     fn submit(&mut self, io: &Io<'_>, ticket: Ticket) -> Submitted {
///         let outcome = match ticket.operation() {
///             Operation::Read { len_bytes, .. } => {
///                 let zeros = vec![0; len_bytes as usize];
///                 let copied = io.scatter_bytes(&ticket, 0, &zeros);
///                 if copied.is_ok() { Outcome::Done } else { Outcome::IoError }
///             }
///             _ => Outcome::Unsupported,
///         };
///         Submitted::Done(ticket, outcome)
///     }
///     fn kick(&mut self) {}
///     fn responses(&self) -> u32 {
///         0
///     }
///     fn next_completion(&mut self, _io: &Io<'_>) -> Option<(Ticket, Outcome)> {
///         None
///     }
///     fn enable_events(&mut self, _completions: u32) -> bool {
///         false
///     }
/// }
/// ```
pub trait Storage {
    /// The disk's properties.
    fn geometry(&self) -> Geometry;

    /// The event channel that announces completions, if the engine has one.
    fn port(&self) -> Option<Port>;

    /// Takes a request on. Its range lies on the disk and consists of whole logical blocks.
    fn submit(&mut self, io: &Io<'_>, ticket: Ticket) -> Submitted;

    /// Sends off what was submitted since the last call.
    fn kick(&mut self);

    /// How much may be over, in parts of requests. It is polled: it costs little, takes nothing and
    /// judges nothing.
    fn responses(&self) -> u32;

    /// The next request that is over.
    fn next_completion(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)>;

    /// Asks for an event once there are that many `completions`, from 1 up to all that are due (an
    /// engine may count in parts of requests). True: there are some now, do not wait.
    fn enable_events(&mut self, completions: u32) -> bool;
}
