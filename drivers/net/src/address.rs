//! An interface's address.

use core::net::IpAddr;

/// Who we are on the network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Address {
    /// Our own.
    pub ours: IpAddr,
    /// Bits of it that name the network, at most all.
    pub prefix_bits: u8,
    /// Who knows the way to other networks.
    pub gateway: Option<IpAddr>,
}
