//! A Linux for guests that grants its pages to the stub (`CONFIG_XEN_VIRTIO`), cross-built from Debian's
//! source: no kernel of Debian's has the option. Only tests need it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::setup::apt::{LazyApt, extract};
use crate::setup::cache::Cache;
use crate::setup::kconfig::Recipe;
use crate::setup::release::XenVersion;
use crate::setup::source::{self, Wanted};
use crate::ui;

/// Debian's suite that the source comes from.
const SUITE: &str = XenVersion::V4_20.suite();

/// Where it comes from.
const SOURCE: Wanted = Wanted {
    what: "Linux with grants for virtio",
    package: "linux",
    version: "6.",
    example: "linux-6.12.tar.xz",
};

/// What a guest of the tests needs beyond `tinyconfig`. No modules are loaded: all of it is built in.
const CONFIG: &str = "\
CONFIG_64BIT=y
CONFIG_SMP=y
CONFIG_PRINTK=y
CONFIG_BUG=y
CONFIG_KALLSYMS=y
CONFIG_TTY=y
CONFIG_UNIX98_PTYS=y
CONFIG_BINFMT_ELF=y
CONFIG_BINFMT_SCRIPT=y
CONFIG_BLK_DEV_INITRD=y
CONFIG_RD_GZIP=y
CONFIG_DEVTMPFS=y
CONFIG_PROC_FS=y
CONFIG_PROC_SYSCTL=y
CONFIG_SYSFS=y
CONFIG_SYSVIPC=y
CONFIG_TMPFS=y
CONFIG_SHMEM=y
CONFIG_BLOCK=y
CONFIG_EXT4_FS=y
CONFIG_CRYPTO=y
CONFIG_CRYPTO_CRC32C=y
CONFIG_MULTIUSER=y
CONFIG_POSIX_TIMERS=y
CONFIG_HIGH_RES_TIMERS=y
CONFIG_FUTEX=y
CONFIG_EPOLL=y
CONFIG_EVENTFD=y
CONFIG_SIGNALFD=y
CONFIG_TIMERFD=y
CONFIG_AIO=y
CONFIG_IO_URING=y
CONFIG_ADVISE_SYSCALLS=y
CONFIG_MEMBARRIER=y
CONFIG_NET=y
CONFIG_UNIX=y
CONFIG_HOTPLUG_CPU=y
CONFIG_MODULES=y
CONFIG_PARAVIRT=y
CONFIG_XEN=y
CONFIG_HVC_XEN=y
CONFIG_XEN_BLKDEV_FRONTEND=y
CONFIG_XEN_BALLOON=y
CONFIG_BLK_DEV=y
CONFIG_IOMMU_SUPPORT=y
CONFIG_VIRTIO_MENU=y
CONFIG_VIRTIO_MMIO=y
CONFIG_VIRTIO_BLK=y
CONFIG_XEN_VIRTIO=y
";
/// What the configuration must have in the end.
const WANTED: &[&str] = &[
    "CONFIG_XEN_VIRTIO=y",
    "CONFIG_XEN_GRANT_DMA_OPS=y",
    "CONFIG_XEN_GRANT_DMA_IOMMU=y",
    "CONFIG_VIRTIO_MMIO=y",
    "CONFIG_VIRTIO_BLK=y",
    "CONFIG_EXT4_FS=y",
    "CONFIG_HVC_XEN=y",
    "CONFIG_SYSVIPC=y",
];

const RECIPE: Recipe = Recipe {
    what: "Linux",
    arch: "arm64",
    base: "tinyconfig",
    config: CONFIG,
    wanted: WANTED,
    target: "Image",
    image: "arch/arm64/boot/Image",
};

/// Disk space for the unpacked source and its objects, in MiB.
const NEED_MIB: u64 = 2500;

/// Returns the image.
///
/// # Errors
/// [`source::NoSource`] when the source cannot be had from a mirror that works; others when the
/// mirror or the build fails.
pub fn ensure(cache: &Cache) -> Result<PathBuf> {
    let apt = LazyApt::new(cache.root().join("tmp-apt-grant-kernel"), SUITE);
    let recipe = format!("{SUITE}\n{CONFIG}");
    let entry = cache.entry("grant-kernel", &recipe, NEED_MIB, |dir| {
        ui::heading(
            "A Linux with grants for virtio is built, once: 150 MB to download, three to six minutes on two CPUs",
        );
        let work = dir.join("work");
        let (tarball, version) = match packaged(&apt, dir) {
            Ok(found) => found,
            // A mirror may have the one and not the other.
            Err(_) => source::tarball(cache, &apt, SOURCE)?,
        };
        ui::step(format!("Linux {version}: build for guests on arm64"), |step| RECIPE.build(&work, &tarball, dir, step))?;
        fs::remove_dir_all(&work)?;
        for left in [PACKAGE, UNPACKED] {
            let left = dir.join(left);
            if left.exists() {
                fs::remove_dir_all(left)?;
            }
        }
        Ok(())
    })?;
    Ok(entry.join("Image"))
}

/// Where the package and what is in it are meanwhile.
const PACKAGE: &str = "package";
const UNPACKED: &str = "unpacked";

/// The tarball in Debian's package `linux-source-N`, and its version.
fn packaged(apt: &LazyApt, dir: &Path) -> Result<(PathBuf, String)> {
    ui::step(format!("{}: download the source", SOURCE.what), |_| {
        let apt = apt.get()?;
        let name = apt.depends("linux-source")?.into_iter().find(|name| name.starts_with("linux-source-"));
        let name = name.context("Debian's linux-source names no version")?;
        let deb = apt.download(&name, &dir.join(PACKAGE))?;
        let file = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = file.split('_').nth(1).unwrap_or_default().to_owned();
        let root = dir.join(UNPACKED);
        extract(&[deb], &root, &dir.join("build.log"))?;
        let tarball = root.join(format!("usr/src/{name}.tar.xz"));
        ensure!(tarball.exists(), "{file} holds no {}", tarball.display());
        Ok((tarball, version))
    })
}
