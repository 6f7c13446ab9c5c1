//! An export of an NBD server, and who the stub is on the network that leads there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::config::check_bridge;
use crate::disk::names::{LookUp, is_name};
use crate::text::printable;

/// The word for an address that is leased.
const DHCP: &str = "dhcp";
/// The port that IANA gave NBD.
const PORT: u16 = 10809;
/// The stub reads no longer name of an export.
const EXPORT_MAX: usize = 255;
/// What is written in another way in an export's name; the stub's command line knows no other characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'-');

/// An export: a disk that an NBD server offers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Export {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The name; empty: the server's default.
    pub name: String,
}

/// The stub's own network interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// Its address; `None`: a DHCP server leases one of IPv4.
    pub address: Option<Address>,
    /// dom0's bridge that it joins; `None`: as the configuration says.
    pub bridge: Option<String>,
    /// Bytes of the payload of a frame; `None`: as the configuration says.
    pub mtu: Option<u16>,
    /// The domain whose netback serves it and whose bridge it joins; `None`: dom0.
    pub backend: Option<String>,
}

/// An address that is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Address {
    /// The stub's own.
    pub ours: IpAddr,
    /// Bits of the address that name the network, 1 to 32, or 128 with IPv6.
    pub prefix_bits: u8,
    /// Who knows the way to other networks.
    pub gateway: Option<IpAddr>,
}

impl Export {
    /// Reads `nbd://HOST[:PORT][/EXPORT]`. A name of the host is looked up, for an address of the kind of `ours`.
    ///
    /// # Errors
    /// The rule that is broken, or why the name has no such address.
    pub fn parse(uri: &str, ours: IpAddr, look_up: LookUp<'_>) -> Result<Export> {
        if uri.starts_with("nbds://") {
            bail!("write nbd://, and tls-psk-file = \"...\" for TLS");
        }
        let rest = uri.strip_prefix("nbd://").context("must begin with nbd://")?;
        let (server, name) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(server)?;
        ensure!(!name.contains(['?', '#']), "`?` and `#` in an export's name are written as %3F and %23");
        let name = percent_decode_str(name).decode_utf8().context("the export's name")?.into_owned();
        ensure!(
            name.len() <= EXPORT_MAX && !name.contains('\0'),
            "an export's name has at most {EXPORT_MAX} bytes, none of them 0"
        );
        // Last: it may take a while.
        let address = match host {
            Host::Address(address) => address,
            Host::Name(name) => address_of_name(name, ours, look_up)?,
        };
        ensure!(is_host(address), "no host has that address");
        Ok(Export { server: SocketAddr::new(address, port), name })
    }

    /// As the stub's command line names it.
    #[must_use]
    pub fn word(&self) -> String {
        format!("nbd:{}/{}", self.server, utf8_percent_encode(&self.name, ENCODED))
    }
}

/// A host as a URI names it.
enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

/// Reads `HOST[:PORT]`. An IPv6 address stands in brackets.
fn host_and_port(server: &str) -> Result<(Host<'_>, u16)> {
    let (host, port) = if let Some(rest) = server.strip_prefix('[') {
        let (address, port) = rest.split_once(']').context("`[` has no `]`")?;
        let address = address.parse().ok().filter(IpAddr::is_ipv6);
        (Host::Address(address.context("what stands in brackets must be an IPv6 address")?), port)
    } else {
        let (host, port) = server.split_at(server.find(':').unwrap_or(server.len()));
        let host = match host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(host),
        };
        (host, port)
    };
    if let Host::Name(name) = host {
        ensure!(is_name(name), "its host must be an IPv4 address, an IPv6 address in brackets, or a name");
    }
    let number = |port: &str| port.parse().ok().filter(|port| *port > 0);
    let port = if port.is_empty() { Some(PORT) } else { port.strip_prefix(':').and_then(number) };
    Ok((host, port.context("its port must be 1 to 65535")?))
}

/// The first address of that name that is of the kind of `ours`.
fn address_of_name(name: &str, ours: IpAddr, look_up: LookUp<'_>) -> Result<IpAddr> {
    let found = look_up(name).with_context(|| format!("the name {name}"))?;
    let kind = if ours.is_ipv4() { "IPv4" } else { "IPv6" };
    let address = found.into_iter().find(|address| address.is_ipv4() == ours.is_ipv4());
    address.with_context(|| format!("the name {name} has no {kind} address, and the stub's is one"))
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nbd://{}/{}", self.server, utf8_percent_encode(&self.name, ENCODED))
    }
}

