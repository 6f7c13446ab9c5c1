//! How a connection fails.

use core::fmt;

/// Why the connection is over. Nothing that comes over it is read any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The server ended it in order.
    Closed,
    /// The server gave it up; its alert (RFC 8446, 6).
    Alert(u8),
    /// The server does not use the key.
    KeyNotUsed,
    /// The server asks for another group than X25519, by a second hello.
    OtherGroup,
    /// Not TLS 1.3 as this client speaks it; which part.
    Unexpected(&'static str),
    /// A record was changed on the way, or is not the server's.
    Forged,
    /// The server does not have the key.
    NotTheServer,
    /// Too many records without data.
    NoData,
}

/// `handshake_failure`.
const HANDSHAKE_FAILURE: u8 = 40;
/// `illegal_parameter`.
const ILLEGAL_PARAMETER: u8 = 47;
/// `decrypt_error`.
const DECRYPT_ERROR: u8 = 51;
/// `protocol_version`.
const PROTOCOL_VERSION: u8 = 70;
/// `insufficient_security`.
const INSUFFICIENT_SECURITY: u8 = 71;
/// `missing_extension`.
const MISSING_EXTENSION: u8 = 109;
/// `unknown_psk_identity`.
const UNKNOWN_PSK_IDENTITY: u8 = 115;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Closed => f.write_str("the server ended the TLS connection"),
            Fault::Alert(DECRYPT_ERROR | ILLEGAL_PARAMETER) => {
                f.write_str("the server refuses the TLS key: it has another one for this identity")
            }
            Fault::Alert(UNKNOWN_PSK_IDENTITY) => f.write_str("the server does not know the TLS identity"),
            Fault::Alert(PROTOCOL_VERSION) => f.write_str("the server does not speak TLS 1.3"),
            Fault::Alert(HANDSHAKE_FAILURE | INSUFFICIENT_SECURITY | MISSING_EXTENSION) => {
                f.write_str("the server does not accept TLS with this identity, X25519 and ChaCha20-Poly1305")
            }
            Fault::Alert(alert) => write!(f, "the server gave TLS up (alert {alert})"),
            Fault::KeyNotUsed => f.write_str("the server does not use the TLS key"),
            Fault::OtherGroup => f.write_str("the server does not accept X25519"),
            Fault::Unexpected(part) => write!(f, "TLS has a bad {part}"),
            Fault::Forged => f.write_str("a TLS record is not the server's, or was changed"),
            Fault::NotTheServer => f.write_str("the server does not have the TLS key"),
            Fault::NoData => f.write_str("too many TLS records without data"),
        }
    }
}

impl core::error::Error for Fault {}
