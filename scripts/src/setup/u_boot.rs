//! U-Boot for a guest of Xen on arm64, cross-built from Debian's source package, with the drivers
//! for our disk. Only a test needs it.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::setup::apt::LazyApt;
use crate::setup::cache::Cache;
use crate::setup::kconfig::Recipe;
use crate::setup::release::XenVersion;
use crate::setup::source::{self, Wanted};
use crate::ui;

/// Debian's suite that the source comes from.
const SUITE: &str = XenVersion::V4_20.suite();

/// The guest's board, as U-Boot has it for Xen.
const BOARD: &str = "xenguest_arm64_defconfig";

/// Options on top of it: the disk, what a script needs, and nothing on the build machine that a
/// compiler does not bring. Nothing is typed: the commands are in a file on the disk.
const CONFIG: &str = "\
CONFIG_VIRTIO_MMIO=y
CONFIG_VIRTIO_BLK=y
CONFIG_CMD_VIRTIO=y
CONFIG_CMD_EXT4=y
CONFIG_CMD_EXT4_WRITE=y
CONFIG_HUSH_PARSER=y
CONFIG_CMD_ECHO=y
CONFIG_CMD_IMPORTENV=y
CONFIG_SUPPORT_RAW_INITRD=y
CONFIG_BOOTDELAY=-2
CONFIG_USE_BOOTCOMMAND=y
CONFIG_BOOTCOMMAND=\"virtio scan && ext4load virtio 0 0x42000000 /boot.env && env import -t 0x42000000 ${filesize} && run pilotfish\"
# CONFIG_EFI_LOADER is not set
# CONFIG_TOOLS_KWBIMAGE is not set
# CONFIG_TOOLS_LIBCRYPTO is not set
# CONFIG_TOOLS_MKEFICAPSULE is not set
";
/// What the configuration must have in the end.
const WANTED: &[&str] = &[
    "CONFIG_VIRTIO_MMIO=y",
    "CONFIG_VIRTIO_BLK=y",
    "CONFIG_CMD_EXT4_WRITE=y",
    "CONFIG_SUPPORT_RAW_INITRD=y",
];

const RECIPE: Recipe = Recipe {
    what: "U-Boot",
    arch: "arm",
    base: BOARD,
    config: CONFIG,
    wanted: WANTED,
    target: "u-boot.bin",
    image: "u-boot.bin",
};

/// Disk space for the unpacked source and its objects, in MiB.
const NEED_MIB: u64 = 500;

/// Where it comes from.
const SOURCE: Wanted =
    Wanted { what: "U-Boot", package: "u-boot", version: "20", example: "u-boot-2025.01.tar.bz2" };

/// Returns the image, `u-boot.bin`.
///
/// # Errors
/// [`source::NoSource`] when the source cannot be had from a mirror that works; others when the
/// mirror or the build fails.
pub fn ensure(cache: &Cache) -> Result<PathBuf> {
    let apt = LazyApt::new(cache.root().join("tmp-apt-u-boot"), SUITE);
    let recipe = format!("{SUITE} {BOARD}\n{CONFIG}");
    let entry = cache.entry("u-boot", &recipe, NEED_MIB, |dir| {
        let work = dir.join("work");
        let (tarball, version) = source::tarball(cache, &apt, SOURCE)?;
        ui::step(format!("U-Boot: build {version} for arm64"), |step| {
            RECIPE.build(&work, &tarball, dir, step)
        })?;
        fs::remove_dir_all(&work)?;
        Ok(())
    })?;
    Ok(entry.join("u-boot.bin"))
}
