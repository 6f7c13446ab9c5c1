//! `cargo xtask lint`: rules of this project that no compiler checks.
//!
//! - [`circles`]: modules of a crate do not need each other.
//! - [`sizes`]: files and functions stay short and flat.
//! - [`modules`], [`source`]: what both read; [`depth`]: of a function's body.
//! - [`shell`]: scripts of dom0 and guests have no syntax error.

pub mod circles;
pub mod depth;
pub mod modules;
pub mod shell;
pub mod sizes;
pub mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::lint::modules::Modules;
use crate::paths;
use crate::workspace::{self, Crate};

/// Crates whose long files and functions are told, but are no failure yet.
const SIZES_ALLOWED: &[&str] = &["pilotfish-backend"];

/// Tells what breaks a rule; true when nothing does.
///
/// # Errors
/// When a crate or a script cannot be read.
pub fn run() -> Result<bool> {
    let root = paths::root();
    // A file that a library and a program share is read for both, and told once.
    let mut faults = BTreeSet::new();
    for Crate { package, root: file } in workspace::read()?.crates() {
        let modules = Modules::read(&file, &root)?;
        for circle in circles::find(&modules) {
            faults.insert((false, format!("{package}: a circle {circle}")));
        }
        let lines = |file: &Path| fs::read_to_string(root.join(file)).map_or(0, |text| text.lines().count());
        for long in sizes::find(&modules.files, lines) {
            faults.insert((SIZES_ALLOWED.contains(&&*package), format!("{package}: {long}")));
        }
    }
    for script in shell::scripts_in(&root.join("tests"))? {
        faults.extend(shell::fault(&script)?.map(|why| (false, why)));
    }
    for (allowed, fault) in &faults {
        println!("{fault}{}", if *allowed { " (allowed for now)" } else { "" });
    }
    Ok(faults.iter().all(|(allowed, _)| *allowed))
}
