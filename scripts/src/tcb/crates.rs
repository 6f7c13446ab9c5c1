//! The crates of the stub's image, as cargo resolves them for it, and what is counted of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::tcb::count::{self, Count};
use crate::{paths, process};

const PACKAGE: &str = "pilotfish-image";
const TARGET: &str = "aarch64-unknown-none";

/// One crate of the image.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The package's name.
    pub name: String,
    /// Its version, unless it is ours.
    pub version: Option<String>,
    /// What was counted.
    pub count: Count,
}

/// Counts every crate of the image, built with those features: ours first, then by name.
///
/// # Errors
/// When cargo cannot resolve them, or a source cannot be read.
pub fn counted(features: &str) -> Result<Vec<Counted>> {
    let roots = roots()?;
    let mut counted = Vec::new();
    for (name, version, features) in resolved(features)? {
        let root = roots.get(&(name.clone(), version.clone()));
        let (root, version) = match root.with_context(|| format!("no source of {name}"))? {
            Root::Ours(root) => (root, None),
            Root::Dependency(root) => (root, Some(version)),
            Root::Macros => continue,
        };
        counted.push(Counted { name, version, count: count::of(root, &features)? });
    }
    counted.sort_by(|a, b| (a.version.is_some(), &a.name).cmp(&(b.version.is_some(), &b.name)));
    Ok(counted)
}

/// Name, version and features of each package that the image's depends on.
fn resolved(features: &str) -> Result<BTreeSet<(String, String, BTreeSet<String>)>> {
    let mut command = Command::new("cargo");
    command.args([
        "tree",
        "--features",
        features,
        "--package",
        PACKAGE,
        "--target",
        TARGET,
        "--edges",
        "normal",
    ]);
    command.args(["--prefix", "none", "--format", "{p}|{f}|", "--offline"]).current_dir(paths::root());
    let text = process::output(&mut command)?;
    let line = |line: &str| {
        let mut fields = line.split('|');
        let mut package = fields.next()?.split(' ');
        let (name, version) = (package.next()?, package.next()?.strip_prefix('v')?);
        let features = fields.next()?.split(',').filter(|feature| !feature.is_empty());
        Some((name.to_owned(), version.to_owned(), features.map(str::to_owned).collect()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Where a crate begins.
#[derive(Clone, Debug)]
enum Root {
    Ours(PathBuf),
    Dependency(PathBuf),
    /// It runs in the compiler.
    Macros,
}

/// By name and version.
type Roots = BTreeMap<(String, String), Root>;

/// Crates that only the derive macros need: they run in the compiler as well, but cargo does not say so.
const OF_MACROS: [&str; 4] = ["proc-macro2", "quote", "syn", "unicode-ident"];

fn roots() -> Result<Roots> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version", "1", "--offline", "--filter-platform", TARGET]);
    let metadata: Value = serde_json::from_str(&process::output(command.current_dir(paths::root()))?)?;
    let packages = metadata["packages"].as_array().context("cargo tells of no packages")?;
    Ok(packages.iter().filter_map(root).collect())
}

fn root(package: &Value) -> Option<((String, String), Root)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let targets = package["targets"].as_array()?;
    let of = |kind: &str| {
        let is = |target: &&Value| {
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|its| its == kind))
        };
        targets.iter().find(is).and_then(|target| text(&target["src_path"])).map(PathBuf::from)
    };
    let name = text(&package["name"])?;
    let root = match of("lib").or_else(|| of("bin")) {
        _ if OF_MACROS.contains(&name.as_str()) => Root::Macros,
        Some(file) if package["source"].is_null() => Root::Ours(file),
        Some(file) => Root::Dependency(file),
        None => Root::Macros,
    };
    Some(((name, text(&package["version"])?), root))
}
