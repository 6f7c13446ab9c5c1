//! The network interface of a stub with NBD disks: one, however many disks there are.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::disk::disk_file::DiskStorage;
use crate::disk::in_use::Exists;
use crate::disk::nbd::{Address, Network};
use crate::disk::target::Disk;
use crate::host::{Claim, Host};
use crate::xenstore::{Store, paths};

/// The first bytes of its MAC address; those of its IPv4 address follow, or a hash of its IPv6 address. Locally
/// administered, so no vendor's.
const MAC_PREFIX: [u8; 2] = [0x02, 0x50];
const MAC_PREFIX_V6: [u8; 2] = [0x02, 0x56];
/// The same if the address is leased; a hash of what the stub is for follows.
const MAC_PREFIX_DHCP: [u8; 2] = [0x02, 0x44];

/// A stub's network interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    network: Network,
    /// dom0's bridge that it joins.
    pub bridge: String,
    /// Its MTU in bytes; 0: the bridge's.
    mtu: u16,
    mac: [u8; 6],
}

impl Interface {
    /// The interface that the disks need; `None`: none of them needs one. `guest`: the guest's name.
    ///
    /// # Errors
    /// Two of them need different ones.
    pub fn of(config: &Config, guest: &str, disks: &[Disk]) -> Result<Option<Interface>> {
        let mut found: Option<(&Disk, Interface)> = None;
        for disk in disks {
            let DiskStorage::Nbd { network, export, .. } = &disk.storage else { continue };
            let bridge = network.bridge.clone().unwrap_or_else(|| config.stub_bridge.clone());
            let mtu = network.mtu.unwrap_or(config.stub_mtu);
            let mac = match &network.address {
                Some(address) => mac_of(address.ours),
                None => mac_of_stub(guest, disk.node.disk, &export.name),
            };
            let interface = Interface { network: network.clone(), bridge, mtu, mac };
            match &found {
                None => found = Some((disk, interface)),
                Some((first, other)) => ensure!(
                    interface.agrees(other),
                    "disk {}: {}: must say the same address, gateway, bridge, mtu and network-backend as disk {}: a stub \
                     has one network interface",
                    disk.node.label(),
                    disk.node.target,
                    first.node.label()
                ),
            }
        }
        Ok(found.map(|(_, interface)| interface))
    }

    fn agrees(&self, other: &Interface) -> bool {
        let (ours, theirs) = (&self.network, &other.network);
        (ours.address, self.mtu) == (theirs.address, other.mtu)
            && (&self.bridge, &ours.backend) == (&other.bridge, &theirs.backend)
    }

    /// Whether a domain has a network interface in dom0 with the same address, other than `own`: the stub
    /// that this interface is for, once there is one. Of a leased address it is the MAC address.
    ///
    /// # Errors
    /// One line that names it.
    pub fn check_alone(&self, store: &dyn Store, exists: Exists<'_>, own: Option<u16>) -> Result<()> {
        let address = self.network.address.map(|address| address.ours);
        for domain in store.list(paths::VIFS)? {
            // xenstore may still name an interface of a domain that Xen no longer has.
            if !domain.parse().is_ok_and(|domid| own != Some(domid) && exists(domid)) {
                continue;
            }
            for vif in store.list(&format!("{}/{domain}", paths::VIFS))? {
                let read = |key: &str| store.read(&format!("{}/{domain}/{vif}/{key}", paths::VIFS));
                // Of IPv6 it is the MAC address that tells a stub.
                let has_mac = read("mac")?.is_some_and(|mac| mac.eq_ignore_ascii_case(&self.mac()));
                if has_mac || read("ip")?.zip(address).is_some_and(|(listed, ours)| names(&listed, ours)) {
                    bail!("{}: domain {domain} has it already", self.label());
                }
            }
        }
        Ok(())
    }

    /// Takes the address for a stub that is being made: until its domain is there, xenstore does not name it.
    ///
    /// # Errors
    /// Another stub that is being made has it.
    pub fn claim(&self, host: &dyn Host) -> Result<Claim> {
        let address = self.network.address.map_or_else(|| self.mac(), |address| address.ours.to_string());
        host.claim(&address)?.with_context(|| {
            format!("{}: the stub of another guest that is being started has it already", self.label())
        })
    }

    /// Its address, as an error names it.
    fn label(&self) -> String {
        match self.network.address {
            Some(address) => format!("address = \"{}\"", address.ours),
            None => format!("address = \"dhcp\": MAC address {}", self.mac()),
        }
    }

    /// The word of the stub's command line.
    #[must_use]
    pub fn word(&self) -> String {
        let Some(Address { ours, prefix_bits, gateway }) = self.network.address else {
            return "net=dhcp".to_owned();
        };
        let gateway = gateway.map_or(String::new(), |gateway| format!(",gateway={gateway}"));
        format!("net=ip={ours}/{prefix_bits}{gateway}")
    }

