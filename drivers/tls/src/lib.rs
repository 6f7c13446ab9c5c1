//! TLS 1.3 with a pre-shared key (RFC 8446), for a client: bytes in, bytes out, no network and no clock.
//!
//! One way only: an external key (`psk_dhe_ke`), X25519, ChaCha20-Poly1305 and SHA-256. No certificates, no resumption, no
//! early data, no renegotiation. A server that wants anything else is refused. Who does not have the key can bring a
//! connection to an end, and no more: every secret depends on the key, and the server has to use it.
//!
//! The ciphers are RustCrypto's and dalek's; what is here is the record layer, the messages and the key schedule
//! (docs/decisions/0014).
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bytes;
mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod hello;
mod messages;
mod record;
mod schedule;
mod secrets;
mod session;
#[cfg(test)]
mod tests;

pub use error::Fault;
pub use record::{DATA_MAX_BYTES, RECORD_OVERHEAD_BYTES, UPDATE_BYTES};
pub use secrets::{IDENTITY_MAX_BYTES, KEY_MAX_BYTES, KEY_MIN_BYTES, Secrets};
pub use session::Session;
