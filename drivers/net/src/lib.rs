//! TCP for the stub: [`smoltcp`] over the stub's own network interface.
//!
//! One interface with one IPv4 address that the configuration names ([`Network`]), and connections to servers
//! over it ([`TcpClient`]). No DHCP, no DNS, no IPv6, no listening. ARP and TCP are all that is spoken, so the
//! rest of what comes from the network is dropped where it is read.
//!
//! Nothing here waits, and each call does a bounded amount of work. The interface may lose its netback and
//! get another; a connection that stands outlives that, as frames that were lost are sent again.
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

mod device;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod network;
mod tcp;
#[cfg(test)]
mod tests;

pub use core::net::{Ipv4Addr, SocketAddrV4};
pub use network::{Address, Network};
pub use tcp::{RX_BUFFER_BYTES, TX_BUFFER_BYTES, TcpClient, TcpState};
