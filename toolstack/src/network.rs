//! What dom0 needs for the stubs' network interfaces.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::config::Config;
use crate::driver::Driver;
use crate::image::{Image, image};

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
    ensure!(is_interface(bridge), "bridge = \"{bridge}\": dom0 has none of that name; {BRIDGE_REMEDY}");
    Ok(())
}

/// What to do where a bridge is missing.
pub const BRIDGE_REMEDY: &str = "remedy: make it, or change the key stub-bridge or the disk file's bridge";

/// Whether dom0 has a network interface of that name.
#[must_use]
pub fn is_interface(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
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
    fn a_network_interface_is_known_by_its_name() {
        assert!(is_interface("lo") && !is_interface("none0"));
    }
}
