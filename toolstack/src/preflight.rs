//! What must be so before the daemon can work, each with its remedy.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xen_privcmd::Privcmd;

use crate::config::Config;
use crate::xl::{XlHost, find_xl};

/// libxl keeps its locks here, and without it no domain can be destroyed.
const XEN_RUN_DIR: &str = "/var/run/xen";
/// xl's own configuration.
const XL_CONF: &str = "/etc/xen/xl.conf";

/// Checks what can be checked, makes the directories needed, and opens the way to Xen.
///
/// # Errors
/// What is missing, and the remedy.
pub fn run(config: &Config) -> Result<XlHost> {
    let privcmd = Privcmd::open().context(
        "no way to Xen: pilotfishd must run as root in dom0, with the kernel module xen-privcmd loaded",
    )?;
    log::debug!("domctl interface version {:#x}", privcmd.interface_version());
    let image = &config.stub_image;
    let readable = std::fs::File::open(image).and_then(|f| f.metadata());
    let bytes = readable
        .with_context(|| {
            format!("stub-image = \"{}\": install the stub's image there, or change the key", image.display())
        })?
        .len();
    log::debug!("stub image {}: {bytes} bytes", image.display());
    for dir in [Path::new(XEN_RUN_DIR), &config.run_dir] {
        std::fs::create_dir_all(dir).with_context(|| format!("make directory {}", dir.display()))?;
    }
    let xl = find_xl(&config.xl)?;
    log::debug!("xl: {}", xl.display());
    let host = XlHost::new(config, xl, privcmd);
    check_autoballoon(&host);
    Ok(host)
}

/// With autoballoon, `xl create` of a guest holds a lock that our own `xl create` of its stub
/// waits for.
fn check_autoballoon(host: &XlHost) {
    let give_up = Instant::now() + Duration::from_secs(10);
    let info = host.run(&["info"], || (Instant::now() >= give_up).then_some("no answer"));
    let info = info.unwrap_or_else(|e| {
        log::warn!("{e:#}");
        String::new()
    });
    let commandline = info.lines().find_map(|l| l.strip_prefix("xen_commandline")).unwrap_or_default();
    let conf = std::fs::read_to_string(XL_CONF).unwrap_or_default();
    if autoballoons(&conf, commandline) {
        log::error!(
            "xl's autoballoon is on: `xl create` of a guest will wait for its stub, and that for the guest, \
             until libxl gives up. Remedy: boot Xen with dom0_mem=..., or set autoballoon=\"off\" in {XL_CONF}"
        );
    }
}

/// Whether xl balloons dom0, by its configuration and Xen's command line (xl.conf(5)).
fn autoballoons(conf: &str, xen_commandline: &str) -> bool {
    let setting = conf.lines().rev().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "autoballoon").then(|| value.trim().trim_matches(['"', '\'']).to_owned())
    });
    match setting.as_deref() {
        Some("off" | "0") => false,
        Some("on" | "1") => true,
        _ => !xen_commandline.split_whitespace().any(|word| word.starts_with("dom0_mem=")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn autoballoon_is_off_by_xl_conf_or_by_dom0_mem() {
        let with = ": console=dtuart dom0_mem=1024M loglvl=all";
        assert!(!autoballoons("", with));
        assert!(!autoballoons("autoballoon=\"auto\"\n", with));
        assert!(!autoballoons("# autoballoon=\"on\"\nautoballoon=\"off\"\n", ": console=dtuart"));
        assert!(!autoballoons("autoballoon=0", ""));
        assert!(autoballoons("", ": console=dtuart"));
        assert!(autoballoons("#autoballoon=\"off\"", ""));
        assert!(autoballoons("autoballoon = \"on\"", with));
    }
}
