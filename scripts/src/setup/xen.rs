//! Xen for arm64, cross-built from Debian's source package, or from Xen's release tarball of a
//! version that Debian does not ship.
//!
//! No distribution builds Xen on Arm with `IOREQ_SERVER`, which a device model outside
//! dom0 needs; the next two options only make that one visible. Xen's own FLASK policy is built in:
//! what QEMU's loader puts into memory, Xen does not take for a policy.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::setup::apt::{LazyApt, NotOnMirror};
use crate::setup::cache::Cache;
use crate::setup::flask;
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
CONFIG_XSM_FLASK_POLICY=y
";

const RECIPE: &str = "aarch64-linux-gnu defconfig, upstream tarball of the Debian source";

/// Disk space for the unpacked source and its objects, in MiB.
const NEED_MIB: u64 = 700;

/// The cross compiler's prefix.
pub const CROSS: &str = "aarch64-linux-gnu-";

/// The cache's folder for tarballs that the mirror lacks.
pub const SOURCES: &str = "sources";

/// Neither the mirror nor the user has the source of this Xen.
#[derive(Debug)]
pub struct NoSource {
    /// Which Xen.
    pub version: XenVersion,
    own: PathBuf,
    /// What the mirror lacks, of a version that Debian ships.
    missing: Option<NotOnMirror>,
}

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, own, missing } = self;
        let tarball = format!("put Xen's release tarball (xen-{version}.N.tar.gz) into {}", own.display());
        match missing {
            Some(missing) => write!(
                f,
                "no source of Xen {version}: {missing}; set {} to another mirror, {tarball}, or try again later",
                mirror::MIRROR_ENV,
            ),
            None => write!(f, "no source of Xen {version}, which Debian does not ship: {tarball}"),
        }
    }
}

impl std::error::Error for NoSource {}

