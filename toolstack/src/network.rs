//! What dom0 needs for the stubs' network interfaces.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::command;
use crate::config::Config;
use crate::driver::Driver;
use crate::image::{Image, image};

/// Open vSwitch's own tool, by which Xen's script `vif-openvswitch` joins interfaces to its bridges.
const OVS_TOOL: &str = "ovs-vsctl";
/// Its database may be down.
const OVS_TIMEOUT: Duration = Duration::from_secs(1);

/// What a network interface's name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bridge {
    /// A bridge: Linux' own, or one of Open vSwitch.
    There,
    /// Another network interface.
    Other,
    /// Nothing.
    Absent,
}

impl Bridge {
    /// What dom0 has of that name.
    #[must_use]
    pub fn of(name: &str) -> Bridge {
        Bridge::below(Path::new("/"), name, has_ovs_bridge)
    }

    /// The same with sysfs below `root`, and a way to ask Open vSwitch.
    fn below(root: &Path, name: &str, is_ovs: impl Fn(&str) -> bool) -> Bridge {
        let interface = root.join("sys/class/net").join(name);
        if !interface.exists() {
            return Bridge::Absent;
        }
        // sysfs does not tell Open vSwitch's bridges from its other interfaces.
        if interface.join("bridge").is_dir() || is_ovs(name) { Bridge::There } else { Bridge::Other }
    }

    /// What is wrong with it, and the remedy; `None`: nothing.
    #[must_use]
    pub fn fault(self) -> Option<&'static str> {
        match self {
            Bridge::There => None,
            Bridge::Other => Some(
                "dom0 has a network interface of that name, but it is no bridge; remedy: change the key stub-bridge \
                 or the disk file's bridge",
            ),
            Bridge::Absent => Some(
                "dom0 has none of that name; remedy: make it, or change the key stub-bridge or the disk file's bridge",
            ),
        }
    }
}

/// Whether Open vSwitch has a bridge of that name.
fn has_ovs_bridge(name: &str) -> bool {
    let give_up = Instant::now() + OVS_TIMEOUT;
    let stop = || (Instant::now() >= give_up).then_some("no answer");
    // It fails where there is none, and where Open vSwitch is not installed.
    command::run(Path::new(OVS_TOOL), &["br-exists", name], stop).is_ok()
}

/// Whether a stub can get a network interface on that bridge, and has an image that makes use of it.
///
/// # Errors
/// What is missing, and the remedy.
pub fn check(config: &Config, bridge: &str) -> Result<()> {
    image(config, Image::Net)?;
    ensure!(
        Driver::of("vif") != Driver::Absent,
        "xen-netback is not loaded, and nothing would load it; remedy: modprobe xen-netback"
    );
    let fault = Bridge::of(bridge).fault();
    ensure!(fault.is_none(), "bridge = \"{bridge}\": {}", fault.unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_place_is_told_first() {
        let config = Config { stub_net_image: "/no/such".into(), ..Config::default_for_tests() };
        let error = format!("{:#}", check(&config, "lo").unwrap_err());
        assert!(error.starts_with("stub-net-image = \"/no/such\": install"), "{error}");
    }

    #[test]
    fn a_bridge_is_one_of_linux_or_of_open_vswitch() {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("sys/class/net");
        for interface in ["xenbr0/bridge", "eth0/queues", "lo", "ovsbr0"] {
            std::fs::create_dir_all(net.join(interface)).unwrap();
        }
        // A file of that name is no bridge's folder.
        std::fs::write(net.join("lo/bridge"), "").unwrap();
        // Open vSwitch names a bridge whose interface is gone.
        let is_ovs = |name: &str| ["ovsbr0", "ovsbr1"].contains(&name);
        let of = |name: &str| Bridge::below(root.path(), name, is_ovs);
        assert_eq!((of("xenbr0"), of("ovsbr0")), (Bridge::There, Bridge::There));
        assert_eq!((of("eth0"), of("lo")), (Bridge::Other, Bridge::Other));
        assert_eq!((of("none0"), of("ovsbr1")), (Bridge::Absent, Bridge::Absent));
        assert_eq!(Bridge::There.fault(), None);
        assert!(Bridge::Other.fault().unwrap().contains("no bridge"));
    }

    #[test]
    fn dom0_s_own_interfaces_are_found() {
        assert_eq!((Bridge::of("lo"), Bridge::of("none0")), (Bridge::Other, Bridge::Absent));
    }
}
