//! How a connection breaks and requests fail, and whose doing it was.

use crate::ring::ResponseOverrun;
use core::fmt;
use kernel::Errno;
use xen_pv_sys::io::xenbus::XenbusState;

/// How blkback broke the connection. The ring is dead afterwards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerFault {
    /// It claims more responses than there are requests.
    ResponseOverrun(ResponseOverrun),
    /// A response to no live request; the id it carries.
    UnknownId(u64),
    /// A response that names another operation than the request.
    WrongOperation {
        /// The id on the wire.
        id: u64,
        /// The operation it names.
        operation: u8,
    },
    /// It left the connected state.
    Left(XenbusState),
    /// It cannot be notified any more.
    Unreachable(Errno),
    /// The toolstack gave the disk another blkback, or took it away.
    Replaced,
    /// It answered nothing for too long.
    Silent,
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerFault::ResponseOverrun(overrun) => overrun.fmt(f),
            PeerFault::UnknownId(id) => write!(f, "a response to no request ({id:#x})"),
            PeerFault::WrongOperation { id, operation } => {
                write!(f, "a response of operation {operation} to request {id:#x}")
            }
            PeerFault::Left(state) => write!(f, "blkback went to state {state:?}"),
            PeerFault::Unreachable(errno) => write!(f, "blkback cannot be notified: {errno}"),
            PeerFault::Replaced => f.write_str("the disk was detached or given another blkback"),
            PeerFault::Silent => f.write_str("blkback does not answer"),
        }
    }
}

/// Whether the disk can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// In service.
    Connected,
    /// Blkback broke the connection. Requests under way will not complete.
    Broken(PeerFault),
    /// We closed it.
    Closed,
}

/// Why a request was not queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubmitError {
    /// No room: try again after a completion.
    RingFull,
    /// The connection is not in service; see [`super::BlkFront::health`].
    NotConnected,
    /// The disk cannot do it: a write to a read-only disk, flush or discard without the
    /// feature.
    Unsupported,
    /// Outside the disk, not whole logical blocks, too long, or longer than its pages.
    BadRange,
}

/// Why a request failed at blkback.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IoError {
    /// It says that it failed. Part of a write may have been done.
    Failed,
    /// It says that it does not know the operation.
    Unsupported,
}
