//! Where things are: the checkout, its target directory, the cache.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout's root directory.
#[must_use]
pub fn root() -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR"));
    scripts.parent().unwrap_or(scripts).to_path_buf()
}

/// The directory for build products and reports: cargo's own target directory.
#[must_use]
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(PathBuf::from(dir)))
}

/// Logs of every QEMU run and of every set-up step that a cache entry did not keep.
#[must_use]
pub fn logs() -> PathBuf {
    target().join("logs")
}

/// The cache outside the checkout: `$XDG_CACHE_HOME/pilotfish`, by default
/// `~/.cache/pilotfish`. Safe to delete at any time.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` is set to an absolute path.
pub fn cache() -> Result<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set; set one to an absolute path")?;
    Ok(base.join("pilotfish"))
}

/// Where cargo keeps the sources of dependencies, if the environment says so.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}
