//! `cargo xtask lint`: rules of this project that no compiler checks.
//!
//! - [`circles`]: modules of a crate do not need each other.
//! - [`sizes`]: files and functions stay short and flat.
//! - [`modules`], [`source`]: what both read; [`depth`]: of a function's body.
//! - [`shell`]: scripts of dom0 and guests have no syntax error.
//! - [`words`]: comments and documents tell Xen's storage backend from the crate `backend`.
//! - [`files`]: the files that the last three read, and [`sizes`].

pub mod circles;
pub mod depth;
pub mod files;
pub mod modules;
pub mod shell;
pub mod sizes;
pub mod source;
pub mod words;

use std::collections::BTreeSet;

use anyhow::Result;

use crate::lint::modules::Modules;
use crate::paths;
use crate::workspace::{self, Crate};

/// Tells what breaks a rule, or what was looked at; true when nothing does.
///
/// # Errors
/// When a crate, a script or a document cannot be read.
pub fn run() -> Result<bool> {
    let root = paths::root();
    // A file that a library and a program share is read for both, and told once.
    let mut faults = BTreeSet::new();
    let (mut crates, mut scripts) = (0, 0);
    for Crate { package, root: file } in workspace::read()?.crates() {
        crates += 1;
        let modules = Modules::read(&file, &root)?;
        faults.extend(circles::find(&modules).iter().map(|circle| format!("{package}: a circle {circle}")));
        faults.extend(sizes::find(&modules.files));
    }
    faults.extend(sizes::long_files(&root)?);
    for script in files::below(&root.join("tests"), "sh")? {
        scripts += 1;
        faults.extend(shell::fault(&script)?);
    }
    faults.extend(words::find(&root)?);
    faults.iter().for_each(|fault| println!("{fault}"));
    if faults.is_empty() {
        println!("{crates} crates and {scripts} scripts: no rule is broken");
    }
    Ok(faults.is_empty())
}
