//! Building what runs beside the guest: stub image, hostile images, dom0's daemon; and the
//! guests of the tests that are not Linux.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::toolchain::{Target, Toolchain};
use crate::{alone, elf, manual, paths, process, ui, workspace};

const IMAGE_PACKAGE: &str = "pilotfish-image";
const STUB_PROFILE: &str = "stub";
const DAEMON_PROFILE: &str = "release";
/// What the compiler calls where an index may be out of bounds, a number overflow or a
/// divisor be zero: the stub's image has no such place.
const FORBIDDEN: [&str; 2] = ["panic_bounds_check", "panic_const_"];

/// The largest stub image, in bytes: what a guest's owner has to trust, and each guest to load.
pub const IMAGE_BYTES_MAX: u64 = 168 << 10;
/// The same of the image with a network, for guests with disks of NBD servers.
pub const NET_IMAGE_BYTES_MAX: u64 = 404 << 10;

/// What was built; nothing for a system without any of it.
#[derive(Clone, Debug, Default)]
pub struct Products {
    /// The stub's raw image.
    pub image: Option<PathBuf>,
    /// The same with a network.
    pub net_image: Option<PathBuf>,
    /// The hostile stubs' raw images.
    pub hostile: Vec<PathBuf>,
    /// The tests' bare-metal guests, as raw images.
    pub guests: Vec<PathBuf>,
    /// `pilotfishd` for dom0.
    pub daemon: Option<PathBuf>,
    /// Its manual page and shell completions.
    pub manual: Vec<PathBuf>,
    /// Programs for guests, beside their scenarios.
    pub guest: Vec<PathBuf>,
}

impl Products {
    /// Size of the stub image in bytes; 0 without one.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        self.image.as_deref().map_or(0, bytes_of)
    }
}

/// Builds everything.
///
/// # Errors
/// When a crate does not compile: the compiler has said why.
pub fn all(toolchain: &Toolchain) -> Result<Products> {
    let _alone = alone()?;
    // First: one of them has the name of the stub's own binary, which is to be the last made.
    let hostile = hostile(toolchain)?;
    let guests = images(toolchain, "pilotfish-frontend", "guests")?;
    Ok(Products { hostile, guests, ..stub_alone(toolchain)? })
}

/// Builds the stub image and the daemon, all that a demonstration needs.
///
/// # Errors
/// When a crate does not compile.
pub fn stub(toolchain: &Toolchain) -> Result<Products> {
    let _alone = alone()?;
    stub_alone(toolchain)
}

/// Several images have one binary's name: another run that builds meanwhile would put its own in this one's place.
fn alone() -> Result<fs::File> {
    fs::create_dir_all(paths::target())?;
    alone::lock(&paths::target().join("build.lock"), "its build")
}

fn stub_alone(toolchain: &Toolchain) -> Result<Products> {
    // First: both have the same binary's name. What smoltcp indexes is checked by the compiler, so this one may
    // panic where ours may not.
    cargo(&toolchain.bare, IMAGE_PACKAGE, STUB_PROFILE, &["--features", "nbd"])?;
    let net_image = stub_image(toolchain, "pilotfish-net.img", NET_IMAGE_BYTES_MAX)?;
    cargo(&toolchain.bare, IMAGE_PACKAGE, STUB_PROFILE, &[])?;
    let symbols = process::output(Command::new("aarch64-linux-gnu-nm").arg(stub_elf(toolchain)))?;
    let found = forbidden_in(&symbols);
    ensure!(found.is_empty(), "the stub may panic where no lint looks: it contains {found:?}");
    let image = stub_image(toolchain, "pilotfish.img", IMAGE_BYTES_MAX)?;
    cargo(&toolchain.dom0, "pilotfish-toolstack", DAEMON_PROFILE, &[])?;
    // One place to install from, whichever target it was built for.
    let dom0 = paths::target().join("dom0");
    fs::create_dir_all(&dom0)?;
    let daemon = dom0.join("pilotfishd");
    fs::copy(toolchain.dom0.products(DAEMON_PROFILE).join("pilotfishd"), &daemon)
        .with_context(|| format!("cannot make {}", daemon.display()))?;
    let manual = manual::write(&dom0)?;
    let products = Products {
        image: Some(image),
        net_image: Some(net_image),
        daemon: Some(daemon),
        manual,
        ..Products::default()
    };
    Ok(products)
}

/// The size of a file in bytes; 0 if it is not there.
#[must_use]
pub fn bytes_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn stub_elf(toolchain: &Toolchain) -> PathBuf {
    toolchain.bare.products(STUB_PROFILE).join("pilotfish")
}

/// Makes the raw image of the stub that was just built, and looks at what every image has to keep.
fn stub_image(toolchain: &Toolchain, name: &str, bytes_max: u64) -> Result<PathBuf> {
    let image = paths::target().join(name);
    raw_image(&stub_elf(toolchain), &image)?;
    small_enough(name, fs::metadata(&image)?.len(), bytes_max)?;
    let content = fs::read(&image)?;
    let named = places_in(&content, &[Some(paths::root()), paths::cargo_home()]);
    ensure!(named.is_empty(), "{name} depends on where it was built: it names {named:?}");
    let relocated = elf::for_a_loader(&fs::read(stub_elf(toolchain))?)?;
    ensure!(relocated.is_empty(), "{name} would have to be relocated, and nobody does: it has {relocated:?}");
    ui::heading(format!("  {name}: {} bytes, SHA-256 {:x}", content.len(), Sha256::digest(&content)));
    Ok(image)
}

