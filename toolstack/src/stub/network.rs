//! The network interface of a stub with NBD disks: one, however many disks there are.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};

use crate::config::Config;
use crate::disk::disk_file::DiskStorage;
use crate::disk::in_use::Exists;
use crate::disk::nbd::Network;
use crate::disk::target::Disk;
use crate::host::{Claim, Host};
use crate::xenstore::{Store, paths};

/// The first bytes of its MAC address, those of its IPv4 address follow. Locally administered, so no vendor's.
const MAC_PREFIX: [u8; 2] = [0x02, 0x50];

/// A stub's network interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    network: Network,
    /// dom0's bridge that it joins.
    pub bridge: String,
    /// Its MTU in bytes; 0: the bridge's.
    mtu: u16,
}

impl Interface {
    /// The interface that the disks need; `None`: none of them needs one.
    ///
    /// # Errors
    /// Two of them need different ones.
    pub fn of(config: &Config, disks: &[Disk]) -> Result<Option<Interface>> {
        let mut found: Option<(&Disk, Interface)> = None;
        for disk in disks {
            let DiskStorage::Nbd { network, .. } = &disk.storage else { continue };
            let bridge = network.bridge.clone().unwrap_or_else(|| config.stub_bridge.clone());
            let mtu = network.mtu.unwrap_or(config.stub_mtu);
            let interface = Interface { network: network.clone(), bridge, mtu };
            match &found {
                None => found = Some((disk, interface)),
                Some((first, other)) => ensure!(
                    interface.agrees(other),
                    "disk {}: {}: must say the same address, gateway, bridge and mtu as disk {}: a stub has one \
                     network interface",
                    disk.node.label(),
                    disk.node.target,
                    first.node.label()
                ),
            }
        }
        Ok(found.map(|(_, interface)| interface))
    }

    fn agrees(&self, other: &Interface) -> bool {
        let parts = |of: &Interface| (of.network.address, of.network.prefix_bits, of.network.gateway);
        parts(self) == parts(other) && self.bridge == other.bridge && self.mtu == other.mtu
    }

    /// Whether a domain has a network interface in dom0 with the same address, other than `own`: the stub
    /// that this interface is for, once there is one.
    ///
    /// # Errors
    /// One line that names it.
    pub fn check_alone(&self, store: &dyn Store, exists: Exists<'_>, own: Option<u16>) -> Result<()> {
        let address = self.network.address;
        for domain in store.list(paths::VIFS)? {
            // xenstore may still name an interface of a domain that Xen no longer has.
            if !domain.parse().is_ok_and(|domid| own != Some(domid) && exists(domid)) {
                continue;
            }
            for vif in store.list(&format!("{}/{domain}", paths::VIFS))? {
                let addresses = store.read(&format!("{}/{domain}/{vif}/ip", paths::VIFS))?;
                if addresses.is_some_and(|addresses| names(&addresses, address)) {
                    bail!("address = \"{address}\": domain {domain} has it already");
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
        let address = self.network.address;
        host.claim(&address.to_string())?.with_context(|| {
            format!("address = \"{address}\": the stub of another guest that is being started has it already")
        })
    }

    /// The word of the stub's command line.
    #[must_use]
    pub fn word(&self) -> String {
        let Network { address, prefix_bits, gateway, .. } = self.network;
        let gateway = gateway.map_or(String::new(), |gateway| format!(",gateway={gateway}"));
        format!("net=ip={address}/{prefix_bits}{gateway}")
    }

    /// The interface as xl writes one. The address is for scripts that keep others' addresses from a domain.
    #[must_use]
    pub fn vif(&self) -> String {
        let [a, b, c, d] = self.network.address.octets();
        let [x, y] = MAC_PREFIX;
        let mac = [x, y, a, b, c, d].map(|byte| format!("{byte:02x}")).join(":");
        let mtu = if self.mtu == 0 { String::new() } else { format!(",mtu={}", self.mtu) };
        format!("mac={mac},bridge={},ip={}{mtu}", self.bridge, self.network.address)
    }
}

/// Whether a list of addresses and networks, as xl takes it, holds that address.
fn names(list: &str, address: Ipv4Addr) -> bool {
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
        let export = Export::parse("nbd://10.0.0.5/x").unwrap();
        let bridge = bridge.map(str::to_owned);
        let network = Network::parse(address, gateway, bridge, *export.server.ip()).unwrap();
        let node = DiskNode { disk: number, name: "xvd".to_owned(), ..DiskNode::default() };
        let storage = DiskStorage::Nbd { export, network };
        Disk { node, storage, serial: None, backend_timeout_ms: None }
    }

    fn of(disks: &[Disk]) -> Result<Option<Interface>> {
        Interface::of(&Config::default_for_tests(), disks)
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
            Interface::of(&config, std::slice::from_ref(&first)).unwrap(),
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
