//! The stub's network, and the NBD servers on it.

use super::values::{Rule, decimal};
use super::{Config, ConfigError, DiskConfig, Store, of_disk, once, split};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// Bytes of an export's name at most.
pub const EXPORT_MAX_BYTES: usize = 255;
const ADDRESS_RULE: Rule = "not the address of a host";
const NAME_RULE: Rule = "the export's name is not 0 to 255 bytes of UTF-8 text, with %XX for what is not in \
     [A-Za-z0-9._~/-]";

/// Where the stub's address comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Net {
    /// It is given.
    Given(NetConfig),
    /// A DHCP server leases one of IPv4.
    Leased,
}

/// Who the stub is on its network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NetConfig {
    /// Its own address.
    pub ours: IpAddr,
    /// Bits of it that name the network, 1 to 32, or 128 with IPv6.
    pub prefix_bits: u8,
    /// Who knows the way to other networks.
    pub gateway: Option<IpAddr>,
}

/// An export of an NBD server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NbdStore {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The export's name, at most [`EXPORT_MAX_BYTES`]; empty: the server's default.
    pub export: String,
}

impl Net {
    /// Reads `dhcp`, or what [`NetConfig`] says.
    pub(crate) fn parse(text: &str) -> Result<Net, ConfigError> {
        if text == "dhcp" { Ok(Net::Leased) } else { NetConfig::parse(text).map(Net::Given) }
    }
}

impl NetConfig {
    /// Reads `ip=<address>/<prefix>[,gateway=<address>]`.
    fn parse(text: &str) -> Result<NetConfig, ConfigError> {
        let (mut ip, mut gateway) = (None, None);
        for item in text.split(',') {
            let (key, value) =
                split(item).map_err(|error| ConfigError { key: format!("net.{}", error.key), ..error })?;
            let full = format!("net.{key}");
            match key {
                "ip" => once(&mut ip, &full, value, ip_and_prefix(value))?,
                "gateway" => once(&mut gateway, &full, value, host(value))?,
                _ => return Err(ConfigError::new(&full, value, "unknown key")),
            }
        }
        let (ours, prefix_bits) = ip.ok_or_else(|| ConfigError::new("net.ip", "", "is missing"))?;
        let net = NetConfig { ours, prefix_bits, gateway };
        match gateway {
            Some(gateway) if gateway == ours || !(net.is_near(gateway) || net.is_of_link(gateway)) => {
                let rule = "not another host of the network that net.ip names";
                Err(ConfigError::new("net.gateway", &gateway.to_string(), rule))
            }
            _ => Ok(net),
        }
    }

    /// Whether that address is on our network.
    #[must_use]
    pub fn is_near(&self, other: IpAddr) -> bool {
        let same_bits = match (self.ours, other) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => (ours.to_bits() ^ other.to_bits()).leading_zeros(),
            (IpAddr::V6(ours), IpAddr::V6(other)) => (ours.to_bits() ^ other.to_bits()).leading_zeros(),
            _ => return false,
        };
        same_bits >= self.prefix_bits.into()
    }

    /// Whether that is the address of a router of IPv6 as its own network knows it (RFC 4861).
    fn is_of_link(&self, gateway: IpAddr) -> bool {
        self.ours.is_ipv6() && matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local())
    }
}

impl Config {
    /// A network is there if a disk needs it, and leads to each server.
    pub(crate) fn check_network(&self) -> Result<(), ConfigError> {
        for (place, disk) in self.disks.iter().enumerate() {
            if disk.tls && !matches!(disk.store, Store::Nbd(_)) {
                return Err(ConfigError::new(&of_disk(place, "tls"), "on", "only an NBD disk has TLS"));
            }
            let Store::Nbd(NbdStore { server, .. }) = &disk.store else { continue };
            let Some(net) = &self.net else {
                return Err(ConfigError::new("net", "", "is missing, and an NBD disk needs it"));
            };
            let has_way = match net {
                Net::Given(net) => {
                    let has_gateway = net.gateway.is_some() && net.ours.is_ipv4() == server.is_ipv4();
                    has_gateway || net.is_near(server.ip())
                }
                // The rest is known when there is a lease.
                Net::Leased => server.is_ipv4(),
            };
            if !has_way {
                let rule = "no route: not on the network that net names, and no gateway leads there";
                return Err(ConfigError::new(&of_disk(place, "store"), &format!("nbd:{server}"), rule));
            }
        }
        Ok(())
    }
}

impl DiskConfig {
    /// Whether it needs a key.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls
    }
}

fn ip_and_prefix(text: &str) -> Result<(IpAddr, u8), Rule> {
    let (ip, prefix) = text.split_once('/').ok_or("not of the form <address>/<prefix>")?;
    let ip = host(ip)?;
    let (most, rule) = match ip {
        IpAddr::V4(_) => (32u8, "not a prefix of 1 to 32"),
        IpAddr::V6(_) => (128, "not a prefix of 1 to 128"),
    };
    let prefix = decimal(prefix).filter(|bits| (1..=most).contains(bits)).ok_or(rule)?;
    Ok((ip, prefix))
}

fn host(text: &str) -> Result<IpAddr, Rule> {
    let ip: IpAddr = text.parse().map_err(|_| ADDRESS_RULE)?;
    let is_odd = match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        // It stands for one of IPv4.
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    };
    if is_odd || ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        Err(ADDRESS_RULE)
    } else {
        Ok(ip)
    }
}

/// What follows `nbd:`.
pub(crate) fn store(text: &str) -> Result<Store, Rule> {
    let (server, export) = text.split_once('/').ok_or("nbd: needs <address>:<port>/<export>")?;
    let (ip, port) = server.rsplit_once(':').ok_or("nbd: needs <address>:<port>/<export>")?;
    let port = decimal(port).filter(|&port| port > 0).ok_or("nbd: not a port from 1 to 65535")?;
    let export = name(export).filter(|name| name.len() <= EXPORT_MAX_BYTES).ok_or(NAME_RULE)?;
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    let ip = host(bare.unwrap_or(ip))?;
    if ip.is_ipv6() != bare.is_some() {
        return Err("nbd: an IPv6 address stands in brackets, and no other");
    }
    Ok(Store::Nbd(NbdStore { server: SocketAddr::new(ip, port), export }))
}

/// Undoes the percent-encoding.
fn name(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
                (high << 4) | low
            }
            byte if byte.is_ascii_alphanumeric() || b"._~/-".contains(&byte) => byte,
            _ => return None,
        });
    }
    String::from_utf8(bytes).ok().filter(|name| !name.contains('\0'))
}
