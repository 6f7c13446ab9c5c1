//! The userland of dom0 and guests, cut out of Debian's arm64 packages into one
//! initramfs each, and the kernel that both run, unmodified.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::elf;
use crate::initramfs::Tree;
use crate::process;
use crate::setup::apt::{Apt, LazyApt, extract};
use crate::setup::cache::Cache;
use crate::setup::layout::{LIBRARIES, existing, library_dirs, program, xen_programs};
use crate::setup::modules;
use crate::setup::release::XenVersion;
use crate::setup::xen_tools;
use crate::ui;

/// Packages besides those of Xen's tools.
const PACKAGES: &[&str] = &[
    "xenstore-utils",
    "busybox-static",
    "bash",
    "coreutils",
    "e2fsprogs",
    "util-linux",
    "mount",
    "kexec-tools",
    "libgcc-s1",
    "nbd-server",
    "nbd-client",
    "nbdkit",
];
const KERNEL: &str = "linux-image-cloud-arm64";

/// Xen's own programs for dom0, from [`xen_programs`].
const XEN_PROGRAMS: &[&str] =
    &["xl", "xenstored", "xenconsoled", "xenconsole", "xen-init-dom0", "libxl-save-helper"];
/// Programs for dom0 from `/usr/bin` and `/usr/sbin`.
const DOM0_PROGRAMS: &[&str] = &[
    "bash",
    "flock",
    "stat",
    "timeout",
    "stdbuf",
    "losetup",
    "mount",
    "umount",
    "mke2fs",
    "e2fsck",
    "xenstore-chmod",
    "xenstore-exists",
    "xenstore-list",
    "xenstore-ls",
    "xenstore-read",
    "xenstore-rm",
    "xenstore-watch",
    "xenstore-write",
    "nbd-server",
    "nbd-client",
    "nbdkit",
];
/// What dom0's nbdkit can serve, and what it can do wrong on purpose: its plugins and filters below
/// [`LIBRARIES`].
const NBDKIT_FILES: &[&str] = &[
    "nbdkit/plugins/nbdkit-file-plugin.so",
    "nbdkit/plugins/nbdkit-memory-plugin.so",
    "nbdkit/filters/nbdkit-cow-filter.so",
    "nbdkit/filters/nbdkit-delay-filter.so",
    "nbdkit/filters/nbdkit-error-filter.so",
];
/// What the scenarios with several NBD servers need beyond that: packages, programs, and parts of nbdkit. They run on
/// one Xen, so the others do without.
struct Servers {
    packages: &'static [&'static str],
    programs: &'static [&'static str],
    files: &'static [&'static str],
}

const NO_SERVERS: Servers = Servers { packages: &[], programs: &[], files: &[] };
const SERVERS: Servers = Servers {
    packages: &["qemu-utils"],
    programs: &["qemu-storage-daemon"],
    files: &[
        "nbdkit/filters/nbdkit-blocksize-policy-filter.so",
        "nbdkit/filters/nbdkit-cache-filter.so",
        "nbdkit/filters/nbdkit-log-filter.so",
    ],
};

impl Servers {
    const fn of(version: XenVersion) -> Servers {
        match version {
            XenVersion::V4_20 => SERVERS,
            XenVersion::V4_17 | XenVersion::V4_22 => NO_SERVERS,
        }
    }

    /// What it adds to the recipe, which stays as it is without servers.
    fn recipe(&self) -> String {
        let Servers { packages, programs, files } = self;
        if packages.is_empty() { String::new() } else { format!(" {packages:?} {programs:?} {files:?}") }
    }
}

/// Programs for guests.
const GUEST_PROGRAMS: &[&str] = &["mke2fs", "e2fsck", "blockdev", "blkdiscard", "fallocate", "kexec"];
/// Opened by name at run time, so no ELF header lists it.
const DLOPENED: &[&str] = &["libgcc_s.so.1"];

