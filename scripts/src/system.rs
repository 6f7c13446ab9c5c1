//! The whole system in QEMU: fixtures, our own products and scenarios, booted.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::agent::Agent;
use crate::build::Products;
use crate::initramfs::Tree;
use crate::qemu::{DEFAULT_CPU, Gic, Machine};
use crate::setup::{Fixture, XenVersion};
use crate::{paths, ui};

/// Memory of the usual machine in MiB.
pub const MEMORY_MIB: u32 = 4096;

/// How to run the system.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which Xen; none: the newest that can be had.
    pub xen: Option<XenVersion>,
    /// QEMU's CPU model.
    pub cpu: String,
    /// Interrupt controller.
    pub gic: Gic,
    /// Physical CPUs.
    pub smp: u32,
    /// Memory of the machine in MiB.
    pub memory_mib: u32,
    /// Name of the run: its log is `logs/<name>.log` in the target directory.
    pub name: String,
    /// Time limit of the whole run.
    pub timeout: Duration,
    /// More words for Xen's command line.
    pub xen_args: String,
    /// More words for dom0's command line; `pf.daemon=off` leaves pilotfishd out.
    pub dom0_args: String,
    /// The tools' disk image, for guests that need it: `/guest/tools.img` in dom0.
    pub tools: Option<PathBuf>,
    /// The disk image of a small Debian's packages: `/guest/debian.img` in dom0.
    pub debian: Option<PathBuf>,
    /// U-Boot, for a guest that boots by it: `/guest/u-boot.bin` in dom0.
    pub u_boot: Option<PathBuf>,
    /// A compiled FLASK policy, `/pf/xenpolicy` in dom0: Xen runs with FLASK, and dom0 loads it.
    pub flask_policy: Option<PathBuf>,
    /// A Linux for guests that grant their pages: `/guest/Image-grants` in dom0.
    pub grant_kernel: Option<PathBuf>,
    /// More files for dom0, by path: what a script is to know of this run.
    pub files: Vec<(&'static str, String)>,
}

impl Options {
    /// The usual machine, for a run called `name`.
    #[must_use]
    pub fn new(xen: Option<XenVersion>, name: &str) -> Self {
        Self {
            xen,
            cpu: DEFAULT_CPU.to_owned(),
            gic: Gic::V3,
            smp: 2,
            memory_mib: MEMORY_MIB,
            name: name.to_owned(),
            timeout: Duration::from_secs(600),
            xen_args: String::new(),
            dom0_args: String::new(),
            tools: None,
            u_boot: None,
            grant_kernel: None,
            debian: None,
            flask_policy: None,
            files: Vec::new(),
        }
    }
}

const XEN_ARGS: &str = "console=dtuart dtuart=/pl011@9000000 dom0_mem=1536M dom0_max_vcpus=2 \
                        bootscrub=0 loglvl=info guest_loglvl=info";
/// SILO, Xen's default on Arm, forbids the event channels between stub and guest.
const XSM_ARGS: &str = "xsm=dummy";
/// With the policy that is built in, until dom0 loads another.
const FLASK_ARGS: &str = "xsm=flask flask=enforcing";
const DOM0_ARGS: &str = "console=hvc0 rdinit=/init loglevel=4 panic=5";

/// Where the scripts of dom0 and those of guests are.
const SCENARIO_DIRS: [(&str, &str); 2] = [("qemu", "qemu/guest"), ("bench/dom0", "bench/guest")];

/// Boots the system to dom0's agent.
///
/// # Errors
/// When the initramfs cannot be made or the machine does not come up.
pub fn boot(fixture: &Fixture, products: &Products, options: &Options) -> Result<Agent> {
    let initrd = paths::target().join(format!("qemu/{}.cpio", options.name));
    write_initrd(&initrd, fixture, products, options)?;
    let xsm = if options.flask_policy.is_some() { FLASK_ARGS } else { XSM_ARGS };
    let machine = Machine {
        xen: fixture.xen.clone(),
        xen_args: format!("{XEN_ARGS} {xsm} {}", options.xen_args),
        kernel: fixture.kernel.clone(),
        dom0_args: format!("{DOM0_ARGS} {}", options.dom0_args),
        initrd,
        cpu: options.cpu.clone(),
        gic: options.gic,
        smp: options.smp,
        memory_mib: options.memory_mib,
        log: paths::logs().join(format!("{}.log", options.name)),
        timeout: options.timeout,
    };
    let what = format!(
        "boot Xen {} and dom0 (Linux {}) in QEMU, {}",
        fixture.xen_version, fixture.kernel_release, options.cpu
    );
    ui::step(what, |step| Agent::boot(&machine, |line| step.say(line)))
}

