//! Drivers for Xen's PV protocols, frontend side, over the typed [`kernel::Hypervisor`].
//!
//! Peers (xenstored, blkback) are not trusted: every index, length and identifier that
//! they write is copied once and judged against private state. A peer that breaks its
//! protocol makes its own connection unusable, never the stub.
//!
//! - [`evtchn`], [`gnttab`]: ports and grants that are owned and given back on drop
//! - [`ring`]: the frontend of a shared request and response ring
//! - [`xenstore`], [`xenbus`]: the configuration store and the handshake over it
//! - [`blkfront`]: a block device of another domain
//! - [`netfront`]: a network interface of another domain
//! - `fake` (feature `fake`): stateful peers for host tests
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

pub mod backoff;
pub mod blkfront;
pub mod evtchn;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod frontend;
pub mod gnttab;
pub mod netfront;
pub mod ring;
pub mod xenbus;
pub mod xenstore;

pub use blkfront::BlkFront;
pub use netfront::NetFront;
pub use xenstore::Xenstore;