impl Network {
    /// Reads the keys of a disk file.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn parse(address: &str, gateway: Option<&str>, bridge: Option<String>) -> Result<Network> {
        let address = if address == DHCP {
            ensure!(gateway.is_none(), "gateway: address = \"{DHCP}\" has no such key: the lease names it");
            None
        } else {
            Some(Address::parse(address, gateway)?)
        };
        if let Some(bridge) = &bridge {
            check_bridge(bridge).with_context(|| shown("bridge", bridge))?;
        }
        Ok(Network { address, bridge, mtu: None, backend: None })
    }

    /// An address of the kind that the stub has.
    #[must_use]
    pub fn kind(&self) -> IpAddr {
        self.address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ours)
    }

    /// Sees to it that the stub finds the way to `server`, as far as that is known.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn check_way(&self, server: IpAddr) -> Result<()> {
        let Some(address) = &self.address else {
            ensure!(
                server.is_ipv4(),
                "address = \"{DHCP}\": is one of IPv4, and the server's is not, {server}"
            );
            return Ok(());
        };
        address.check_way(server)
    }
}

fn shown(key: &str, text: &str) -> String {
    format!("{key} = \"{}\"", printable(text, 60))
}

impl Address {
    fn parse(text: &str, gateway: Option<&str>) -> Result<Address> {
        let (ours, prefix_bits) = address_of(text).with_context(|| shown("address", text))?;
        let gateway = gateway.map(|text| {
            let gateway = text.parse().ok().filter(|gateway| is_host(*gateway));
            gateway.with_context(|| format!("{}: must be an IP address", shown("gateway", text)))
        });
        let address = Address { ours, prefix_bits, gateway: gateway.transpose()? };
        if let Some(gateway) = address.gateway {
            ensure!(
                gateway != ours && (address.holds(gateway) || address.has_on_link(gateway)),
                "gateway = \"{gateway}\": must be another host of the network of address = \"{text}\""
            );
        }
        Ok(address)
    }

    fn check_way(&self, server: IpAddr) -> Result<()> {
        let ours = format!("{}/{}", self.ours, self.prefix_bits);
        ensure!(
            server.is_ipv4() == self.ours.is_ipv4(),
            "address = \"{ours}\": must be of the same IP version as the server's, {server}"
        );
        ensure!(server != self.ours, "address = \"{ours}\": is the server's own");
        ensure!(
            self.gateway.is_some() || self.holds(server),
            "gateway: is needed, since {server} is not on the network of address = \"{ours}\""
        );
        Ok(())
    }

    /// Whether that address is on this network.
    fn holds(&self, other: IpAddr) -> bool {
        IpNet::new(self.ours, self.prefix_bits).is_ok_and(|network| network.contains(&other))
    }

    /// Whether that is the address of a router of IPv6 as its own network knows it (RFC 4861).
    fn has_on_link(&self, gateway: IpAddr) -> bool {
        self.ours.is_ipv6() && matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local())
    }
}

fn address_of(text: &str) -> Result<(IpAddr, u8)> {
    let rule =
        "must be the stub's address with the bits of its network, as in 10.0.0.6/24 or fd00::6/64, or dhcp";
    let (address, bits) = text.split_once('/').context(rule)?;
    let address: IpAddr = address.parse().ok().filter(|address| is_host(*address)).context(rule)?;
    let bits: u8 = bits.parse().ok().filter(|bits| *bits > 0).context(rule)?;
    let network = IpNet::new(address, bits).ok().context(rule)?;
    // The first and the last address of a network are not a host's, but where it has only one or two. Of IPv6 the first
    // is its routers'.
    let is_odd = address == network.network() || (address.is_ipv4() && address == network.broadcast());
    ensure!(!is_odd || network.max_prefix_len() - bits < 2, "is the network's own address, not a host's");
    Ok((address, bits))
}

