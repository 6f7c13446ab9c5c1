//! Drivers of dom0's kernel that serve other domains.

use std::fs;
use std::path::Path;

/// What is known of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Driver {
    /// It is there.
    Loaded,
    /// udev loads it when a device wants it.
    OnDemand,
    /// Neither.
    Absent,
}

impl Driver {
    /// The driver for devices of that kind: `vbd` or `vif`.
    #[must_use]
    pub fn of(kind: &str) -> Driver {
        if Path::new("/sys/bus/xen-backend/drivers").join(kind).exists() {
            return Driver::Loaded;
        }
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let aliases = fs::read_to_string(format!("/lib/modules/{}/modules.alias", release.trim()));
        // udev loads a driver by its alias, if it runs.
        let known = aliases.is_ok_and(|text| text.contains(&format!("xen-backend:{kind}")));
        if known && Path::new("/run/udev/control").exists() { Driver::OnDemand } else { Driver::Absent }
    }
}