/// The fixed part of dom0's initramfs and behind it a small one with all that changes.
fn write_initrd(to: &Path, fixture: &Fixture, products: &Products, options: &Options) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut out = File::create(to)?;
    io::copy(&mut File::open(&fixture.dom0_cpio)?, &mut out)?;
    let mut overlay = dom0_overlay(fixture, products)?;
    let images = [
        ("guest/tools.img", &options.tools),
        ("guest/debian.img", &options.debian),
        ("guest/u-boot.bin", &options.u_boot),
        ("pf/xenpolicy", &options.flask_policy),
        ("guest/Image-grants", &options.grant_kernel),
    ];
    for (path, image) in images {
        if let Some(image) = image {
            overlay.file(path, image)?;
        }
    }
    for (path, text) in &options.files {
        overlay.bytes(path, text.as_str(), 0o644);
    }
    overlay.write(&mut out)
}

/// Where the scripts of dom0 and guests live.
fn tests_dir() -> PathBuf {
    paths::root().join("tests")
}

fn dom0_overlay(fixture: &Fixture, products: &Products) -> Result<Tree> {
    let scripts = tests_dir().join("dom0");
    let mut tree = Tree::new();
    script(&mut tree, "init", &scripts.join("init.sh"))?;
    script(&mut tree, "pf/agent.sh", &scripts.join("agent.sh"))?;
    script(&mut tree, "pf/lib.sh", &scripts.join("lib.sh"))?;
    script(&mut tree, "pf/driver-init.sh", &scripts.join("driver-init.sh"))?;
    tree.file("root/guest.cfg", &scripts.join("guest.cfg"))?;
    tree.bytes("pf/xen-version", fixture.version.as_str(), 0o644);
    tree.file("guest/Image", &fixture.kernel)?;
    tree.bytes("guest/initrd", guest_initrd(fixture, products)?, 0o644);
    tree.directory("disks");
    tree.directory("scenarios");
    for (dom0, _) in SCENARIO_DIRS {
        add_scenarios(&mut tree, "scenarios", &tests_dir().join(dom0))?;
    }
    if let Some(image) = &products.image {
        tree.file("usr/lib/pilotfish/pilotfish.img", image)?;
    }
    if let Some(image) = &products.net_image {
        tree.file("usr/lib/pilotfish/pilotfish-net.img", image)?;
    }
    if let Some(daemon) = &products.daemon {
        tree.file("usr/sbin/pilotfishd", daemon)?;
    }
    for (images, dir) in [(&products.hostile, "usr/lib/pilotfish/hostile"), (&products.guests, "guest")] {
        for image in images {
            let name = image.file_name().context("an image without a name")?;
            tree.file(&format!("{dir}/{}", name.to_string_lossy()), image)?;
        }
    }
    Ok(tree)
}

fn guest_initrd(fixture: &Fixture, products: &Products) -> Result<Vec<u8>> {
    let scripts = tests_dir().join("dom0");
    let mut tree = Tree::new();
    script(&mut tree, "init", &scripts.join("guest-init.sh"))?;
    script(&mut tree, "guest/lib.sh", &scripts.join("guest-lib.sh"))?;
    for (_, guest) in SCENARIO_DIRS {
        add_scenarios(&mut tree, "guest", &tests_dir().join(guest))?;
    }
    for program in &products.guest {
        let name = program.file_name().context("a guest's program without a name")?;
        tree.file(&format!("guest/{}", name.to_string_lossy()), program)?;
    }
    let mut archive = fs::read(&fixture.guest_cpio)?;
    archive.write_all(&tree.to_bytes()?)?;
    Ok(archive)
}

/// Adds every `*.sh` of a directory, executable.
fn add_scenarios(tree: &mut Tree, to: &str, from: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "sh")
            && let Some(name) = path.file_name()
        {
            script(tree, &format!("{to}/{}", name.to_string_lossy()), &path)?;
        }
    }
    Ok(())
}

fn script(tree: &mut Tree, to: &str, from: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    tree.bytes(to, content, 0o755);
    Ok(())
}
