//! The files that are read without a compiler's help.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Folders with Rust sources.
pub const SOURCES: [&str; 7] = ["backend", "drivers", "image", "kernel", "scripts", "tests", "toolstack"];

/// The files with that extension in a folder and those below it, in order.
///
/// # Errors
/// When a folder cannot be read.
pub fn below(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(below(&path, extension)?);
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
