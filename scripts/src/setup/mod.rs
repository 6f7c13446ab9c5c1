//! Set-up: everything a clean Debian machine lacks, told before it is done, kept in a
//! cache, and found there by the next run within a second.

pub mod apt;
pub mod cache;
pub mod mirror;
pub mod modules;
pub mod packages;
pub mod release;
pub mod userland;
pub mod xen;

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::setup::apt::LazyApt;
use crate::setup::cache::Cache;
pub use crate::setup::release::XenVersion;
use crate::toolchain::{self, Toolchain};

/// What a QEMU run of one Xen version needs, all of it in the cache.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Which Xen this is.
    pub version: XenVersion,
    /// Xen's raw image.
    pub xen: PathBuf,
    /// Xen's full version.
    pub xen_version: String,
    /// The unmodified Debian kernel of dom0 and guests.
    pub kernel: PathBuf,
    /// Its release, as `uname -r` says it.
    pub kernel_release: String,
    /// The fixed part of dom0's initramfs.
    pub dom0_cpio: PathBuf,
    /// The fixed part of the guests' initramfs.
    pub guest_cpio: PathBuf,
}

/// Everything set up.
#[derive(Clone, Debug)]
pub struct Ready {
    /// How to build for the stub and for dom0.
    pub toolchain: Toolchain,
    /// One per requested Xen version, in the order asked for.
    pub fixtures: Vec<Fixture>,
}

/// Sets up packages, toolchain and the fixtures of `versions`.
///
/// # Errors
/// With the remedy, when a step fails.
pub fn ensure(versions: &[XenVersion]) -> Result<Ready> {
    packages::ensure()?;
    let toolchain = toolchain::detect()?;
    let fixtures = fixtures(versions)?;
    Ok(Ready { toolchain, fixtures })
}

/// Makes or finds the fixtures of `versions` in the cache.
///
/// # Errors
/// With the remedy, when a step fails.
pub fn fixtures(versions: &[XenVersion]) -> Result<Vec<Fixture>> {
    let cache = Cache::open()?;
    versions.iter().map(|&version| make(&cache, version)).collect()
}

/// Makes or finds the fixture of one version in the cache.
///
/// # Errors
/// With the remedy, when a step fails.
pub fn fixture(version: XenVersion) -> Result<Fixture> {
    make(&Cache::open()?, version)
}

fn make(cache: &Cache, version: XenVersion) -> Result<Fixture> {
    let state = cache.root().join(format!("tmp-apt-{version}"));
    let apt = LazyApt::new(state, version.suite());
    let xen = xen::ensure(cache, &apt, version)?;
    let userland = userland::ensure(cache, &apt, version)?;
    Ok(Fixture {
        version,
        xen_version: fs::read_to_string(xen.join("version"))?,
        xen: xen.join("xen"),
        kernel_release: fs::read_to_string(userland.join("kernel"))?,
        kernel: userland.join("Image"),
        dom0_cpio: userland.join("dom0.cpio"),
        guest_cpio: userland.join("guest.cpio"),
    })
}