/// Builds the hostile images.
///
/// # Errors
/// When a crate does not compile.
fn hostile(toolchain: &Toolchain) -> Result<Vec<PathBuf>> {
    // The stub itself, for all kinds of disks, but with bugs on demand.
    cargo(&toolchain.bare, IMAGE_PACKAGE, STUB_PROFILE, &["--features", "failpoints,nbd"])?;
    let fragile = image(toolchain, "pilotfish", "hostile", "fragile")?;
    let mut images = images(toolchain, "pilotfish-hostile", "hostile")?;
    images.push(fragile);
    Ok(images)
}

/// Builds the bare-metal images of a package into `dir` of the target directory.
fn images(toolchain: &Toolchain, package: &str, dir: &str) -> Result<Vec<PathBuf>> {
    cargo(&toolchain.bare, package, STUB_PROFILE, &[])?;
    workspace::read()?.binaries(package).into_iter().map(|name| image(toolchain, &name, dir, &name)).collect()
}

/// Makes the raw image `dir/name.img` of a binary that was just built.
fn image(toolchain: &Toolchain, binary: &str, dir: &str, name: &str) -> Result<PathBuf> {
    let dir = paths::target().join(dir);
    fs::create_dir_all(&dir)?;
    let image = dir.join(format!("{name}.img"));
    raw_image(&toolchain.bare.products(STUB_PROFILE).join(binary), &image)?;
    Ok(image)
}

/// Builds a program of a package of the tests, for dom0 and guests.
///
/// # Errors
/// When it does not compile.
pub fn program(toolchain: &Toolchain, package: &str, name: &str) -> Result<PathBuf> {
    let package = ["--quiet", "--package", package, "--bin", name, "--no-default-features"];
    process::run_shown(toolchain.dom0.cargo("build").args(package).args(["--profile", DAEMON_PROFILE]))?;
    Ok(toolchain.dom0.products(DAEMON_PROFILE).join(name))
}

fn cargo(target: &Target, package: &str, profile: &str, more: &[&str]) -> Result<()> {
    ui::heading(format!("  > build {package} for {}", target.triple));
    process::run_shown(
        target.cargo("build").args(["--quiet", "--package", package, "--profile", profile]).args(more),
    )
}

/// Symbols of an image that it must not have.
fn forbidden_in(symbols: &str) -> Vec<&str> {
    let names = symbols.lines().filter_map(|line| line.split_ascii_whitespace().last());
    names.filter(|name| FORBIDDEN.iter().any(|part| name.contains(part))).collect()
}

/// Which of these places on this machine an image names.
fn places_in(image: &[u8], places: &[Option<PathBuf>]) -> Vec<PathBuf> {
    let names = |place: &Path| {
        let name = place.as_os_str().as_encoded_bytes();
        !name.is_empty() && image.windows(name.len()).any(|bytes| bytes == name)
    };
    places.iter().flatten().filter(|place| names(place)).cloned().collect()
}

/// The image has a limit, so that it grows on purpose only.
fn small_enough(name: &str, bytes: u64, bytes_max: u64) -> Result<()> {
    ensure!(
        bytes <= bytes_max,
        "{name} has {bytes} bytes, {} more than it may (the limits are in scripts/src/build.rs); \
         `aarch64-linux-gnu-nm --size-sort --print-size -C` on the ELF shows what is large",
        bytes.saturating_sub(bytes_max)
    );
    Ok(())
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
    fn a_check_of_an_index_is_found() {
        let good = "0000000040016ab4 t _ZN5alloc5alloc18handle_alloc_error17h0E\n                 U memcpy\n";
        assert!(forbidden_in(good).is_empty());
        let name = "_RNvNtCs_4core9panicking18panic_bounds_check";
        assert_eq!(forbidden_in(&format!("{good}000000004001ab24 t {name}\n")), [name]);
        assert_eq!(forbidden_in("0 t panic_const_div_by_zero").len(), 1);
    }

    #[test]
    fn a_place_of_this_machine_in_an_image_is_found() {
        let places = [Some(PathBuf::from("/home/a/.cargo")), Some(PathBuf::from("/src/b")), None];
        assert!(places_in(b"registry/log/src/lib.rs", &places).is_empty());
        assert_eq!(places_in(b"x/home/a/.cargo/registry", &places), [PathBuf::from("/home/a/.cargo")]);
    }

    #[test]
    fn an_image_may_have_its_limit_and_no_more() {
        assert!(small_enough("an.img", IMAGE_BYTES_MAX, IMAGE_BYTES_MAX).is_ok());
        let why = small_enough("an.img", IMAGE_BYTES_MAX + 1, IMAGE_BYTES_MAX).expect_err("too large");
        assert!(why.to_string().starts_with("an.img has 172033 bytes, 1 more than it may"), "{why}");
    }
}
