//! TCP for the stub: [`smoltcp`] over the stub's own network interface.
//!
//! One interface with one address of IPv4 or IPv6 ([`Network`]), which the configuration names or a DHCP server leases,
//! and connections to servers over it ([`TcpClient`]). No DNS, no listening, and nothing of the other version of IP: its
//! frames are dropped where they are read.
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

mod address;
mod checksum;
mod device;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod lease;
mod network;
mod tcp;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
pub use network::Network;
pub use tcp::{RX_BUFFER_BYTES, TX_BUFFER_BYTES, TcpClient, TcpState};
