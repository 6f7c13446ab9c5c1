//! The address that a DHCP server leases (RFC 2131). The server may be anybody's.

use crate::address::Address;
use core::net::{IpAddr, Ipv4Addr};
use log::warn;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4::{Config, Event, RetryConfig, Socket};
use smoltcp::time::Duration;

/// A guest's start waits for the lease, and not for long.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Requests for an offer before others are looked for.
const REQUESTS: u16 = 3;
/// After a lease that is over or of no use. A server could keep us busy otherwise.
const PAUSE_NS: u64 = 1_000_000_000;

/// What has come of the lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// There is one, or another one.
    Leased(Address),
    /// It is over.
    Lost,
}

/// The client.
pub(crate) struct Lease {
    /// `None` during a pause.
    socket: Option<SocketHandle>,
    /// The end of the pause.
    again_ns: u64,
}

impl Lease {
    pub(crate) fn new(sockets: &mut SocketSet<'static>) -> Lease {
        Lease { socket: Some(ask(sockets)), again_ns: 0 }
    }

    /// When there is something to do, without a frame.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.socket.is_none().then_some(self.again_ns)
    }

    /// What has changed since the last call. A lease that no host could use is none.
    pub(crate) fn change(&mut self, sockets: &mut SocketSet<'static>, now_ns: u64) -> Option<Change> {
        let Some(handle) = self.socket else {
            self.socket = (now_ns >= self.again_ns).then(|| ask(sockets));
            return None;
        };
        let socket = sockets.get_mut::<Socket<'_>>(handle);
        let is_new = socket.ignore_naks();
        let leased = match socket.poll()? {
            // A socket's first news is that it has no lease.
            Event::Deconfigured if is_new => return None,
            Event::Deconfigured => None,
            Event::Configured(config) => judged(&config),
        };
        if let Some(address) = leased {
            socket.set_ignore_naks(false);
            return Some(Change::Leased(address));
        }
        sockets.remove(handle);
        self.socket = None;
        self.again_ns = now_ns.saturating_add(PAUSE_NS);
        Some(Change::Lost)
    }
}

/// A socket that asks for a lease.
fn ask(sockets: &mut SocketSet<'static>) -> SocketHandle {
    let mut retries = RetryConfig::default();
    retries.discover_timeout = ASK_AGAIN;
    retries.initial_request_timeout = ASK_AGAIN;
    retries.request_retries = REQUESTS;
    let mut socket = Socket::new();
    socket.set_retry_config(retries);
    // Until it has a lease: smoltcp would ask again at once. Whom a server refuses asks again later anyhow.
    socket.set_ignore_naks(true);
    sockets.add(socket)
}

/// The address, if it is of use.
fn judged(config: &Config<'_>) -> Option<Address> {
    let (ours, prefix_bits) = (config.address.address(), config.address.prefix_len());
    let server = config.server.address;
    let leased = address(ours, prefix_bits, config.router).filter(|_| is_host(server));
    if leased.is_none() {
        warn!("DHCP server {server}: a lease of no use: {ours}/{prefix_bits}");
    }
    leased
}

/// The address, if a host can have it. A router that no host could reach is left out.
fn address(ours: Ipv4Addr, prefix_bits: u8, router: Option<Ipv4Addr>) -> Option<Address> {
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix_bits.into())?)?;
    let part = ours.to_bits() & !mask;
    // The first and the last address of a network are no host's, but where it has only one or two.
    let is_odd = prefix_bits < 31 && (part == 0 || part == !mask);
    let is_router = |router: &Ipv4Addr| {
        is_host(*router) && *router != ours && (router.to_bits() ^ ours.to_bits()) & mask == 0
    };
    (is_host(ours) && !is_odd).then(|| Address {
        ours: IpAddr::V4(ours),
        prefix_bits,
        gateway: router.filter(is_router).map(IpAddr::V4),
    })
}

fn is_host(address: Ipv4Addr) -> bool {
    // Networks 0 and 240 to 255 have no hosts (RFC 1122, RFC 1112).
    let network = address.octets()[0];
    network != 0 && network < 240 && !address.is_multicast() && !address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_a_hosts_address() {
        let router = Some(Ipv4Addr::new(10, 0, 0, 1));
        let of = |ours: [u8; 4], bits, router: Option<Ipv4Addr>| address(ours.into(), bits, router);
        let good = of([10, 0, 0, 7], 24, router).unwrap();
        assert_eq!((good.ours, good.prefix_bits), (Ipv4Addr::new(10, 0, 0, 7).into(), 24));
        assert_eq!(good.gateway, Some(Ipv4Addr::new(10, 0, 0, 1).into()));
        for (ours, bits) in
            [([10, 0, 0, 7], 32), ([10, 0, 0, 6], 31), ([10, 0, 0, 7], 31), ([10, 0, 0, 7], 1)]
        {
            assert!(of(ours, bits, None).is_some(), "{ours:?}/{bits}");
        }
        for (ours, bits) in [
            ([10, 0, 0, 7], 0),
            ([10, 0, 0, 7], 33),
            ([10, 0, 0, 7], 255),
            ([10, 0, 0, 0], 24),
            ([10, 0, 0, 255], 24),
            ([0, 0, 0, 7], 24),
            ([127, 0, 0, 7], 24),
            ([224, 0, 0, 7], 24),
            ([240, 0, 0, 7], 24),
            ([255, 255, 255, 255], 32),
        ] {
            assert!(of(ours, bits, None).is_none(), "{ours:?}/{bits}");
        }
        for router in [[10, 0, 0, 7], [10, 0, 1, 1], [0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 1]] {
            assert_eq!(of([10, 0, 0, 7], 24, Some(router.into())).unwrap().gateway, None, "{router:?}");
        }
    }
}