const DOM0_MODULES: &[&str] =
    &["xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xenfs", "loop", "xen-blkback", "ext4"];
/// Modules that dom0 has and no boot loads, with their lists: for PV network interfaces of other domains
/// (`network`), and for a driver domain with storage of the network (`network-storage`).
const DOM0_SPARE_MODULES: &[(&str, &[&str])] =
    &[("network", &["bridge", "xen-netback"]), ("network-storage", &["xen-netfront", "nbd"])];
const GUEST_MODULES: &[&str] = &["virtio_mmio", "virtio_blk", "xen-blkfront", "ext4"];
/// Modules for the guests that mount the tools' image (see `tools`); no initramfs has them.
const TOOLS_MODULES: &[&str] = &["xfs"];
/// Modules of the same image for dom0: what may stand on its disks.
const STACK_MODULES: &[&str] = &["dm-mod", "raid1", "btrfs"];

/// Raised when the code below changes what comes out of the same packages.
const REVISION: u32 = 1;

/// Disk space while an entry is made, in MiB.
const NEED_MIB: u64 = 800;

/// Returns the cache entry of `version`: `Image` (the kernel), `kernel` (its release),
/// `dom0.cpio` and `guest.cpio` (the fixed parts of the two initramfs), `modules/` (kernel
/// modules for the tools' image with the lists `list` and `stack`), `tools` (the version of the Xen tools).
///
/// # Errors
/// When a package cannot be had or lacks a file we need.
pub fn ensure(cache: &Cache, apt: &LazyApt, version: XenVersion) -> Result<PathBuf> {
    let mut recipe = format!(
        "{REVISION} {} {PACKAGES:?} {KERNEL} {XEN_PROGRAMS:?} {DOM0_PROGRAMS:?} \
         {GUEST_PROGRAMS:?} {DLOPENED:?} {DOM0_MODULES:?} {GUEST_MODULES:?} {TOOLS_MODULES:?} \
         {STACK_MODULES:?} {NBDKIT_FILES:?} {DOM0_SPARE_MODULES:?}",
        version.suite()
    );
    recipe += &Servers::of(version).recipe();
    let built = if version.is_packaged() { None } else { Some(xen_tools::ensure(cache, version)?) };
    if let Some(entry) = built.as_deref().and_then(Path::file_name) {
        recipe += &entry.to_string_lossy();
    }
    let name = format!("userland-{version}");
    cache.entry(&name, &recipe, NEED_MIB, |dir| {
        let work = Work::below(dir);
        apt.get()?;
        ui::step(format!("Xen {version}: download dom0's tools and kernel"), |step| {
            download(apt.get()?, version, built.as_deref(), &work, step)
        })?;
        ui::step(format!("Xen {version}: cut out the initramfs of dom0 and guest"), |_| {
            let modules_dir = kernel_files(&work.kernel, dir)?;
            let dom0 = dom0_tree(&work.root, &modules_dir, version)?;
            dom0.write(fs::File::create(dir.join("dom0.cpio"))?)?;
            let guest = guest_tree(&work.root, &modules_dir)?;
            guest.write(fs::File::create(dir.join("guest.cpio"))?)?;
            for (list, wanted) in [("list", TOOLS_MODULES), ("stack", STACK_MODULES)] {
                write_modules(&dir.join("modules"), list, &modules_dir, wanted)?;
            }
            fs::remove_dir_all(&work.dir)?;
            Ok(())
        })
    })
}

/// Where an entry is made.
struct Work {
    /// What stays.
    entry: PathBuf,
    /// What goes when the entry is made.
    dir: PathBuf,
    /// The packages' files.
    root: PathBuf,
    /// The kernel's.
    kernel: PathBuf,
}

impl Work {
    fn below(entry: &Path) -> Self {
        let dir = entry.join("work");
        Self { entry: entry.to_path_buf(), root: dir.join("root"), kernel: dir.join("kernel"), dir }
    }
}

