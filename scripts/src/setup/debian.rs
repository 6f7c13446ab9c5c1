//! The packages of a small Debian with systemd, as a disk image: a guest installs itself from it.
//! Only one long test needs it.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::setup::apt::LazyApt;
use crate::setup::cache::Cache;
use crate::setup::release::XenVersion;
use crate::setup::tools;
use crate::ui;

/// What is to be installed, by apt's patterns and names; their dependencies come along.
const PACKAGES: &[&str] = &["?essential", "?priority(required)", "systemd-sysv", "udev"];
/// Disk space while an entry is made, in MiB.
const NEED_MIB: u64 = 300;

/// Returns the image for guests of `version`: every package's `.deb` file, nothing else.
///
/// # Errors
/// When a package cannot be had.
pub fn ensure(cache: &Cache, apt: &LazyApt, version: XenVersion) -> Result<PathBuf> {
    let suite = version.suite();
    let entry =
        cache.entry(&format!("debian-{suite}"), &format!("{suite} {PACKAGES:?}"), NEED_MIB, |dir| {
            apt.get()?;
            ui::step(format!("Debian {suite}: download a small installation's packages"), |step| {
                let root = dir.join("root");
                fs::create_dir(&root)?;
                for deb in apt.get()?.download_with_dependencies(PACKAGES)? {
                    if let Some(name) = deb.file_name() {
                        fs::copy(&deb, root.join(name))?;
                    }
                }
                step.say("make the disk image");
                tools::make_image(&root, &dir.join("debian.img"), &dir.join("debian.log"))?;
                Ok(fs::remove_dir_all(&root)?)
            })
        })?;
    Ok(entry.join("debian.img"))
}
