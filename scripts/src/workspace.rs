//! The workspace, as cargo knows it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use crate::{paths, process};

/// What `cargo metadata` tells of the workspace's own packages.
#[derive(Clone, Debug)]
pub struct Workspace(Value);

/// A library or a program of a package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Crate {
    /// The package's name.
    pub package: String,
    /// Its root file.
    pub root: PathBuf,
}

/// Asks cargo.
///
/// # Errors
/// When cargo cannot read a manifest.
pub fn read() -> Result<Workspace> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(paths::root());
    Ok(Workspace(serde_json::from_str(&process::output(&mut command)?)?))
}

impl Workspace {
    /// The names of a package's programs.
    #[must_use]
    pub fn binaries(&self, package: &str) -> BTreeSet<String> {
        let mine = array(&self.0["packages"]).filter(|candidate| candidate["name"] == package);
        mine.flat_map(|found| array(&found["targets"]))
            .filter(|target| is(target, &["bin"]))
            .filter_map(|target| target["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// The packages that cargo takes when none is named: those that exist on the host.
    #[must_use]
    pub fn default_packages(&self) -> Vec<String> {
        let is_default = |package: &&Value| {
            array(&self.0["workspace_default_members"]).any(|member| *member == package["id"])
        };
        let names =
            array(&self.0["packages"]).filter(is_default).filter_map(|package| package["name"].as_str());
        names.map(str::to_owned).collect()
    }

    /// Every library, program and example.
    #[must_use]
    pub fn crates(&self) -> Vec<Crate> {
        let of = |package: &Value, target: &Value| {
            let root = target["src_path"].as_str()?.into();
            Some(Crate { package: package["name"].as_str()?.to_owned(), root })
        };
        array(&self.0["packages"])
            .flat_map(|package| array(&package["targets"]).map(move |target| (package, target)))
            .filter(|(_, target)| is(target, &["lib", "bin", "example"]))
            .filter_map(|(package, target)| of(package, target))
            .collect()
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn is(target: &Value, kinds: &[&str]) -> bool {
    array(&target["kind"]).any(|kind| kinds.iter().any(|wanted| kind == wanted))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace() -> Workspace {
        Workspace(json!({"workspace_default_members": ["id-b"], "packages": [
            {"name": "a", "id": "id-a", "targets": [
                {"name": "one", "kind": ["bin"], "src_path": "/a/main.rs"},
                {"name": "lib", "kind": ["lib"], "src_path": "/a/lib.rs"},
                {"name": "build-script-build", "kind": ["custom-build"], "src_path": "/a/build.rs"}]},
            {"name": "b", "id": "id-b", "targets": [{"name": "two", "kind": ["bin"], "src_path": "/b/main.rs"}]},
        ]}))
    }

    #[test]
    fn the_binaries_of_a_package_are_found() {
        assert_eq!(workspace().binaries("a"), BTreeSet::from(["one".to_owned()]));
        assert!(workspace().binaries("c").is_empty());
    }

    #[test]
    fn packages_without_a_name_are_the_default_members() {
        assert_eq!(workspace().default_packages(), ["b"]);
    }

    #[test]
    fn crates_are_libraries_and_programs() {
        let roots: Vec<PathBuf> = workspace().crates().into_iter().map(|one| one.root).collect();
        assert_eq!(roots, ["/a/main.rs", "/a/lib.rs", "/b/main.rs"].map(PathBuf::from));
        let found = read().unwrap().crates();
        for root in ["scripts/src/lib.rs", "image/src/main.rs", "backend/src/lib.rs"] {
            assert!(found.iter().any(|one| one.root.ends_with(root)), "{root}");
        }
    }
}
