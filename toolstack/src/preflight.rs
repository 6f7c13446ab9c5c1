//! What the daemon cannot work without, with the remedy for each. [`check`](crate::check) has what else
//! a host needs.

use std::path::Path;

use anyhow::{Context, Result};
use xen_privcmd::Privcmd;

use crate::config::Config;
use crate::image::{Image, image};
use crate::xl::{XlHost, find_xl};

/// libxl keeps its locks here, and without it no domain can be destroyed.
pub const XEN_RUN_DIR: &str = "/var/run/xen";

/// Checks what can be checked, makes the directories needed, and opens the way to Xen.
///
/// # Errors
/// What is missing, and the remedy.
pub fn run(config: &Config) -> Result<XlHost> {
    let privcmd = open_xen()?;
    log::debug!("domctl interface version {:#x}", privcmd.interface_version());
    log::debug!("stub image {}: {} bytes", config.stub_image.display(), image(config, Image::Usual)?);
    for dir in [Path::new(XEN_RUN_DIR), &config.run_dir] {
        std::fs::create_dir_all(dir).with_context(|| format!("make directory {}", dir.display()))?;
    }
    let xl = find_xl(&config.xl)?;
    log::debug!("xl: {}", xl.display());
    Ok(XlHost::new(config, xl, privcmd))
}

/// Opens the way to Xen.
///
/// # Errors
/// Not dom0, not root, or no kernel module.
pub fn open_xen() -> Result<Privcmd> {
    Privcmd::open().context(
        "no way to Xen: pilotfishd must run as root in dom0, with the kernel module xen-privcmd loaded",
    )
}
