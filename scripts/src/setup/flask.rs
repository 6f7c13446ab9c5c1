//! FLASK policies: Xen's own with our modules. Its classes and macros differ between versions of Xen, so
//! each Xen's cache entry keeps the source of its policy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// What `Makefile.common` of the policy reads, and nothing else of Xen.
const PARTS: [&str; 2] = ["tools/flask/policy", "xen/xsm/flask/policy"];

/// A module of a policy.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its name, in `modules.conf` and of its file.
    pub name: String,
    /// Its rules.
    pub text: String,
}

/// The source of the policy in a Xen's cache entry.
#[must_use]
pub fn source(xen: &Path) -> PathBuf {
    xen.join("policy")
}

/// Copies the source of the policy out of Xen's source `tree`, into the entry `xen`.
///
/// # Errors
/// When a part is not there.
pub fn keep_source(tree: &Path, xen: &Path, log: &Path) -> Result<()> {
    for part in PARTS {
        let to = source(xen).join(part);
        let above = to.parent().context("a part without a folder")?;
        fs::create_dir_all(above)?;
        process::run_logged(Command::new("cp").arg("-r").arg(tree.join(part)).arg(above), log)?;
    }
    Ok(())
}

/// Compiles the policy of `source` with `modules` in the folder `dir`, which it empties first; returns the
/// file that `xl loadpolicy` takes.
///
/// # Errors
/// When the policy is wrong: the end of the compiler's messages is in the error.
pub fn compile(source: &Path, modules: &[Module], dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    let out = dir.join("out");
    fs::create_dir_all(&out)?;
    let log = dir.join("policy.log");
    let tree = dir.join("tree");
    process::run_logged(Command::new("cp").arg("-r").arg(source).arg(&tree), &log)?;
    let policy = tree.join(PARTS[0]);
    let list = policy.join("modules/modules.conf");
    let mut enabled = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    for Module { name, text } in modules {
        fs::write(policy.join(format!("modules/{name}.te")), text)?;
        enabled += &format!("{name} = on\n");
    }
    fs::write(&list, enabled)?;
    let mut make = Command::new("make");
    make.arg("-C").arg(&policy).args(["-f", "Makefile.common", "XEN_FULLVERSION=pilotfish"]);
    make.arg(format!("FLASK_BUILD_DIR={}", out.display()));
    process::without_job_server(&mut make);
    process::run_logged(&mut make, &log)?;
    Ok(out.join("xenpolicy-pilotfish"))
}
