//! Building what runs beside the guest: stub image, hostile images, dom0's daemon.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::toolchain::{Target, Toolchain};
use crate::{paths, process, ui};

const STUB_PROFILE: &str = "stub";
const DAEMON_PROFILE: &str = "release";

/// What was built; nothing for a system without any of it.
#[derive(Clone, Debug, Default)]
pub struct Products {
    /// The stub's raw image.
    pub image: Option<PathBuf>,
    /// The hostile stubs' raw images.
    pub hostile: Vec<PathBuf>,
    /// `pilotfishd` for dom0.
    pub daemon: Option<PathBuf>,
}

impl Products {
    /// Size of the stub image in bytes; 0 without one.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        self.image.as_deref().and_then(|path| fs::metadata(path).ok()).map_or(0, |metadata| metadata.len())
    }
}

/// Builds everything.
///
/// # Errors
/// When a crate does not compile: the compiler has said why.
pub fn all(toolchain: &Toolchain) -> Result<Products> {
    let mut products = stub(toolchain)?;
    products.hostile = hostile(toolchain)?;
    Ok(products)
}

/// Builds the stub image and the daemon, all that a demonstration needs.
///
/// # Errors
/// When a crate does not compile.
pub fn stub(toolchain: &Toolchain) -> Result<Products> {
    cargo(&toolchain.bare, "pilotfish-image", STUB_PROFILE)?;
    let elf = toolchain.bare.products(STUB_PROFILE).join("pilotfish");
    let image = paths::target().join("pilotfish.img");
    raw_image(&elf, &image)?;
    cargo(&toolchain.dom0, "pilotfish-toolstack", DAEMON_PROFILE)?;
    // One place to install from, whichever target it was built for.
    let daemon = paths::target().join("dom0/pilotfishd");
    fs::create_dir_all(paths::target().join("dom0"))?;
    fs::copy(toolchain.dom0.products(DAEMON_PROFILE).join("pilotfishd"), &daemon)
        .with_context(|| format!("cannot make {}", daemon.display()))?;
    let products = Products { image: Some(image), hostile: Vec::new(), daemon: Some(daemon) };
    ui::heading(format!("  stub image: {} bytes", products.image_bytes()));
    Ok(products)
}

/// Builds the hostile images into `hostile/` of the target directory.
///
/// # Errors
/// When a crate does not compile.
pub fn hostile(toolchain: &Toolchain) -> Result<Vec<PathBuf>> {
    const PACKAGE: &str = "pilotfish-hostile";
    cargo(&toolchain.bare, PACKAGE, STUB_PROFILE)?;
    let dir = paths::target().join("hostile");
    fs::create_dir_all(&dir)?;
    binaries(PACKAGE)?
        .into_iter()
        .map(|name| {
            let image = dir.join(format!("{name}.img"));
            let elf = toolchain.bare.products(STUB_PROFILE).join(&name);
            raw_image(&elf, &image).map(|()| image)
        })
        .collect()
}

fn cargo(target: &Target, package: &str, profile: &str) -> Result<()> {
    ui::heading(format!("  > build {package} for {}", target.triple));
    process::run_shown(target.cargo("build").args(["--quiet", "--package", package, "--profile", profile]))
}

/// The names of a package's binaries, as cargo knows them.
fn binaries(package: &str) -> Result<BTreeSet<String>> {
    let text = process::output(
        Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(paths::root()),
    )?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    Ok(bins_in(&metadata, package))
}

fn bins_in(metadata: &serde_json::Value, package: &str) -> BTreeSet<String> {
    let array = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    array(&metadata["packages"])
        .iter()
        .filter(|candidate| candidate["name"] == package)
        .flat_map(|found| array(&found["targets"]))
        .filter(|target| array(&target["kind"]).iter().any(|kind| kind == "bin"))
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect()
}

/// Turns an ELF into the raw image that Xen's toolstack loads.
fn raw_image(elf: &Path, image: &Path) -> Result<()> {
    process::output(Command::new("aarch64-linux-gnu-objcopy").args(["-O", "binary"]).arg(elf).arg(image))
        .map(drop)
        .with_context(|| format!("cannot make {}", image.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binaries_of_a_package_are_found() {
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "targets": [
                {"name": "one", "kind": ["bin"]}, {"name": "lib", "kind": ["lib"]}]},
            {"name": "b", "targets": [{"name": "two", "kind": ["bin"]}]},
        ]});
        assert_eq!(bins_in(&metadata, "a"), BTreeSet::from(["one".to_owned()]));
        assert!(bins_in(&metadata, "c").is_empty());
    }
}