    /// The interface as xl writes one. The address is for scripts that keep others' addresses from a domain.
    #[must_use]
    pub fn vif(&self) -> String {
        // xl's script hands the address to iptables, which knows none of IPv6.
        let ip = match self.network.address {
            Some(Address { ours, .. }) if ours.is_ipv4() => format!(",ip={ours}"),
            _ => String::new(),
        };
        let mtu = if self.mtu == 0 { String::new() } else { format!(",mtu={}", self.mtu) };
        let backend = self.network.backend.as_ref().map_or(String::new(), |name| format!(",backend={name}"));
        format!("mac={},bridge={}{ip}{mtu}{backend}", self.mac(), self.bridge)
    }

    /// Whether dom0 has the other end, and can see whether there is all that it needs.
    #[must_use]
    pub fn is_dom0s(&self) -> bool {
        self.network.backend.is_none()
    }

    fn mac(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// The MAC address of who has that IP address.
fn mac_of(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(address) => joined(MAC_PREFIX, address.octets()),
        IpAddr::V6(address) => joined(MAC_PREFIX_V6, hash(&address.octets())),
    }
}

/// The MAC address by which a DHCP server knows a stub again: that of the next start is the same.
fn mac_of_stub(guest: &str, disk: u32, export: &str) -> [u8; 6] {
    joined(MAC_PREFIX_DHCP, hash(format!("{guest}\0{disk}\0{export}").as_bytes()))
}

fn joined([x, y]: [u8; 2], [a, b, c, d]: [u8; 4]) -> [u8; 6] {
    [x, y, a, b, c, d]
}

fn hash(bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(bytes));
    [a, b, c, d]
}

