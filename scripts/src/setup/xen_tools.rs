//! Xen's tools for dom0, cross-built from the release tarball of a Xen that Debian does not ship:
//! xl and its libraries, the C xenstored, the console daemon, the block scripts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::setup::apt::{LazyApt, extract};
use crate::setup::cache::Cache;
use crate::setup::layout;
use crate::setup::packages;
use crate::setup::release::XenVersion;
use crate::setup::xen;
use crate::ui;

/// The parts of Xen's `tools/` that are built, in this order.
const PARTS: &[&str] = &["include", "libs", "xenstored", "console", "xl", "hotplug", "helpers", "examples"];

/// What is left out of the rest, and where the programs go: to where Debian's packages have them.
const CONFIGURE: &[&str] = &[
    "--host=aarch64-linux-gnu",
    "--prefix=/usr",
    "--libdir=/usr/lib/aarch64-linux-gnu",
    "--libexecdir=/usr/lib",
    "--sysconfdir=/etc",
    "--localstatedir=/var",
    "--with-xenstored=xenstored",
    "--with-system-qemu=/usr/bin/false",
    "--disable-xen",
    "--disable-docs",
    "--disable-stubdom",
    "--disable-werror",
    "--disable-monitors",
    "--disable-ocamltools",
    "--disable-golang",
    "--disable-xsmpolicy",
    "--disable-pygrub",
    "--disable-seabios",
    "--disable-systemd",
];

/// Answers for `configure`: it asks for curses even without the monitors, and a `pkg-config`
/// would find this machine's libraries.
const ANSWERS: &[(&str, &str)] =
    &[("ac_cv_header_curses_h", "yes"), ("ac_cv_lib_curses_clear", "yes"), ("PKG_CONFIG", "/bin/false")];

/// Packages with the headers that the tools are compiled with.
const HEADERS: &[&str] = &["libyajl-dev", "libfdt-dev", "uuid-dev", "zlib1g-dev"];
/// Packages with the libraries that the tools are linked with, at run time too.
pub const LIBRARIES: &[&str] = &["libyajl2", "libfdt1", "libuuid1", "zlib1g"];
/// The libraries' names, and where `-lNAME` finds each.
const LINKS: &[(&str, &str)] = &[
    ("libyajl.so.2", "libyajl.so"),
    ("libfdt.so.1", "libfdt.so"),
    ("libuuid.so.1", "libuuid.so"),
    ("libz.so.1", "libz.so"),
];
/// The suite that these come from. No newer than the cross compiler's C library on any machine
/// that we set up; what is linked with older ones runs with the newer ones of dom0.
const SUITE: XenVersion = XenVersion::V4_17;

/// Raised when the code below changes what comes out of the same source.
const REVISION: u32 = 1;
/// Disk space while an entry is made, in MiB.
const NEED_MIB: u64 = 500;

/// Returns the cache entry of `version`: a tree to lay over dom0's, and `version`.
///
/// # Errors
/// [`xen::NoSource`] when there is no release tarball; others when the mirror or the build fails.
pub fn ensure(cache: &Cache, version: XenVersion) -> Result<PathBuf> {
    let (tarball, full) = xen::release(cache, version)?;
    let recipe = format!("{REVISION} {full} {PARTS:?} {CONFIGURE:?} {ANSWERS:?} {HEADERS:?} {LIBRARIES:?}");
    cache.entry(&format!("xen-tools-{version}"), &recipe, NEED_MIB, |dir| {
        packages::ensure_for_xen_tools()?;
        let (log, work) = (log_of(dir), dir.join("work"));
        let apt = LazyApt::new(cache.root().join("tmp-apt-xen-tools"), SUITE.suite());
        let libraries = ui::step(format!("Xen {version}: download the libraries of its tools"), |_| {
            libraries(&apt, &work, &log)
        })?;
        let what = format!("Xen {version}: build the tools of {full} for arm64 (a minute or two)");
        ui::step(what, |step| {
            step.say("unpack");
            xen::unpack(&tarball, &source_of(dir), &log)?;
            build(dir, &libraries, version, step)
        })?;
        fs::write(dir.join("version"), &full)?;
        Ok(fs::remove_dir_all(&work)?)
    })
}

/// Headers and libraries of arm64, apart from those of this machine.
struct Libraries {
    include: PathBuf,
    lib: PathBuf,
}

fn libraries(apt: &LazyApt, work: &Path, log: &Path) -> Result<Libraries> {
    let root = work.join("libraries");
    for name in HEADERS.iter().chain(LIBRARIES) {
        let deb = apt.get()?.download(name, &work.join("debs").join(name))?;
        extract(&[deb], &root, log)?;
    }
    let lib = work.join("lib");
    fs::create_dir_all(&lib)?;
    let dirs = layout::library_dirs(&root);
    for (name, link) in LINKS {
        let from = dirs.iter().map(|dir| dir.join(name)).find(|path| path.exists());
        fs::copy(from.with_context(|| format!("no package brought {name}"))?, lib.join(name))?;
        symlink(name, lib.join(link))?;
    }
    Ok(Libraries { include: root.join("usr/include"), lib })
}

/// The log of what makes an entry.
fn log_of(dir: &Path) -> PathBuf {
    dir.join("build.log")
}

/// Where an entry's source is unpacked.
fn source_of(dir: &Path) -> PathBuf {
    dir.join("work/source")
}

/// Builds the unpacked source of the entry `dir` into its `tree`.
fn build(dir: &Path, libraries: &Libraries, version: XenVersion, step: &ui::Step) -> Result<()> {
    let (source, log) = (source_of(dir), log_of(dir));
    let programs = format!("/{}", layout::xen_programs(version));
    let with_libraries = |command: &mut Command| {
        command
            .envs(ANSWERS.iter().copied())
            .env("APPEND_INCLUDES", &libraries.include)
            .env("APPEND_LIB", &libraries.lib)
            .env("APPEND_LDFLAGS", format!("-Wl,-rpath-link={}", libraries.lib.display()));
    };
    step.say("configure");
    let mut configure = Command::new("./configure");
    configure
        .args(CONFIGURE)
        .arg(format!("--with-libexec-leaf-dir=xen-{version}"))
        .args([format!("--bindir={programs}"), format!("--sbindir={programs}")])
        .current_dir(&source);
    with_libraries(&mut configure);
    process::run_logged(&mut configure, &log)?;
    for part in PARTS {
        step.say(part);
        let mut make = xen::make(&source.join("tools").join(part), "install");
        make.arg(xen::parallel()).env("DESTDIR", dir.join("tree"));
        with_libraries(&mut make);
        process::run_logged(&mut make, &log)?;
    }
    Ok(())
}
