//! How a connection and its requests fail, and whose doing it was.

use crate::wire;
use core::fmt;

/// Why the connection is over. Nothing that comes over it is read any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The other side does not begin as an NBD server does.
    NotNbd,
    /// A server that knows no fixed newstyle negotiation.
    OldStyle,
    /// A part of the negotiation that the protocol does not have there; which field.
    BadNegotiation(&'static str),
    /// More bytes of negotiation than any server needs.
    LongNegotiation,
    /// The server refuses the export; the type of its reply (`NBD_REP_ERR_*`).
    Refused(u32),
    /// The server refuses TLS; the type of its reply (`NBD_REP_ERR_*`).
    NoTls(u32),
    /// The export cannot be used; which property.
    BadExport(&'static str),
    /// A reply that does not begin as one; its first field.
    BadReply(u32),
    /// A reply to no request; its cookie.
    UnknownCookie(u64),
    /// The server is about to end.
    ShuttingDown,
    /// The negotiation took too long.
    TimedOut,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::NotNbd => f.write_str("not an NBD server"),
            Fault::OldStyle => f.write_str("the server knows no fixed newstyle negotiation"),
            Fault::BadNegotiation(field) => write!(f, "the negotiation has a bad {field}"),
            Fault::LongNegotiation => f.write_str("the negotiation is too long"),
            Fault::Refused(wire::REP_ERR_UNSUP) => f.write_str("the server does not know NBD_OPT_GO"),
            Fault::Refused(wire::REP_ERR_POLICY) => f.write_str("the server does not let us have the export"),
            Fault::Refused(wire::REP_ERR_TLS_REQD) => {
                f.write_str("the server requires TLS; set tls-psk-file")
            }
            Fault::Refused(wire::REP_ERR_UNKNOWN) => f.write_str("the server has no such export"),
            Fault::Refused(kind) => write!(f, "the server refuses the export ({kind:#x})"),
            Fault::NoTls(wire::REP_ERR_UNSUP | wire::REP_ERR_POLICY) => {
                f.write_str("the server does not offer TLS, and the disk has a tls-psk-file")
            }
            Fault::NoTls(kind) => write!(f, "the server refuses TLS ({kind:#x})"),
            Fault::BadExport(property) => write!(f, "the export has a bad {property}"),
            Fault::BadReply(magic) => write!(f, "a reply that begins with {magic:#x}"),
            Fault::UnknownCookie(cookie) => write!(f, "a reply to no request ({cookie:#x})"),
            Fault::ShuttingDown => f.write_str("the server is shutting down"),
            Fault::TimedOut => f.write_str("the negotiation took too long"),
        }
    }
}

impl core::error::Error for Fault {}

/// Why a request failed at the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IoError {
    /// It says that it failed; `NBD_E*`, or any number. Part of a write may have been done.
    Failed(u32),
    /// It says that it cannot do that.
    Unsupported,
}

/// Why a request was not made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubmitError {
    /// As many requests as there can be are under way: try again after one is over.
    Full,
    /// The negotiation is not over, or the connection is.
    NotReady,
    /// The export cannot do it: see [`crate::Export`].
    Unsupported,
    /// Empty, too long, outside the export, or not whole blocks.
    BadRange,
}
