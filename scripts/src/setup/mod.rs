//! Set-up: everything a clean Debian machine lacks, told before it is done, kept in a
//! cache, and found there by the next run within a second.

pub mod apt;
pub mod cache;
pub mod debian;
pub mod flask;
pub mod grant_kernel;
pub mod kconfig;
pub mod layout;
pub mod mirror;
pub mod modules;
pub mod packages;
pub mod release;
pub mod source;
pub mod tools;
pub mod u_boot;
pub mod userland;
pub mod xen;
pub mod xen_tools;

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::setup::apt::LazyApt;
use crate::setup::cache::Cache;
pub use crate::setup::release::XenVersion;
use crate::toolchain::{self, Toolchain};
use crate::ui;

/// What a QEMU run of one Xen version needs, all of it in the cache.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Which Xen this is.
    pub version: XenVersion,
    /// Xen's raw image.
    pub xen: PathBuf,
    /// Xen's full version.
    pub xen_version: String,
    /// The source of its FLASK policy.
    pub policy: PathBuf,
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
    /// One per Xen version, oldest first.
    pub fixtures: Vec<Fixture>,
    /// The versions that were left out.
    pub missing: Vec<Missing>,
}

/// A version that cannot be set up here and now, and why.
#[derive(Clone, Debug)]
pub struct Missing {
    /// Which Xen.
    pub version: XenVersion,
    /// One line, with the remedy.
    pub why: String,
}

/// Sets up packages, toolchain and the fixtures of `only`, or of every version that can be had.
///
/// # Errors
/// With the remedy, when a step fails.
pub fn ensure(only: Option<XenVersion>) -> Result<Ready> {
    packages::ensure()?;
    let toolchain = toolchain()?;
    let (fixtures, missing) = fixtures(only)?;
    Ok(Ready { toolchain, fixtures, missing })
}

/// Finds a way to compile for both targets, with Debian's compiler where there is no other.
///
/// # Errors
/// As [`toolchain::detect`].
pub fn toolchain() -> Result<Toolchain> {
    toolchain::detect(packages::install)
}

/// Makes or finds the fixtures of `only`, or of every version. One whose source the mirror
/// lacks is left out then, if another is there.
///
/// # Errors
/// With the remedy, when a step fails.
pub fn fixtures(only: Option<XenVersion>) -> Result<(Vec<Fixture>, Vec<Missing>)> {
    let cache = Cache::open()?;
    if let Some(version) = only {
        return Ok((vec![make(&cache, version)?], Vec::new()));
    }
    let (mut fixtures, mut missing) = (Vec::new(), Vec::new());
    for version in XenVersion::ALL {
        match make(&cache, version) {
            Ok(fixture) => fixtures.push(fixture),
            Err(error) => missing.push(left_out(version, error)?),
        }
    }
    ensure!(
        !fixtures.is_empty(),
        "{}",
        missing.iter().map(|m| m.why.as_str()).collect::<Vec<_>>().join("; ")
    );
    Ok((fixtures, missing))
}

/// Makes or finds the fixture of `only`, or of the newest version that Debian ships and that can
/// be had.
///
/// # Errors
/// With the remedy, when a step fails.
pub fn fixture(only: Option<XenVersion>) -> Result<Fixture> {
    let cache = Cache::open()?;
    let [oldest, newest] = XenVersion::PACKAGED;
    match make(&cache, only.unwrap_or(newest)) {
        Err(error) if only.is_none() => {
            let missing = left_out(newest, error)?;
            ui::heading(format!("{}\nGoing on with Xen {oldest}", missing.why));
            make(&cache, oldest)
        }
        made => made,
    }
}

/// Whether one can go on without this version.
fn left_out(version: XenVersion, error: anyhow::Error) -> Result<Missing> {
    let no_source = error.downcast::<xen::NoSource>()?;
    Ok(Missing { version, why: no_source.to_string() })
}

/// Makes or finds U-Boot, which one scenario boots.
///
/// # Errors
/// [`source::NoSource`], or with the remedy, when a step fails.
pub fn u_boot() -> Result<PathBuf> {
    u_boot::ensure(&Cache::open()?)
}

/// Makes or finds the Linux of guests that grant their pages, which some scenarios boot.
///
/// # Errors
/// [`source::NoSource`], or with the remedy, when a step fails.
pub fn grant_kernel() -> Result<PathBuf> {
    grant_kernel::ensure(&Cache::open()?)
}

/// Makes or finds the disk image of the tools that some scenarios use in a guest.
///
/// # Errors
/// With the remedy, when a step fails.
pub fn tools(version: XenVersion) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let apt = LazyApt::new(cache.root().join(format!("tmp-apt-tools-{version}")), version.suite());
    let userland = userland::ensure(&cache, &apt, version)?;
    tools::ensure(&cache, &apt, version, &userland)
}

/// Makes or finds the disk image of a small Debian's packages, of the suite that `version` has.
///
/// # Errors
/// With the remedy, when a step fails.
pub fn debian(version: XenVersion) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let apt = LazyApt::new(cache.root().join("tmp-apt-debian"), version.suite());
    debian::ensure(&cache, &apt, version)
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
        policy: flask::source(&xen),
        kernel_release: fs::read_to_string(userland.join("kernel"))?,
        kernel: userland.join("Image"),
        dom0_cpio: userland.join("dom0.cpio"),
        guest_cpio: userland.join("guest.cpio"),
    })
}