/// Whether a list of addresses and networks, as xl takes it, holds that address.
fn names(list: &str, address: IpAddr) -> bool {
    list.split_whitespace()
        .any(|item| item.split('/').next().and_then(|item| item.parse().ok()) == Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::nbd::Export;
    use crate::disk::node::DiskNode;
    use crate::fake::World;

    fn disk(number: u32, address: &str, gateway: Option<&str>, bridge: Option<&str>) -> Disk {
        let network = Network::parse(address, gateway, bridge.map(str::to_owned)).unwrap();
        let server = if network.kind().is_ipv4() { "nbd://10.0.0.5/x" } else { "nbd://[fd00::5]/x" };
        let export = Export::parse(server, network.kind(), &|_| bail!("no names")).unwrap();
        let node = DiskNode { disk: number, name: "xvd".to_owned(), ..DiskNode::default() };
        let storage = DiskStorage::Nbd { export, network, tls: None };
        Disk { node, storage, serial: None, backend_timeout_ms: None }
    }

    fn of(disks: &[Disk]) -> Result<Option<Interface>> {
        Interface::of(&Config::default_for_tests(), "web", disks)
    }

    #[test]
    fn the_interface_is_the_one_that_all_disks_name() {
        let ram = Disk { storage: DiskStorage::Ram(4096), ..disk(1, "10.0.0.6/24", None, None) };
        assert_eq!(of(std::slice::from_ref(&ram)).unwrap(), None);
        let first = disk(2, "10.0.0.6/24", None, None);
        let same = disk(3, "10.0.0.6/24", None, Some("xenbr0"));
        let interface = of(&[ram, first.clone(), same]).unwrap().unwrap();
        assert_eq!(interface.word(), "net=ip=10.0.0.6/24");
        assert_eq!(interface.vif(), "mac=02:50:0a:00:00:06,bridge=xenbr0,ip=10.0.0.6");
        let mut foreign = disk(2, "10.0.0.6/24", None, None);
        if let DiskStorage::Nbd { network, .. } = &mut foreign.storage {
            network.backend = Some("net-1".to_owned());
        }
        let elsewhere = of(std::slice::from_ref(&foreign)).unwrap().unwrap();
        assert_eq!(elsewhere.vif(), "mac=02:50:0a:00:00:06,bridge=xenbr0,ip=10.0.0.6,backend=net-1");
        assert!(interface.is_dom0s() && !elsewhere.is_dom0s());
        assert!(of(&[first.clone(), foreign]).unwrap_err().to_string().contains("network-backend"));
        let routed = of(&[disk(2, "10.0.0.6/16", Some("10.0.0.1"), Some("br1"))]).unwrap().unwrap();
        assert_eq!(routed.word(), "net=ip=10.0.0.6/16,gateway=10.0.0.1");
        assert_eq!(routed.bridge, "br1");
        let mtu = |mut disk: Disk, mtu| {
            let DiskStorage::Nbd { network, .. } = &mut disk.storage else { panic!() };
            network.mtu = Some(mtu);
            disk
        };
        let jumbo = of(&[mtu(first.clone(), 9000)]).unwrap().unwrap();
        assert_eq!(jumbo.vif(), "mac=02:50:0a:00:00:06,bridge=xenbr0,ip=10.0.0.6,mtu=9000");
        let config = Config { stub_mtu: 9000, ..Config::default_for_tests() };
        assert_eq!(
            Interface::of(&config, "web", std::slice::from_ref(&first)).unwrap(),
            Some(Interface {
                network: {
                    let DiskStorage::Nbd { network, .. } = &first.storage else { panic!() };
                    network.clone()
                },
                ..jumbo.clone()
            })
        );
        for other in [
            disk(3, "10.0.0.7/24", None, None),
            disk(3, "10.0.0.6/16", None, None),
            disk(3, "10.0.0.6/24", Some("10.0.0.1"), None),
            disk(3, "10.0.0.6/24", None, Some("br1")),
            mtu(disk(3, "10.0.0.6/24", None, None), 1500),
        ] {
            let error = of(&[first.clone(), other]).unwrap_err().to_string();
            assert!(error.starts_with("disk xvd (3): ") && error.contains("as disk xvd (2)"), "{error}");
        }
    }

    #[test]
    fn an_address_of_ipv6_is_of_one_domain_as_well() {
        let interface = of(&[disk(2, "fd00::6/64", Some("fe80::1"), None)]).unwrap().unwrap();
        assert_eq!(interface.word(), "net=ip=fd00::6/64,gateway=fe80::1");
        let mac = interface.mac();
        assert_eq!(interface.vif(), format!("mac={mac},bridge=xenbr0"));
        assert!(mac.starts_with("02:56:") && mac.len() == 17, "{mac}");
        let other = of(&[disk(2, "fd00::7/64", None, None)]).unwrap().unwrap();
        assert_ne!(other.mac(), mac);
        let world = World::new();
        let check = |interface: &Interface| interface.check_alone(&world.store(), &|_| true, None);
        world.set("/local/domain/0/backend/vif/7/0/mac", &mac.to_uppercase());
        let error = check(&interface).unwrap_err().to_string();
        assert_eq!(error, "address = \"fd00::6\": domain 7 has it already");
        check(&other).unwrap();
        world.set("/local/domain/0/backend/vif/7/0/ip", "10.0.0.6 fd00:0::7");
        assert!(check(&other).is_err(), "whichever way it is written");
    }

    #[test]
    fn a_stub_whose_address_is_leased_has_its_mac_address_for_good() {
        let config = Config::default_for_tests();
        let of = |guest: &str, number: u32| {
            let disks = [disk(number, "dhcp", None, None), disk(number + 1, "dhcp", None, None)];
            Interface::of(&config, guest, &disks).unwrap().unwrap()
        };
        let interface = of("web", 2);
        assert_eq!(interface.word(), "net=dhcp");
        let mac = interface.mac();
        assert!(mac.starts_with("02:44:") && mac.len() == 17, "{mac}");
        assert_eq!(interface.vif(), format!("mac={mac},bridge=xenbr0"));
        assert_eq!(of("web", 2).mac(), mac);
        assert!(of("db", 2).mac() != mac && of("web", 3).mac() != mac);
        let world = World::new();
        world.set("/local/domain/0/backend/vif/7/0/ip", "0.0.0.0 10.0.0.6");
        let check = || interface.check_alone(&world.store(), &|_| true, None);
        check().unwrap();
        world.set("/local/domain/0/backend/vif/7/0/mac", &mac);
        let error = check().unwrap_err().to_string();
        assert_eq!(error, format!("address = \"dhcp\": MAC address {mac}: domain 7 has it already"));
        let mixed = [disk(2, "dhcp", None, None), disk(3, "10.0.0.6/24", None, None)];
        assert!(super::Interface::of(&config, "web", &mixed).is_err());
    }

    #[test]
    fn an_address_is_of_one_domain_that_lives() {
        let interface = of(&[disk(2, "10.0.0.6/24", None, None)]).unwrap().unwrap();
        let world = World::new();
        let check = |alive: bool| interface.check_alone(&world.store(), &|_| alive, None);
        check(true).unwrap();
        world.set("/local/domain/0/backend/vif/7/0/mac", "x");
        world.set("/local/domain/0/backend/vif/7/1/ip", "10.0.0.60 10.0.1.6");
        check(true).unwrap();
        for addresses in ["10.0.0.6", "10.0.0.9 10.0.0.6/24"] {
            world.set("/local/domain/0/backend/vif/7/1/ip", addresses);
            let error = check(true).unwrap_err().to_string();
            assert_eq!(error, "address = \"10.0.0.6\": domain 7 has it already");
            check(false).unwrap();
            // A stub's own interface is no other.
            interface.check_alone(&world.store(), &|_| true, Some(7)).unwrap();
            assert!(interface.check_alone(&world.store(), &|_| true, Some(8)).is_err());
        }
    }
}
