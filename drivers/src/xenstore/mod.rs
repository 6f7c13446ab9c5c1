//! The configuration store shared with the toolstack: messages over a ring page.
//!
//! [`wire`] takes messages apart, `link` moves them over the ring, `resume` finds into a
//! ring that was in use, `client` makes requests, [`batch`] several at a time,
//! [`transaction`] groups requests, [`events`] keeps watch events until they are asked for.

pub mod batch;
mod client;
pub mod events;
mod link;
mod resume;
pub mod transaction;
pub mod wire;

use core::fmt;
use kernel::Errno;

pub use batch::{Answers, Ask};
pub use events::WatchEvent;
pub use link::Xenstore;
pub use transaction::Transaction;
pub use wire::number;

/// How xenstored broke the protocol. The connection is dead afterwards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreFault {
    /// A ring index ran further ahead than the ring is long; bytes claimed.
    RingOverrun(u32),
    /// A message claims more payload than the protocol allows; bytes claimed.
    PayloadTooLong(u32),
    /// An answer to a request that was not made; its `req_id`.
    UnknownRequest(u32),
    /// An answer of another type than the request; its type.
    WrongType(u32),
    /// An answer or event whose payload is not of its type's form.
    Malformed,
    /// It stopped reading in the middle of a request.
    Stalled,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, number) = match *self {
            StoreFault::RingOverrun(bytes) => ("ring overrun, bytes", bytes),
            StoreFault::PayloadTooLong(bytes) => ("too long a payload, bytes", bytes),
            StoreFault::UnknownRequest(id) => ("an answer to no request", id),
            StoreFault::WrongType(answered) => ("an answer of another type", answered),
            StoreFault::Malformed => return f.write_str("malformed payload"),
            StoreFault::Stalled => return f.write_str("stalled during a request"),
        };
        write!(f, "{what}: {number}")
    }
}

/// Why a request to xenstored failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreError {
    /// xenstored's answer, or a request that it could only refuse.
    Refused(Errno),
    /// No answer in time.
    TimedOut,
    /// xenstored broke the protocol, now or earlier.
    Fault(StoreFault),
    /// Xen refused a hypercall.
    Xen(Errno),
}

impl StoreError {
    /// True if the node does not exist.
    #[must_use]
    pub fn is_not_found(self) -> bool {
        self == StoreError::Refused(Errno::ENOENT)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Refused(errno) => write!(f, "xenstore: {errno}"),
            StoreError::TimedOut => f.write_str("xenstore: no answer in time"),
            StoreError::Fault(fault) => write!(f, "xenstore broke its protocol: {fault}"),
            StoreError::Xen(errno) => write!(f, "xenstore connection: {errno}"),
        }
    }
}

impl core::error::Error for StoreError {}

impl From<StoreFault> for StoreError {
    fn from(fault: StoreFault) -> StoreError {
        StoreError::Fault(fault)
    }
}

#[cfg(test)]
mod tests;
