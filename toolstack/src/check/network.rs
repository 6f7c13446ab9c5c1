//! What NBD disks need of this host: an image with a network, and a bridge for it.

use super::found::{Found, Verdict, ok, warning};
use crate::config::Config;
use crate::driver::Driver;
use crate::image::{Image, image};
use crate::network::Bridge;

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
    /// What dom0 has of that name.
    pub found: Bridge,
}

impl Network {
    /// Finds out what there is.
    pub fn of(config: &Config) -> Network {
        Network {
            wanted: config.stub_net_image.exists(),
            image: image(config, Image::Net).map_err(|e| format!("{e:#}")),
            netback: Driver::of("vif"),
            bridge: config.stub_bridge.clone(),
            found: Bridge::of(&config.stub_bridge),
        }
    }
}

/// The host can do without NBD disks, so it says nothing against one that has none of it.
pub fn judge(found: &Network) -> Verdict {
    let Network { wanted, image, netback, bridge, found } = found;
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
    if let Some(fault) = found.fault() {
        missing.push(format!("stub-bridge = \"{bridge}\": {fault}"));
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
        let good = Network {
            wanted: true,
            image: Ok(300_000),
            netback: Driver::OnDemand,
            bridge,
            found: Bridge::There,
        };
        assert_eq!(judge(&good), ok("300000 bytes of image, bridge xenbr0"));
        for (bad, words) in [
            (Network { image: Err(missing.clone()), ..good.clone() }, "install"),
            (Network { netback: Driver::Absent, ..good.clone() }, "modprobe xen-netback"),
            (
                Network { found: Bridge::Absent, ..good.clone() },
                "\"xenbr0\": dom0 has none of that name; remedy",
            ),
            (Network { found: Bridge::Other, ..good.clone() }, "it is no bridge; remedy"),
        ] {
            let (level, text) = judge(&bad);
            assert!(level == Level::Warning && text.contains(words) && text.contains("Only disks"), "{text}");
        }
        let none = Network { wanted: false, image: Err(missing), netback: Driver::Absent, ..good };
        assert_eq!(judge(&none).0, Level::Ok);
    }
}
