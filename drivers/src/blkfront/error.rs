//! How a connection fails, and whose doing it was.

use crate::ring::ResponseOverrun;
use crate::xenstore::StoreError;
use core::fmt;
use kernel::Errno;
use xen_pv_sys::io::xenbus::XenbusState;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectError {
    /// xenstore failed.
    Store(StoreError),
    /// A node that must exist does not.
    Missing(&'static str),
    /// A node holds what it must not.
    BadValue(&'static str),
    /// Blkback gave up, or was taken; its state.
    Refused(XenbusState),
    /// Blkback stayed in this state.
    TimedOut(XenbusState),
    /// Blkback goes back and forth.
    Restless,
    /// It still has this many pages of the last connection mapped.
    PagesOut(u32),
    /// Xen refused a grant or a port, or memory ran out.
    Xen(Errno),
    /// `pool_pages` is 0 or above [`super::MAX_POOL_PAGES`].
    PoolSize(u16),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Store(error) => error.fmt(f),
            ConnectError::Missing(key) => write!(f, "xenstore node {key} is missing"),
            ConnectError::BadValue(key) => write!(f, "xenstore node {key} has a bad value"),
            ConnectError::Refused(state) => write!(f, "blkback refused (state {state:?})"),
            ConnectError::TimedOut(state) => write!(f, "blkback stayed in state {state:?}"),
            ConnectError::Restless => f.write_str("blkback goes back and forth"),
            ConnectError::PagesOut(pages) => {
                write!(f, "blkback still has {pages} pages of the last connection mapped")
            }
            ConnectError::Xen(errno) => write!(f, "setting up the ring: {errno}"),
            ConnectError::PoolSize(pages) => write!(f, "a pool of {pages} pages"),
        }
    }
}

impl core::error::Error for ConnectError {}

impl From<StoreError> for ConnectError {
    fn from(error: StoreError) -> ConnectError {
        ConnectError::Store(error)
    }
}

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
