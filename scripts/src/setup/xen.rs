//! Xen for arm64, cross-built from Debian's source package.
//!
//! No distribution builds Xen on Arm with `IOREQ_SERVER`, which a device model outside
//! dom0 needs; the other two options only make that one visible.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::setup::apt::{LazyApt, NotOnMirror};
use crate::setup::cache::Cache;
use crate::setup::mirror;
use crate::setup::release::XenVersion;
use crate::ui;

/// Options on top of Xen's `defconfig`.
const CONFIG: &str = "\
CONFIG_EXPERT=y
CONFIG_UNSUPPORTED=y
CONFIG_IOREQ_SERVER=y
CONFIG_XSM=y
CONFIG_XSM_FLASK=y
# CONFIG_XSM_FLASK_POLICY is not set
";

const RECIPE: &str = "aarch64-linux-gnu defconfig, upstream tarball of the Debian source";

/// Disk space for the unpacked source and its objects, in MiB.
const NEED_MIB: u64 = 700;

/// The cross compiler's prefix.
const CROSS: &str = "aarch64-linux-gnu-";

/// The cache's folder for tarballs that the mirror lacks.
const SOURCES: &str = "sources";

/// Neither the mirror nor the user has the source of this Xen.
#[derive(Debug)]
pub struct NoSource {
    /// Which Xen.
    pub version: XenVersion,
    own: PathBuf,
    missing: NotOnMirror,
}

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, own, missing } = self;
        write!(
            f,
            "no source of Xen {version}: {missing}; set {} to another mirror, put Xen's release tarball \
             (xen-{version}.N.tar.gz) into {}, or try again later",
            mirror::MIRROR_ENV,
            own.display()
        )
    }
}

impl std::error::Error for NoSource {}

/// Returns the cache entry of `version`: `xen` (the raw image), `xen.config`, `version`.
///
/// # Errors
/// [`NoSource`] when the source cannot be had from a mirror that works; others when the
/// mirror or the build fails.
pub fn ensure(cache: &Cache, apt: &LazyApt, version: XenVersion) -> Result<PathBuf> {
    let name = format!("xen-{version}");
    let recipe = format!("{RECIPE}\n{}\n{CONFIG}", version.suite());
    cache.entry(&name, &recipe, NEED_MIB, |dir| {
        let work = dir.join("work");
        let (tarball, full) = source(&cache.root().join(SOURCES), apt, version)?;
        ensure!(
            full.starts_with(version.as_str()),
            "the source of Xen {version} was asked for, {full} arrived"
        );
        ui::step(format!("Xen {version}: build {full} for arm64"), |step| build(&work, &tarball, dir, step))?;
        fs::write(dir.join("version"), &full)?;
        fs::remove_dir_all(&work)?;
        Ok(())
    })
}

/// The tarball of Xen's source and its version: the mirror's, or else one that the user put
/// into the folder `own`.
fn source(own: &Path, apt: &LazyApt, version: XenVersion) -> Result<(PathBuf, String)> {
    let step = format!("Xen {version}: download the source");
    let missing = match ui::step(step, |_| apt.get()?.download_source("xen")) {
        Ok(found) => return Ok(found),
        Err(error) => error.downcast::<NotOnMirror>()?,
    };
    if let Some((tarball, full)) = own_tarball(own, version) {
        ui::heading(format!("{missing}: taking {}", tarball.display()));
        return Ok((tarball, full));
    }
    Err(NoSource { version, own: own.to_owned(), missing }.into())
}

/// The newest `xen-<version>*.tar.*` in `folder`, and its version.
fn own_tarball(folder: &Path, version: XenVersion) -> Option<(PathBuf, String)> {
    let found = fs::read_dir(folder).ok()?.flatten().filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let full = name.strip_prefix("xen-")?.split_once(".tar.")?.0.to_owned();
        let right = full.strip_prefix(version.as_str())?.starts_with('.');
        right.then(|| (file.path(), full))
    });
    found.max_by(|a, b| a.1.cmp(&b.1))
}

fn build(work: &Path, tarball: &Path, out: &Path, step: &ui::Step) -> Result<()> {
    let log = out.join("build.log");
    let source = work.join("source");
    fs::create_dir_all(&source)?;
    step.say("unpack");
    process::run_logged(
        Command::new("tar").arg("-xf").arg(tarball).arg("--strip-components=1").arg("-C").arg(&source),
        &log,
    )?;
    let make = |target: &str| {
        let mut command = Command::new("make");
        command
            .arg("-C")
            .arg(source.join("xen"))
            .args(["XEN_TARGET_ARCH=arm64", &format!("CROSS_COMPILE={CROSS}")])
            .arg(target)
            // A compiler newer than this Xen warns of what Xen's authors never saw.
            .env("EXTRA_CFLAGS_XEN_CORE", "-Wno-error")
            // Cargo's own job server is not make's.
            .env_remove("MAKEFLAGS")
            .env_remove("CARGO_MAKEFLAGS");
        command
    };
    step.say("configure");
    process::run_logged(&mut make("defconfig"), &log)?;
    let config = source.join("xen/.config");
    let defaults = fs::read_to_string(&config)?;
    fs::write(&config, format!("{defaults}{CONFIG}"))?;
    process::run_logged(&mut make("olddefconfig"), &log)?;
    let resolved = fs::read_to_string(&config)?;
    ensure!(
        resolved.lines().any(|line| line == "CONFIG_IOREQ_SERVER=y"),
        "Xen's configuration refused CONFIG_IOREQ_SERVER"
    );
    step.say("compile");
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    process::run_logged(make("build").arg(format!("-j{jobs}")), &log)?;
    fs::copy(source.join("xen/xen"), out.join("xen")).context("the build left no image")?;
    fs::copy(&config, out.join("xen.config"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_tarball_of_the_right_version_is_taken() -> Result<()> {
        let dir = tempfile::tempdir()?;
        assert_eq!(own_tarball(&dir.path().join("none"), XenVersion::V4_20), None);
        for name in
            ["xen-4.17.5.tar.gz", "xen-4.20.1.tar.gz", "xen-4.20.4.tar.xz", "xen-4.200.tar.gz", "notes"]
        {
            fs::write(dir.path().join(name), "")?;
        }
        let expected = (dir.path().join("xen-4.20.4.tar.xz"), "4.20.4".to_owned());
        assert_eq!(own_tarball(dir.path(), XenVersion::V4_20), Some(expected));
        Ok(())
    }
}