fn is_host(address: IpAddr) -> bool {
    let is_odd = match address {
        IpAddr::V4(address) => address.is_broadcast(),
        // It stands for one of IPv4.
        IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
    };
    !(is_odd || address.is_unspecified() || address.is_multicast() || address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 6));

    fn parse(uri: &str) -> Result<Export> {
        Export::parse(uri, OURS, &|name| bail!("nobody was to ask for {name}"))
    }

    #[test]
    fn an_export_is_read_and_written_for_the_stub() {
        for (uri, word, shown) in [
            ("nbd://10.0.0.5:10809/guest-root", "nbd:10.0.0.5:10809/guest-root", None),
            ("nbd://10.0.0.5/a/b", "nbd:10.0.0.5:10809/a/b", Some("nbd://10.0.0.5:10809/a/b")),
            ("nbd://10.0.0.5", "nbd:10.0.0.5:10809/", Some("nbd://10.0.0.5:10809/")),
            ("nbd://10.0.0.5:1/", "nbd:10.0.0.5:1/", None),
            ("nbd://[fd00::1]:10810/x", "nbd:[fd00::1]:10810/x", None),
            ("nbd://[fd00:0::1]/x", "nbd:[fd00::1]:10809/x", Some("nbd://[fd00::1]:10809/x")),
            (
                "nbd://10.0.0.5/a b,c=%25%20%e4%B8%80",
                "nbd:10.0.0.5:10809/a%20b%2Cc%3D%25%20%E4%B8%80",
                Some("nbd://10.0.0.5:10809/a%20b%2Cc%3D%25%20%E4%B8%80"),
            ),
        ] {
            let export = parse(uri).unwrap();
            assert_eq!(export.word(), word);
            assert_eq!(export.to_string(), shown.unwrap_or(uri));
            assert_eq!(parse(&export.to_string()).unwrap(), export);
        }
    }

    #[test]
    fn what_is_no_export_is_told_why() {
        let long = format!("nbd://10.0.0.5/{}", "x".repeat(256));
        for (uri, why) in [
            ("10.0.0.5:10809", "nbd://"),
            ("nbds://10.0.0.5/x", "tls-psk-file"),
            ("nbd+unix:///x?socket=/s", "nbd://"),
            ("nbd://[fd00::1/x", "has no `]`"),
            ("nbd://[10.0.0.5]/x", "in brackets must be an IPv6 address"),
            ("nbd://[fe80::1%eth0]/x", "in brackets must be an IPv6 address"),
            ("nbd://[fd00::1]10809/x", "port"),
            ("nbd://fd00::1/x", "port"),
            ("nbd:///x", "or a name"),
            ("nbd://st ore/x", "or a name"),
            ("nbd://-store/x", "or a name"),
            ("nbd://[::1]/x", "no host"),
            ("nbd://[ff02::1]/x", "no host"),
            ("nbd://[::ffff:10.0.0.5]/x", "no host"),
            ("nbd://store/x", "the name store: nobody was to ask for store"),
            ("nbd://10.0.0.5:0/x", "port"),
            ("nbd://10.0.0.5:65536/x", "port"),
            ("nbd://0.0.0.0/x", "no host"),
            ("nbd://127.0.0.1/x", "no host"),
            ("nbd://224.0.0.1/x", "no host"),
            ("nbd://10.0.0.5/x?tls=1", "%3F"),
            ("nbd://10.0.0.5/%ff", "name"),
            ("nbd://10.0.0.5/%00", "none of them 0"),
            (long.as_str(), "255"),
        ] {
            let error = format!("{:#}", parse(uri).unwrap_err());
            assert!(error.contains(why), "{uri}: {error}");
        }
    }

    #[test]
    fn a_name_is_the_first_address_of_the_right_kind() {
        let answers =
            ["fe80::5", "fd00::5", "10.0.0.5", "10.0.0.9"].map(|text| text.parse::<IpAddr>().unwrap());
        let of = |ours: &str, count: usize| {
            let look_up = |name: &str| {
                assert_eq!(name, "store.example");
                Ok(answers[..count].to_vec())
            };
            Export::parse("nbd://store.example:10810/x", ours.parse().unwrap(), &look_up)
        };
        assert_eq!(of("10.0.0.6", 4).unwrap().word(), "nbd:10.0.0.5:10810/x");
        assert_eq!(of("fd00::6", 4).unwrap().word(), "nbd:[fe80::5]:10810/x");
        let error = format!("{:#}", of("10.0.0.6", 2).unwrap_err());
        assert_eq!(error, "the name store.example has no IPv4 address, and the stub's is one");
        let nowhere = |_: &str| Ok(vec!["127.0.0.1".parse().unwrap()]);
        let error = Export::parse("nbd://store/x", OURS, &nowhere).unwrap_err().to_string();
        assert_eq!(error, "no host has that address");
    }

    fn network(address: &str, gateway: Option<&str>, server: impl Into<IpAddr>) -> Result<Network> {
        let network = Network::parse(address, gateway, None)?;
        network.check_way(server.into())?;
        Ok(network)
    }

    #[test]
    fn a_stub_may_have_an_address_of_ipv6() {
        let server: IpAddr = "fd00::5".parse().unwrap();
        assert_eq!(network("fd00::6/64", None, server).unwrap().address.unwrap().prefix_bits, 64);
        network("fd01::6/64", Some("fe80::1"), server).unwrap();
        network("fd01::6/64", Some("fd01::1"), server).unwrap();
        network("fd00::4/127", None, server).unwrap();
        for (address, gateway, why) in [
            ("fd00::6/0", None, "must be"),
            ("fd00::6/129", None, "must be"),
            ("::1/64", None, "must be"),
            ("ff02::1/64", None, "must be"),
            ("::ffff:10.0.0.6/64", None, "must be"),
            ("fd00::/64", None, "the network's own"),
            ("fd00::5/64", None, "the server's own"),
            ("fd01::6/64", None, "gateway: is needed, since fd00::5"),
            ("fd00::6/64", Some("fd01::1"), "another host"),
            ("fd00::6/64", Some("10.0.0.1"), "another host"),
            ("10.0.0.6/24", None, "same IP version as the server's, fd00::5"),
            ("10.0.0.6/24", Some("10.0.0.1"), "same IP version"),
            ("10.0.0.6/24", Some("fe80::1"), "another host"),
        ] {
            let error = format!("{:#}", network(address, gateway, server).unwrap_err());
            assert!(error.contains(why), "{address}: {error}");
        }
    }

    #[test]
    fn a_stub_finds_the_way_to_its_server() {
        let near = network("10.0.0.6/24", None, [10, 0, 0, 5]).unwrap().address.unwrap();
        assert_eq!((near.ours, near.prefix_bits), (OURS, 24));
        assert_eq!(near.gateway, None);
        let far = network("10.0.0.6/24", Some("10.0.0.1"), [10, 9, 0, 5]).unwrap().address.unwrap();
        assert_eq!(far.gateway, Some("10.0.0.1".parse().unwrap()));
        network("10.0.0.6/1", None, [100, 0, 0, 5]).unwrap();
        network("10.0.0.6/31", None, [10, 0, 0, 7]).unwrap();
    }

    #[test]
    fn an_address_may_be_leased() {
        let leased = network("dhcp", None, [10, 0, 0, 5]).unwrap();
        assert_eq!((leased.address, leased.kind().is_ipv4()), (None, true));
        let why = |gateway, server: &str| {
            let server: IpAddr = server.parse().unwrap();
            network("dhcp", gateway, server).unwrap_err().to_string()
        };
        assert_eq!(
            why(Some("10.0.0.1"), "10.0.0.5"),
            "gateway: address = \"dhcp\" has no such key: the lease names it"
        );
        assert_eq!(
            why(None, "fd00::5"),
            "address = \"dhcp\": is one of IPv4, and the server's is not, fd00::5"
        );
        assert!(network("DHCP", None, [10, 0, 0, 5]).is_err());
    }

    #[test]
    fn a_network_that_cannot_be_is_told_why() {
        let server = [10, 0, 0, 5];
        for (address, gateway, why) in [
            ("10.0.0.6", None, "address = \"10.0.0.6\": must be"),
            ("10.0.0.6/0", None, "must be"),
            ("10.0.0.6/33", None, "must be"),
            ("10.0.0.x/24", None, "must be"),
            ("127.0.0.1/8", None, "must be"),
            ("10.0.0.0/24", None, "the network's own"),
            ("10.0.0.255/24", None, "the network's own"),
            ("10.0.0.5/24", None, "the server's own"),
            ("10.0.1.6/24", None, "gateway: is needed, since 10.0.0.5"),
            ("10.0.0.6/32", None, "gateway: is needed"),
            ("10.0.0.6/24", Some("10.0.0.6"), "another host"),
            ("10.0.0.6/24", Some("10.0.1.1"), "another host"),
            ("10.0.0.6/24", Some("router"), "gateway = \"router\": must be"),
        ] {
            let error = format!("{:#}", network(address, gateway, server).unwrap_err());
            assert!(error.contains(why), "{address}: {error}");
        }
        for bridge in ["", "a,b", "sixteen-letters-", "br 0", "../x/y"] {
            let done = Network::parse("10.0.0.6/24", None, Some(bridge.to_owned()));
            let error = format!("{:#}", done.unwrap_err());
            assert!(error.starts_with("bridge = \"") && error.contains("name of a bridge"), "{error}");
        }
    }
}
