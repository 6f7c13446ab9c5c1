//! xenstore: the operations the daemon needs ([`Store`]), a client for the real one
//! ([`Client`]), and the paths used.
//!
//! The client is our own because the published ones are under the GPL (`xenstore-rs`) or need
//! `libxenstore`; the message header comes from `xen-pv-sys`.

mod client;
pub mod paths;
mod store;
mod wire;

pub use client::{Client, Event};
pub use store::Store;
