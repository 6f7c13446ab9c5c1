//! A client of the Network Block Device protocol (NetworkBlockDevice/nbd, `doc/proto.md`): a state
//! machine over bytes. It has no network and no clock of its own.
//!
//! Fixed newstyle negotiation with `NBD_OPT_GO`, then simple replies, many requests at once, answered
//! in any order. No structured replies, one connection. TLS is begun where it is wanted (`NBD_OPT_STARTTLS`), and done by
//! somebody else.
//!
//! The server is not trusted. Each field is copied once and judged: sizes and flags of the export, the
//! length of each part of the negotiation, the cookie of each reply. A server that breaks a rule makes
//! its own connection unusable ([`Fault`]). What it cannot be kept from is lying about the disk's content.
//!
//! Nothing of the server's choice makes the client allocate. It keeps less than one header; the data of
//! a read is handed out where it lies.
//!
//! - [`Client`]: the connection
//! - [`Export`]: what the server offers
//! - [`Command`], [`Event`]: requests and what became of them
//! - `fake` (feature `fake`): a stateful server for host tests
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

mod client;
mod error;
mod export;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod handshake;
mod header;
mod requests;
#[cfg(test)]
mod tests;
pub mod wire;

pub use client::{Client, Event, HANDSHAKE_TIMEOUT_NS, REQUESTS_MAX};
pub use error::{Fault, IoError, SubmitError};
pub use export::Export;
pub use handshake::{NAME_MAX_BYTES, NameTooLong, OPENING_MAX_BYTES, Opening, Security};
pub use requests::Command;
