//! How a connection breaks, and whose doing it was.

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
    /// Part of a frame that does not lie in its page.
    OutOfPage {
        /// Where it begins, in bytes.
        offset: u16,
        /// How long it is, in bytes.
        len: u16,
    },
    /// A response with flags that it cannot have.
    BadFlags(u16),
    /// Extra information that was not agreed.
    BadExtra {
        /// Its type.
        kind: u8,
        /// Its flags.
        flags: u8,
    },
    /// A frame of more parts than any has.
    TooManyParts,
    /// A frame whose rest is not there.
    Unfinished,
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
            PeerFault::OutOfPage { offset, len } => {
                write!(f, "part of a frame, of {len} bytes at {offset} of a page")
            }
            PeerFault::BadFlags(flags) => write!(f, "a frame with flags {flags:#x}"),
            PeerFault::BadExtra { kind, flags } => {
                write!(f, "extra information of type {kind}, flags {flags:#x}")
            }
            PeerFault::TooManyParts => f.write_str("a frame of too many parts"),
            PeerFault::Unfinished => f.write_str("a frame without its end"),
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
    /// Shorter than a header, or longer than the interface's frames, or than netback cuts.
    BadLength,
}
