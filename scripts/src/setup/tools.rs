//! Programs that some scenarios run in a guest or in dom0: fio, the makers and checkers of file systems, and
//! of what stands on disks. From Debian's packages, as a disk image to be mounted read-only. Only the tests
//! need it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::elf;
use crate::process;
use crate::setup::apt::{LazyApt, extract};
use crate::setup::cache::Cache;
use crate::setup::layout::{self, LIBRARIES};
use crate::setup::release::XenVersion;
use crate::ui;

const PACKAGES: &[&str] = &["fio", "xfsprogs", "e2fsprogs", "util-linux", "dmsetup", "mdadm", "btrfs-progs"];
const PROGRAMS: &[&str] = &[
    "fio",
    "mkfs.xfs",
    "xfs_repair",
    "mke2fs",
    "e2fsck",
    "blkdiscard",
    "blockdev",
    "fstrim",
    "dmsetup",
    "mdadm",
    "mkfs.btrfs",
];
/// Libraries outside the loader's own directories, found by their users' RUNPATH.
const LIBRARY_DIRS: &[&str] = &["usr/lib/aarch64-linux-gnu/ceph"];
/// Opened by name at run time, so no ELF header lists it.
const DLOPENED: &[&str] = &["libgcc_s.so.1"];

/// Raised when the code below changes what comes out of the same packages.
const REVISION: u32 = 1;
/// Disk space while an entry is made, in MiB.
const NEED_MIB: u64 = 800;
/// Room in the image beyond the files, for the file system's own structures.
const SPARE_MIB: u64 = 6;
/// e2fsprogs is on every Debian; its directory is not on everyone's `PATH`.
const MKE2FS: &str = "/sbin/mke2fs";

/// Returns the image of `version`; `userland` is the version's cache entry, whose kernel modules
/// go with the programs.
///
/// # Errors
/// When a package cannot be had or lacks a file we need.
pub fn ensure(cache: &Cache, apt: &LazyApt, version: XenVersion, userland: &Path) -> Result<PathBuf> {
    let kernel = fs::read_to_string(userland.join("kernel"))?;
    let recipe = format!(
        "{REVISION} {} {kernel} {PACKAGES:?} {PROGRAMS:?} {LIBRARY_DIRS:?} {DLOPENED:?}",
        version.suite()
    );
    let entry = cache.entry(&format!("tools-{version}"), &recipe, NEED_MIB, |dir| {
        let (packages, root) = (dir.join("packages"), dir.join("root"));
        let log = dir.join("tools.log");
        apt.get()?;
        ui::step(format!("Debian {}: download fio and file system tools", version.suite()), |step| {
            let debs = apt.get()?.download_with_dependencies(PACKAGES)?;
            step.say("unpack");
            extract(&debs, &packages, &log)
        })?;
        ui::step("make the tools' disk image", |_| {
            fill(&root, &packages, &userland.join("modules"))?;
            make_image(&root, &dir.join("tools.img"), &log)?;
            fs::remove_dir_all(&packages)?;
            fs::remove_dir_all(&root)?;
            Ok(())
        })
    })?;
    Ok(entry.join("tools.img"))
}

/// Makes an ext4 image, to be mounted read-only, with all that is below `root`.
///
/// # Errors
/// When it cannot be written.
pub fn make_image(root: &Path, image: &Path, log: &Path) -> Result<()> {
    let mib = (size(root)? >> 20) + SPARE_MIB;
    process::run_logged(
        Command::new(MKE2FS)
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0", "-d"])
            .arg(root)
            .arg(image)
            .arg(format!("{mib}M")),
        log,
    )
}

/// Makes the tree of the image out of unpacked packages.
fn fill(root: &Path, packages: &Path, modules: &Path) -> Result<()> {
    for dir in ["dev", "proc", "sys", "tmp", "mnt", "etc", "modules", "usr/bin", LIBRARIES] {
        fs::create_dir_all(root.join(dir))?;
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/bin"),
        ("lib", "usr/lib"),
        ("usr/sbin", "bin"),
        ("usr/bin/mkfs.ext4", "mke2fs"),
        ("usr/lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu/ld-linux-aarch64.so.1"),
        ("etc/mtab", "/proc/self/mounts"),
    ] {
        symlink(target, root.join(link))?;
    }
    let mut files = Vec::new();
    for name in PROGRAMS {
        let from = layout::program(packages, name)?;
        fs::copy(&from, root.join("usr/bin").join(name))?;
        files.push(from);
    }
    let mut dirs = layout::library_dirs(packages);
    dirs.extend(LIBRARY_DIRS.iter().map(|dir| packages.join(dir)));
    for name in DLOPENED {
        let from = dirs.iter().map(|dir| dir.join(name)).find(|path| path.exists());
        let from = from.with_context(|| format!("no package brought {name}"))?;
        fs::copy(&from, root.join(LIBRARIES).join(name))?;
        files.push(from);
    }
    for (name, from) in elf::closure(&files, &dirs)? {
        fs::copy(from, root.join(LIBRARIES).join(name))?;
    }
    fs::copy(packages.join("etc/mke2fs.conf"), root.join("etc/mke2fs.conf"))?;
    for module in fs::read_dir(modules)?.flatten() {
        fs::copy(module.path(), root.join("modules").join(module.file_name()))?;
    }
    Ok(())
}

/// Bytes that the files below `dir` take in blocks of 4 KiB.
fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)?.flatten() {
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            4096 + size(&entry.path())?
        } else {
            metadata.len().next_multiple_of(4096)
        };
    }
    Ok(bytes)
}
