//! Debian packages of the build machine: what is missing, why it is needed, and how
//! to get it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::setup::mirror;
use crate::ui;

/// A needed package: how to see that it is there, and what it is for.
struct Package {
    name: &'static str,
    /// A program on `PATH`, or a file with an absolute path.
    proof: &'static str,
    why: &'static str,
}

const fn package(name: &'static str, proof: &'static str, why: &'static str) -> Package {
    Package { name, proof, why }
}

const PACKAGES: &[Package] = &[
    package("qemu-system-arm", "qemu-system-aarch64", "runs Xen, dom0 and guests"),
    package("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc", "compiles Xen, links dom0's daemon"),
    package(
        "libc6-dev-arm64-cross",
        "/usr/aarch64-linux-gnu/include/stdio.h",
        "C library headers for the same",
    ),
    package("gcc", "gcc", "compiles Xen's build tools and links host programs"),
    package("libc6-dev", "/usr/include/stdio.h", "C library headers for the same"),
    package("make", "make", "Xen's build"),
    package("flex", "flex", "Xen's configuration"),
    package("bison", "bison", "Xen's configuration"),
    package("python3", "python3", "Xen's build"),
    package("bc", "bc", "Xen's build"),
    package("checkpolicy", "checkpolicy", "compiles Xen's FLASK policy"),
    package("m4", "m4", "the macros of Xen's FLASK policy"),
    package("setools", "sesearch", "tests what the FLASK policy allows"),
    package("xz-utils", "xz", "unpacks sources and kernel modules"),
    package("bzip2", "bzip2", "unpacks U-Boot's source"),
    package("libxen-dev", "/usr/include/xen/xen.h", "reference for the ABI test"),
    package("e2fsprogs", "/sbin/mke2fs", "makes the disk image of the tests' tools"),
    package("nbdkit", "nbdkit", "NBD server of the host tests"),
    package("util-linux", "setpriv", "ends QEMU with the command that started it"),
    package(
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-trixie-stable.gpg",
        "signatures of both Debian suites",
    ),
];

/// Needed only where Xen's tools are built.
const XEN_TOOLS_PACKAGES: &[Package] = &[package("acpica-tools", "iasl", "compiles a part of Xen's tools")];

/// Where we add the backports suite when QEMU must come from there.
const BACKPORTS_LIST: &str = "/etc/apt/sources.list.d/pilotfish-backports.sources";

fn installed(package: &Package) -> bool {
    if package.proof.starts_with('/') {
        let pgp = package.proof.replace(".gpg", ".pgp");
        Path::new(package.proof).exists() || Path::new(&pgp).exists()
    } else {
        process::on_path(package.proof)
    }
}

/// Makes sure that every needed package is installed.
///
/// # Errors
/// When packages are missing and cannot be installed: the message holds the command
/// that would.
pub fn ensure() -> Result<()> {
    ensure_all(PACKAGES)
}

/// As [`ensure`], what building Xen's tools needs beyond that.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_for_xen_tools() -> Result<()> {
    ensure_all(XEN_TOOLS_PACKAGES)
}

fn ensure_all(packages: &'static [Package]) -> Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|p| !installed(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    mirror::codename()?;
    ui::heading("These Debian packages are missing and will be installed by apt-get:");
    for package in &missing {
        ui::heading(format!("    {:24} {}", package.name, package.why));
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    install(&names)?;
    if let Some(still) = missing.iter().find(|package| !installed(package)) {
        bail!("{} is installed but {} is not there", still.name, still.proof);
    }
    Ok(())
}

/// Installs `names` by apt-get, as root or through sudo.
///
/// # Errors
/// When we are neither root nor have sudo, or apt-get fails.
pub fn install(names: &[&str]) -> Result<()> {
    let mut arguments: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    ui::step("apt-get update", |_| run(&privileged(&["apt-get", "-q", "update"])?))?;
    if names.contains(&"qemu-system-arm")
        && let Some(suite) = backports_needed()?
    {
        add_backports(&suite)?;
        for companion in ["qemu-system-arm", "qemu-system-common", "qemu-system-data"] {
            arguments.retain(|name| name != companion);
            arguments.push(format!("{companion}/{suite}"));
        }
    }
    let what = format!("apt-get install {}", arguments.join(" "));
    ui::step(what, |_| {
        let mut command = vec!["apt-get", "-q", "-y", "install", "--no-install-recommends"];
        command.extend(arguments.iter().map(String::as_str));
        run(&privileged(&command)?)
    })
    .with_context(|| format!("install by hand: apt-get install {}", arguments.join(" ")))
}

/// The command line with which root's rights are had.
fn privileged(command: &[&str]) -> Result<Vec<String>> {
    let env = ["env", "DEBIAN_FRONTEND=noninteractive"];
    let mut line: Vec<String> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        if !process::on_path("sudo") {
            bail!("root is needed and there is no sudo; as root, run: {}", command.join(" "));
        }
        line.push("sudo".to_owned());
    }
    line.extend(env.iter().chain(command).map(|&word| word.to_owned()));
    Ok(line)
}

/// Runs in our own process group: sudo may have to ask for a password on the terminal.
fn run(line: &[String]) -> Result<()> {
    let Some((program, arguments)) = line.split_first() else {
        bail!("no command");
    };
    let log = crate::paths::logs().join("apt.log");
    fs::create_dir_all(crate::paths::logs())?;
    let file = fs::File::options().create(true).append(true).open(&log)?;
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(file)
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{} failed ({status}); see {}", line.join(" "), log.display());
    }
    crate::interrupt::check()
}

/// The backports suite to take QEMU from: where another QEMU package already came from
/// there, the release's own would conflict with it.
fn backports_needed() -> Result<Option<String>> {
    let versions = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Abbrev} ${Version}\\n", "qemu-*"])
        .output()?;
    let versions = String::from_utf8_lossy(&versions.stdout).into_owned();
    let from_backports = versions.lines().any(|line| line.starts_with("ii") && line.contains("~bpo"));
    if !from_backports {
        return Ok(None);
    }
    mirror::codename().map(|name| Some(format!("{name}-backports")))
}

/// Configures the suite in a file of ours, unless it is configured already.
fn add_backports(suite: &str) -> Result<()> {
    let known = process::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(RELEASE) $(CODENAME)",
    ]))?;
    if known.split_whitespace().any(|name| name == suite) {
        return Ok(());
    }
    ui::heading(format!(
        "QEMU on this machine comes from {suite}, which is not configured: adding {BACKPORTS_LIST}"
    ));
    let content = format!(
        "# Added by cargo xtask setup, for QEMU.\nTypes: deb\nURIs: {}\nSuites: {suite}\n\
         Components: main\nSigned-By: {}\n",
        mirror::debian()?,
        mirror::keyring()?.display()
    );
    let draft = crate::paths::logs().join("backports.sources");
    fs::create_dir_all(crate::paths::logs())?;
    fs::write(&draft, content)?;
    let draft = draft.to_string_lossy().into_owned();
    run(&privileged(&["install", "-m", "644", &draft, BACKPORTS_LIST])?)?;
    ui::step("apt-get update", |_| run(&privileged(&["apt-get", "-q", "update"])?))
}
