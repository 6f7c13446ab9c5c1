//! An export of an NBD server, and who the stub is on the network that leads there.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail, ensure};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::config::check_bridge;
use crate::text::printable;

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
    pub server: SocketAddrV4,
    /// The name; empty: the server's default.
    pub name: String,
}

/// The stub's own network interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// Its address.
    pub address: Ipv4Addr,
    /// Bits of the address that name the network, 1 to 32.
    pub prefix_bits: u8,
    /// Who knows the way to other networks.
    pub gateway: Option<Ipv4Addr>,
    /// dom0's bridge that it joins; `None`: as the configuration says.
    pub bridge: Option<String>,
    /// Bytes of the payload of a frame; `None`: as the configuration says.
    pub mtu: Option<u16>,
}

impl Export {
    /// Reads `nbd://ADDRESS[:PORT][/EXPORT]`.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn parse(uri: &str) -> Result<Export> {
        if uri.starts_with("nbds://") {
            bail!("TLS is not supported: write nbd:// and use a network that nobody else reaches");
        }
        let rest = uri.strip_prefix("nbd://").context("must begin with nbd://")?;
        let (server, name) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(!server.starts_with('['), "IPv6 is not supported");
        let (host, port) = match server.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
            None => (server, Some(PORT)),
        };
        let port = port.context("its port must be 1 to 65535")?;
        let address = host.parse().map_err(|_| {
            anyhow::Error::msg("its host must be an IPv4 address: a stub does not look names up")
        })?;
        ensure!(is_host(address), "no host has that address");
        ensure!(!name.contains(['?', '#']), "`?` and `#` in an export's name are written as %3F and %23");
        let name = percent_decode_str(name).decode_utf8().context("the export's name")?.into_owned();
        ensure!(
            name.len() <= EXPORT_MAX && !name.contains('\0'),
            "an export's name has at most {EXPORT_MAX} bytes, none of them 0"
        );
        Ok(Export { server: SocketAddrV4::new(address, port), name })
    }

    /// As the stub's command line names it.
    #[must_use]
    pub fn word(&self) -> String {
        format!("nbd:{}/{}", self.server, utf8_percent_encode(&self.name, ENCODED))
    }
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nbd://{}/{}", self.server, utf8_percent_encode(&self.name, ENCODED))
    }
}

impl Network {
    /// Reads the keys of a disk file, and sees to it that the stub finds the way to `server`.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn parse(
        address: &str,
        gateway: Option<&str>,
        bridge: Option<String>,
        server: Ipv4Addr,
    ) -> Result<Network> {
        let shown = |key: &str, text: &str| format!("{key} = \"{}\"", printable(text, 60));
        let (ours, prefix_bits) = address_of(address).with_context(|| shown("address", address))?;
        let gateway = gateway.map(|text| {
            let gateway = text.parse().ok().filter(|gateway| is_host(*gateway));
            gateway.with_context(|| format!("{}: must be an IPv4 address", shown("gateway", text)))
        });
        let network =
            Network { address: ours, prefix_bits, gateway: gateway.transpose()?, bridge, mtu: None };
        if let Some(gateway) = network.gateway {
            ensure!(
                gateway != ours && network.holds(gateway),
                "gateway = \"{gateway}\": must be another host of the network of address = \"{address}\""
            );
        }
        ensure!(server != ours, "address = \"{address}\": is the server's own");
        ensure!(
            network.gateway.is_some() || network.holds(server),
            "gateway: is needed, since {server} is not on the network of address = \"{address}\""
        );
        if let Some(bridge) = &network.bridge {
            check_bridge(bridge).with_context(|| shown("bridge", bridge))?;
        }
        Ok(network)
    }

    /// Whether that address is on this network.
    fn holds(&self, other: Ipv4Addr) -> bool {
        let host_bits = 32 - u32::from(self.prefix_bits);
        let network = |address: Ipv4Addr| u64::from(address.to_bits()) >> host_bits;
        network(self.address) == network(other)
    }
}

fn address_of(text: &str) -> Result<(Ipv4Addr, u8)> {
    let rule = "must be the stub's IPv4 address with the bits of its network, as in 10.0.0.6/24";
    let (address, bits) = text.split_once('/').context(rule)?;
    let address: Ipv4Addr = address.parse().ok().filter(|address| is_host(*address)).context(rule)?;
    let bits: u8 = bits.parse().ok().filter(|bits| (1..=32).contains(bits)).context(rule)?;
    // The first and the last address of a network are not a host's, but where it has only one or two.
    let hosts = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
    let place = address.to_bits() & hosts;
    ensure!(bits >= 31 || (place != 0 && place != hosts), "is the network's own address, not a host's");
    Ok((address, bits))
}

fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_read_and_written_for_the_stub() {
        for (uri, word, shown) in [
            ("nbd://10.0.0.5:10809/guest-root", "nbd:10.0.0.5:10809/guest-root", None),
            ("nbd://10.0.0.5/a/b", "nbd:10.0.0.5:10809/a/b", Some("nbd://10.0.0.5:10809/a/b")),
            ("nbd://10.0.0.5", "nbd:10.0.0.5:10809/", Some("nbd://10.0.0.5:10809/")),
            ("nbd://10.0.0.5:1/", "nbd:10.0.0.5:1/", None),
            (
                "nbd://10.0.0.5/a b,c=%25%20%e4%B8%80",
                "nbd:10.0.0.5:10809/a%20b%2Cc%3D%25%20%E4%B8%80",
                Some("nbd://10.0.0.5:10809/a%20b%2Cc%3D%25%20%E4%B8%80"),
            ),
        ] {
            let export = Export::parse(uri).unwrap();
            assert_eq!(export.word(), word);
            assert_eq!(export.to_string(), shown.unwrap_or(uri));
            assert_eq!(Export::parse(&export.to_string()).unwrap(), export);
        }
    }

    #[test]
    fn what_is_no_export_is_told_why() {
        let long = format!("nbd://10.0.0.5/{}", "x".repeat(256));
        for (uri, why) in [
            ("10.0.0.5:10809", "nbd://"),
            ("nbds://10.0.0.5/x", "TLS"),
            ("nbd+unix:///x?socket=/s", "nbd://"),
            ("nbd://[fd00::1]/x", "IPv6"),
            ("nbd://store/x", "does not look names up"),
            ("nbd:///x", "IPv4 address"),
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
            let error = format!("{:#}", Export::parse(uri).unwrap_err());
            assert!(error.contains(why), "{uri}: {error}");
        }
    }

    fn network(address: &str, gateway: Option<&str>, server: [u8; 4]) -> Result<Network> {
        Network::parse(address, gateway, None, server.into())
    }

    #[test]
    fn a_stub_finds_the_way_to_its_server() {
        let near = network("10.0.0.6/24", None, [10, 0, 0, 5]).unwrap();
        assert_eq!((near.address, near.prefix_bits), (Ipv4Addr::new(10, 0, 0, 6), 24));
        assert_eq!(near.gateway, None);
        let far = network("10.0.0.6/24", Some("10.0.0.1"), [10, 9, 0, 5]).unwrap();
        assert_eq!(far.gateway, Some(Ipv4Addr::new(10, 0, 0, 1)));
        network("10.0.0.6/1", None, [100, 0, 0, 5]).unwrap();
        network("10.0.0.6/31", None, [10, 0, 0, 7]).unwrap();
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
            let done = Network::parse("10.0.0.6/24", None, Some(bridge.to_owned()), server.into());
            let error = format!("{:#}", done.unwrap_err());
            assert!(error.starts_with("bridge = \"") && error.contains("name of a bridge"), "{error}");
        }
    }
}