/// Fetches and unpacks the packages, and lays the tools that we built over them, if we did.
fn download(
    apt: &Apt,
    version: XenVersion,
    built: Option<&Path>,
    work: &Work,
    step: &ui::Step,
) -> Result<()> {
    let log = work.entry.join("userland.log");
    let tools = format!("xen-utils-{version}");
    let mut packages = [PACKAGES, Servers::of(version).packages].concat();
    if built.is_some() {
        packages.extend(xen_tools::LIBRARIES);
    } else {
        step.say(&tools);
        packages.push(&tools);
    }
    let debs = apt.download_with_dependencies(&packages)?;
    step.say(KERNEL);
    let image = apt
        .depends(KERNEL)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{KERNEL} depends on no kernel"))?;
    let deb = apt.download(&image, &work.dir.join("debs"))?;
    step.say("unpack");
    extract(&debs, &work.root, &log)?;
    extract(&[deb], &work.kernel, &log)?;
    let Some(built) = built else {
        return Ok(fs::write(work.entry.join("tools"), tools_version(&debs, &tools))?);
    };
    fs::copy(built.join("version"), work.entry.join("tools"))?;
    let tree = built.join("tree/.");
    process::run_logged(Command::new("cp").arg("-a").arg(tree).arg(&work.root), &log)
}

/// The version in the file name of the tools' package.
fn tools_version(debs: &[PathBuf], package: &str) -> String {
    debs.iter()
        .filter_map(|deb| deb.file_name()?.to_str())
        .find_map(|name| name.strip_prefix(package)?.strip_prefix('_'))
        .and_then(|rest| rest.split('_').next())
        .unwrap_or("unknown")
        .replace("%3a", ":")
}

/// Copies the kernel out of its package; returns the module directory.
fn kernel_files(kernel: &Path, out: &Path) -> Result<PathBuf> {
    let modules = only_entry(&existing(kernel, &["usr/lib/modules", "lib/modules"])?)?;
    let release = modules.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let image = kernel.join(format!("boot/vmlinuz-{release}"));
    let data = fs::read(&image).with_context(|| format!("no kernel {}", image.display()))?;
    let to = out.join("Image");
    if data.starts_with(&[0x1f, 0x8b]) {
        let unzipped = Command::new("gzip").arg("-dc").arg(&image).output()?;
        fs::write(&to, unzipped.stdout)?;
    } else {
        fs::write(&to, data)?;
    }
    fs::write(out.join("kernel"), &release)?;
    Ok(modules)
}

fn only_entry(dir: &Path) -> Result<PathBuf> {
    let entries: Vec<_> = fs::read_dir(dir)?.flatten().collect();
    match entries.as_slice() {
        [entry] => Ok(entry.path()),
        _ => bail!("one directory was expected in {}", dir.display()),
    }
}

/// Directories and links that every Linux userland has.
fn skeleton() -> Tree {
    let mut tree = Tree::new();
    for dir in ["dev", "proc", "sys", "run", "tmp", "root", "mnt", "usr/bin", "usr/sbin", "etc"] {
        tree.directory(dir);
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("var/run", "/run"),
        ("var/lock", "/run/lock"),
        ("etc/mtab", "/proc/self/mounts"),
    ] {
        tree.symlink(link, target);
    }
    tree.directory("var/log/xen/console");
    tree.directory("var/lib/xen");
    tree.directory("var/lib/xenstored");
    tree.character("dev/console", 5, 1);
    tree.character("dev/null", 1, 3);
    tree
}

