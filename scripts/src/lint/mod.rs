//! `cargo xtask lint`: rules of this project that no compiler checks.
//!
//! - [`circles`]: modules of a crate do not need each other.
//! - [`sizes`]: files and functions stay short.
//! - [`modules`], [`source`]: what both read.
//! - [`shell`]: scripts of dom0 and guests have no syntax error.

pub mod circles;
pub mod modules;
pub mod shell;
pub mod sizes;
pub mod source;

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::lint::modules::Modules;
use crate::paths;
use crate::workspace::{self, Crate};

/// Crates whose circles are told, but are no failure yet.
const CIRCLES_ALLOWED: &[&str] =
    &["pilotfish-backend", "pilotfish-toolstack"];
/// Crates whose long files and functions are told, but are no failure yet.
const SIZES_ALLOWED: &[&str] =
    &["pilotfish-backend", "pilotfish-toolstack"];

/// Tells what breaks a rule; true when nothing does.
///
/// # Errors
/// When a crate cannot be read.
pub fn run() -> Result<bool> {
    let mut kept = true;
    for Crate { package, root } in workspace::read()?.crates() {
        let modules = Modules::read(&root, &paths::root())?;
        for circle in circles::find(&modules) {
            println!("{package}: a circle {circle}");
            kept &= CIRCLES_ALLOWED.contains(&&*package);
        }
        let lines =
            |file: &Path| fs::read_to_string(paths::root().join(file)).map_or(0, |text| text.lines().count());
        for long in sizes::find(&modules.files, lines) {
            println!("{package}: {long}");
            kept &= SIZES_ALLOWED.contains(&&*package);
        }
    }
    for script in shell::scripts_in(&paths::root().join("tests"))? {
        if let Some(why) = shell::fault(&script)? {
            println!("{why}");
            kept = false;
        }
    }
    Ok(kept)
}
