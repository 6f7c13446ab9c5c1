//! Where Debian's arm64 packages, and what we build beside them, have their files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::setup::release::XenVersion;

/// The libraries of arm64 below the root.
pub const LIBRARIES: &str = "usr/lib/aarch64-linux-gnu";

/// The first of these paths below `root` that is there.
///
/// # Errors
/// When none is.
pub fn existing(root: &Path, candidates: &[&str]) -> Result<PathBuf> {
    candidates
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.exists())
        .with_context(|| format!("the packages brought none of {candidates:?}"))
}

/// Finds a program in the unpacked packages, merged `/usr` or not.
///
/// # Errors
/// When no package brought it.
pub fn program(root: &Path, name: &str) -> Result<PathBuf> {
    existing(
        root,
        &[
            &format!("usr/bin/{name}"),
            &format!("usr/sbin/{name}"),
            &format!("bin/{name}"),
            &format!("sbin/{name}"),
        ],
    )
}

/// Where unpacked packages have their libraries, merged `/usr` or not.
#[must_use]
pub fn library_dirs(root: &Path) -> Vec<PathBuf> {
    [LIBRARIES, "lib/aarch64-linux-gnu", "usr/lib", "lib"].iter().map(|dir| root.join(dir)).collect()
}

/// Where Xen's own programs are in dom0.
#[must_use]
pub fn xen_programs(version: XenVersion) -> String {
    format!("usr/lib/xen-{version}/bin")
}
