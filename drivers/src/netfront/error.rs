//! How a connection breaks, and whose doing it was.

use super::PARTS_MAX;
use crate::ring::ResponseOverrun;
use core::fmt;
use kernel::Errno;
use xen_pv_sys::io::xenbus::XenbusState;

/// How netback broke the connection. The rings are dead afterwards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerFault {
    /// It claims more responses than there are requests.
    ResponseOverrun(ResponseOverrun),
    /// A response to no frame that it has, or to one whose turn it is not; the id it carries.
    UnknownId(u16),
    /// A frame that does not lie in its page.
    OutOfPage {
        /// Where it begins, in bytes.
        offset: u16,
        /// How long it is, in bytes.
        len: u16,
    },
    /// What was not agreed: a frame in parts, or more than a frame; the response's flags.
    BadFlags(u16),
    /// A frame in more parts than a frame has.
    EndlessFrame,
    /// It left the connected state.
    Left(XenbusState),
    /// It cannot be notified any more.
    Unreachable(Errno),
    /// The toolstack gave the interface another netback, or took it away.
    Replaced,
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerFault::ResponseOverrun(overrun) => overrun.fmt(f),
            PeerFault::UnknownId(id) => write!(f, "a response to no frame ({id:#x})"),
            PeerFault::OutOfPage { offset, len } => write!(f, "a frame of {len} bytes at {offset} of a page"),
            PeerFault::BadFlags(flags) => write!(f, "a frame with what was not agreed (flags {flags:#x})"),
            PeerFault::EndlessFrame => write!(f, "a frame in more than {PARTS_MAX} parts"),
            PeerFault::Left(state) => write!(f, "netback went to state {state:?}"),
            PeerFault::Unreachable(errno) => write!(f, "netback cannot be notified: {errno}"),
            PeerFault::Replaced => f.write_str("the interface was detached or given another netback"),
        }
    }
}

/// Whether the interface can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// In service.
    Connected,
    /// Netback broke the connection.
    Broken(PeerFault),
    /// We closed it.
    Closed,
}

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendError {
    /// No room: try again after netback has sent some.
    Full,
    /// The connection is not in service; see [`super::NetFront::health`].
    NotConnected,
    /// Shorter than a header, or longer than the interface's frames.
    BadLength,
}