/// Adds programs to `/usr/bin` with every library they need, and busybox for the rest.
fn add_programs(tree: &mut Tree, root: &Path, programs: &[(String, PathBuf)]) -> Result<()> {
    let dirs = library_dirs(root);
    let busybox = existing(root, &["usr/bin/busybox", "bin/busybox"])?;
    tree.file("usr/bin/busybox", &busybox)?;
    tree.symlink("usr/bin/sh", "busybox");
    let mut files = Vec::new();
    for (to, from) in programs {
        tree.file(to, from)?;
        files.push(from.clone());
    }
    for name in DLOPENED {
        let from = dirs.iter().map(|dir| dir.join(name)).find(|path| path.exists());
        let from = from.with_context(|| format!("no package brought {name}"))?;
        tree.file(&format!("{LIBRARIES}/{name}"), &from)?;
        files.push(from);
    }
    for (name, from) in elf::closure(&files, &dirs)? {
        tree.file(&format!("{LIBRARIES}/{name}"), &from)?;
    }
    // The dynamic loader's fixed place.
    tree.symlink("usr/lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu/ld-linux-aarch64.so.1");
    for (link, target) in [("mkfs.ext4", "mke2fs"), ("fsck.ext4", "e2fsck")] {
        tree.symlink(&format!("usr/sbin/{link}"), &format!("../bin/{target}"));
    }
    tree.file("etc/mke2fs.conf", &existing(root, &["etc/mke2fs.conf"])?)
}

/// Adds modules with their list of that name in loading order.
fn add_modules(tree: &mut Tree, name: &str, modules_dir: &Path, wanted: &[&str]) -> Result<()> {
    let mut list = String::new();
    for module in modules::collect(modules_dir, wanted)? {
        list.push_str(&module.name);
        list.push('\n');
        tree.bytes(&format!("modules/{}.ko", module.name), module.content, 0o644);
    }
    tree.bytes(&format!("modules/{name}"), list, 0o644);
    Ok(())
}

/// Writes modules of the tools' image as files, with their list of that name in loading order.
fn write_modules(to: &Path, name: &str, modules_dir: &Path, wanted: &[&str]) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut list = String::new();
    for module in modules::collect(modules_dir, wanted)? {
        list.push_str(&module.name);
        list.push('\n');
        fs::write(to.join(format!("{}.ko", module.name)), module.content)?;
    }
    fs::write(to.join(name), list)?;
    Ok(())
}

fn plain(root: &Path, names: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    names.iter().map(|name| Ok((format!("usr/bin/{name}"), program(root, name)?))).collect()
}

fn dom0_tree(root: &Path, modules_dir: &Path, version: XenVersion) -> Result<Tree> {
    let mut tree = skeleton();
    let servers = Servers::of(version);
    let mut programs = plain(root, &[DOM0_PROGRAMS, servers.programs].concat())?;
    for name in NBDKIT_FILES.iter().chain(servers.files) {
        let path = format!("{LIBRARIES}/{name}");
        programs.push((path.clone(), root.join(path)));
    }
    let xen = xen_programs(version);
    for name in XEN_PROGRAMS {
        programs.push((format!("{xen}/{name}"), root.join(&xen).join(name)));
        tree.symlink(&format!("usr/sbin/{name}"), &format!("/{xen}/{name}"));
    }
    add_programs(&mut tree, root, &programs)?;
    tree.files_of("etc/xen/scripts", &root.join("etc/xen/scripts"))?;
    tree.file("etc/xen/xl.conf", &root.join("etc/xen/xl.conf"))?;
    tree.bytes("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644);
    tree.bytes("etc/group", "root:x:0:\n", 0o644);
    add_modules(&mut tree, "list", modules_dir, DOM0_MODULES)?;
    for (list, wanted) in DOM0_SPARE_MODULES {
        add_modules(&mut tree, list, modules_dir, wanted)?;
    }
    Ok(tree)
}

fn guest_tree(root: &Path, modules_dir: &Path) -> Result<Tree> {
    let mut tree = skeleton();
    add_programs(&mut tree, root, &plain(root, GUEST_PROGRAMS)?)?;
    add_modules(&mut tree, "list", modules_dir, GUEST_MODULES)?;
    Ok(tree)
}