/// Returns the cache entry of `version`: `xen` (the raw image), `xen.config`, `version`, and the source of
/// its FLASK policy ([`flask::source`]).
///
/// # Errors
/// [`NoSource`] when the source cannot be had from a mirror that works; others when the
/// mirror or the build fails.
pub fn ensure(cache: &Cache, apt: &LazyApt, version: XenVersion) -> Result<PathBuf> {
    let name = format!("xen-{version}");
    let own = if version.is_packaged() { None } else { Some(release(cache, version)?) };
    let from = own.as_ref().map_or(version.suite(), |(_, full)| full);
    let recipe = format!("{RECIPE}\n{from}\n{CONFIG}");
    cache.entry(&name, &recipe, NEED_MIB, |dir| {
        let work = dir.join("work");
        let (tarball, full) = match own {
            Some(own) => own,
            None => source(cache, apt, version)?,
        };
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

/// Xen's release tarball of a version that Debian does not ship, and its full version.
///
/// # Errors
/// [`NoSource`] when the user has put none into the cache.
pub fn release(cache: &Cache, version: XenVersion) -> Result<(PathBuf, String)> {
    let own = cache.root().join(SOURCES);
    own_tarball(&own, "xen", &format!("{version}."))
        .ok_or_else(|| NoSource { version, own, missing: None }.into())
}

/// The tarball of Xen's source and its version: the mirror's, or else one that the user put
/// into the cache.
fn source(cache: &Cache, apt: &LazyApt, version: XenVersion) -> Result<(PathBuf, String)> {
    let own = cache.root().join(SOURCES);
    let step = format!("Xen {version}: download the source");
    let missing = match ui::step(step, |_| apt.get()?.download_source("xen")) {
        Ok(found) => return Ok(found),
        Err(error) => error.downcast::<NotOnMirror>()?,
    };
    if let Some((tarball, full)) = own_tarball(&own, "xen", &format!("{version}.")) {
        ui::heading(format!("{missing}: taking {}", tarball.display()));
        return Ok((tarball, full));
    }
    Err(NoSource { version, own, missing: Some(missing) }.into())
}

/// The newest `<name>-<start>*.tar.*` in `folder`, and its version.
#[must_use]
pub fn own_tarball(folder: &Path, name: &str, start: &str) -> Option<(PathBuf, String)> {
    let found = fs::read_dir(folder).ok()?.flatten().filter_map(|file| {
        let file_name = file.file_name().into_string().ok()?;
        let full = file_name.strip_prefix(name)?.strip_prefix('-')?.split_once(".tar.")?.0.to_owned();
        full.starts_with(start).then(|| (file.path(), full))
    });
    found.max_by(|a, b| a.1.cmp(&b.1))
}

fn build(work: &Path, tarball: &Path, out: &Path, step: &ui::Step) -> Result<()> {
    let log = out.join("build.log");
    let source = work.join("source");
    step.say("unpack");
    unpack(tarball, &source, &log)?;
    let make = |target: &str| {
        let mut command = make(&source.join("xen"), target);
        // A compiler newer than this Xen warns of what Xen's authors never saw.
        command.env("EXTRA_CFLAGS_XEN_CORE", "-Wno-error");
        command
    };
    step.say("configure");
    process::run_logged(&mut make("defconfig"), &log)?;
    let config = source.join("xen/.config");
    let defaults = fs::read_to_string(&config)?;
    fs::write(&config, format!("{defaults}{CONFIG}"))?;
    process::run_logged(&mut make("olddefconfig"), &log)?;
    let resolved = fs::read_to_string(&config)?;
    for option in ["CONFIG_IOREQ_SERVER", "CONFIG_XSM_FLASK_POLICY"] {
        ensure!(
            resolved.lines().any(|line| line.strip_prefix(option) == Some("=y")),
            "Xen's configuration refused {option}"
        );
    }
    step.say("compile");
    process::run_logged(make("build").arg(parallel()), &log)?;
    fs::copy(source.join("xen/xen"), out.join("xen")).context("the build left no image")?;
    fs::copy(&config, out.join("xen.config"))?;
    flask::keep_source(&source, out, &log)
}

/// Unpacks a tarball of a source.
///
/// # Errors
/// When it is damaged.
pub fn unpack(tarball: &Path, to: &Path, log: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    process::run_logged(
        Command::new("tar").arg("-xf").arg(tarball).arg("--strip-components=1").arg("-C").arg(to),
        log,
    )
}

/// `make TARGET` in a part of Xen's source tree, cross-compiling.
#[must_use]
pub fn make(part: &Path, target: &str) -> Command {
    let mut command = Command::new("make");
    command
        .arg("-C")
        .arg(part)
        .args(["XEN_TARGET_ARCH=arm64", &format!("CROSS_COMPILE={CROSS}")])
        .arg(target);
    process::without_job_server(&mut command);
    command
}

/// Make's option for as many jobs as there are CPUs.
#[must_use]
pub fn parallel() -> String {
    format!("-j{}", thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_debian_does_not_ship_is_had_from_the_users_tarball_only() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let cache = Cache::open_at(dir.path())?;
        let error = release(&cache, XenVersion::V4_22).expect_err("there is none");
        let said = error.downcast::<NoSource>()?.to_string();
        assert!(said.contains("put Xen's release tarball (xen-4.22.N.tar.gz) into"), "{said}");
        let tarball = dir.path().join(SOURCES).join("xen-4.22.0.tar.gz");
        fs::create_dir(dir.path().join(SOURCES))?;
        fs::write(&tarball, "")?;
        assert_eq!(release(&cache, XenVersion::V4_22)?, (tarball, "4.22.0".to_owned()));
        Ok(())
    }

    #[test]
    fn the_newest_tarball_of_the_right_version_is_taken() -> Result<()> {
        let dir = tempfile::tempdir()?;
        assert_eq!(own_tarball(&dir.path().join("none"), "xen", "4.20."), None);
        for name in [
            "xen-4.17.5.tar.gz",
            "xen-4.20.1.tar.gz",
            "xen-4.20.4.tar.xz",
            "xen-4.200.tar.gz",
            "u-boot-4.20.9.tar.gz",
        ] {
            fs::write(dir.path().join(name), "")?;
        }
        let expected = (dir.path().join("xen-4.20.4.tar.xz"), "4.20.4".to_owned());
        assert_eq!(own_tarball(dir.path(), "xen", "4.20."), Some(expected));
        Ok(())
    }
}
