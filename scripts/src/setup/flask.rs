//! The source of Xen's own FLASK policy, which our modules are compiled with: its classes and macros
//! differ between versions of Xen.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::setup::apt::LazyApt;
use crate::setup::cache::Cache;
use crate::setup::release::XenVersion;
use crate::setup::xen;
use crate::ui;

/// What `tools/flask/policy/Makefile.common` reads, and nothing else of Xen.
const PARTS: [&str; 2] = ["tools/flask/policy", "xen/xsm/flask/policy"];

/// Disk space for the tarball, in MiB.
const NEED_MIB: u64 = 50;

/// Returns the cache entry of `version`, a tree with the parts of Xen's source that its policy is.
///
/// # Errors
/// As [`xen::tarball`]; or the tarball is damaged.
pub fn ensure(cache: &Cache, apt: &LazyApt, version: XenVersion) -> Result<PathBuf> {
    let own = if version.is_packaged() { None } else { Some(xen::release(cache, version)?) };
    let from = own.as_ref().map_or(version.suite(), |(_, full)| full);
    let recipe = format!("{from} {PARTS:?}");
    cache.entry(&format!("flask-{version}"), &recipe, NEED_MIB, |dir| {
        let (tarball, full) = xen::tarball(cache, apt, version)?;
        ui::step(format!("Xen {version}: unpack the FLASK policy of {full}"), |_| unpack(&tarball, dir))
    })
}

fn unpack(tarball: &Path, to: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(tarball).arg("--strip-components=1").arg("-C").arg(to).arg("--wildcards");
    // The tarball's top folder has the full version in its name.
    tar.args(PARTS.map(|part| format!("*/{part}")));
    process::run_logged(&mut tar, &to.join("unpack.log"))
}
