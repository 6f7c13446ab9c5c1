//! Removing what we made.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::setup::cache::Cache;
use crate::{paths, ui};

/// Removes our outputs in the target directory and, if asked for, the cache.
///
/// # Errors
/// When something is there and cannot be removed.
pub fn run(cache: bool) -> Result<()> {
    let target = paths::target();
    for name in
        ["logs", "qemu", "dom0", "hostile", "debian-rust", "pilotfish.img", "pilotfish-net.img", "demo.json"]
    {
        remove(&target.join(name))?;
    }
    for triple in ["aarch64-unknown-none", "aarch64-unknown-linux-musl"] {
        remove(&target.join(triple))?;
    }
    if cache && paths::cache()?.exists() {
        // Not under the feet of a set-up that is running.
        let opened = Cache::open()?;
        remove(opened.root())?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Ok(()) => ui::heading(format!("removed {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
    }
    Ok(())
}
