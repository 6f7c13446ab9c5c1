//! What NBD disks need of this host: an image with a network, and a bridge for it.

use super::found::{Found, Verdict, ok, warning};
use crate::config::Config;
use crate::driver::Driver;
use crate::image::{Image, image};
use crate::network::{BRIDGE_REMEDY, is_interface};

/// What there is for the stubs' network interfaces.
#[derive(Clone, Debug)]
pub struct Network {
    /// Whether there is anything at the place of the image for NBD disks.
    pub wanted: bool,
    /// The image's length.
    pub image: Found<u64>,
    /// xen-netback.
    pub netback: Driver,
    /// The name of the usual bridge.
    pub bridge: String,
    /// Whether dom0 has it.
    pub has_bridge: bool,
}

impl Network {
    /// Finds out what there is.
    pub fn of(config: &Config) -> Network {
        Network {
            wanted: config.stub_net_image.exists(),
            image: image(config, Image::Net).map_err(|e| format!("{e:#}")),
            netback: Driver::of("vif"),
            bridge: config.stub_bridge.clone(),
            has_bridge: is_interface(&config.stub_bridge),
        }
    }
}

/// The host can do without NBD disks, so it says nothing against one that has none of it.
pub fn judge(found: &Network) -> Verdict {
    let Network { wanted, image, netback, bridge, has_bridge } = found;
    if !wanted {
        return ok("not set up: the stub's image with a network is not installed (stub-net-image)");
    }
    let mut missing = Vec::new();
    missing.extend(image.as_ref().err().cloned());
    if *netback == Driver::Absent {
        missing.push(
            "xen-netback is not loaded, and nothing would load it; remedy: modprobe xen-netback, and a line in \
             /etc/modules-load.d"
                .to_owned(),
        );
    }
    if !has_bridge {
        missing.push(format!("there is no bridge {bridge}; {BRIDGE_REMEDY}"));
    }
    if missing.is_empty() {
        return ok(format!("{} bytes of image, bridge {bridge}", image.as_ref().unwrap_or(&0)));
    }
    warning(format!("{}. Only disks with storage = \"nbd\" need that", missing.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::super::line::Level;
    use super::*;

    #[test]
    fn a_host_that_wants_nbd_disks_is_told_what_it_lacks() {
        let (bridge, missing) = ("xenbr0".to_owned(), "stub-net-image = \"/x\": install".to_owned());
        let good =
            Network { wanted: true, image: Ok(300_000), netback: Driver::OnDemand, bridge, has_bridge: true };
        assert_eq!(judge(&good), ok("300000 bytes of image, bridge xenbr0"));
        for (bad, words) in [
            (Network { image: Err(missing.clone()), ..good.clone() }, "install"),
            (Network { netback: Driver::Absent, ..good.clone() }, "modprobe xen-netback"),
            (Network { has_bridge: false, ..good.clone() }, "no bridge xenbr0; remedy"),
        ] {
            let (level, text) = judge(&bad);
            assert!(level == Level::Warning && text.contains(words) && text.contains("Only disks"), "{text}");
        }
        let none = Network { wanted: false, image: Err(missing), netback: Driver::Absent, ..good };
        assert_eq!(judge(&none).0, Level::Ok);
    }
}
