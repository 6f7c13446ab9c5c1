//! How to compile for the stub (bare metal) and for dom0 (Linux) on this machine.
//!
//! Two ways lead there: rustup's prebuilt targets, or, where rustup cannot download,
//! Debian's own newer Rust packages, which then also compile the standard library.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process;
use crate::ui;

/// Forces one of the two ways: `rustup` or `debian`.
pub const TOOLCHAIN_ENV: &str = "PILOTFISH_TOOLCHAIN";

/// The stub's target.
const BARE: &str = "aarch64-unknown-none";
/// dom0's target with rustup: statically linked, so that it runs on any distribution.
const DOM0_RUSTUP: &str = "aarch64-unknown-linux-musl";
/// dom0's target with Debian's packages, linked by the cross compiler.
const DOM0_DEBIAN: &str = "aarch64-unknown-linux-gnu";

const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Where the compiler comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// rustup's toolchain and its prebuilt standard libraries.
    Rustup,
    /// Debian's `rustc-web`; the standard library is compiled with the crates.
    Debian,
}

/// How to build for one target.
#[derive(Clone, Debug)]
pub struct Target {
    /// The target triple.
    pub triple: &'static str,
    /// The cargo to run.
    pub cargo: PathBuf,
    /// Environment it needs.
    pub env: Vec<(OsString, OsString)>,
    /// Arguments after the subcommand, `--target` included.
    pub args: Vec<String>,
    /// Subdirectory of the target directory, so that two compilers do not share one.
    pub dir: &'static str,
}

impl Target {
    /// A cargo command line for this target: `subcommand` and the target's arguments.
    #[must_use]
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .arg(subcommand)
            .args(&self.args)
            .arg("--target-dir")
            .arg(self.target_dir())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            // Cargo sets it for us to its own toolchain's libraries.
            .env_remove("LD_LIBRARY_PATH")
            .current_dir(crate::paths::root());
        command
    }

    /// Whether this toolchain has clippy for the target.
    #[must_use]
    pub fn can_lint(&self) -> bool {
        self.dir.is_empty()
    }

    /// Where this target's products go, by profile.
    #[must_use]
    pub fn products(&self, profile: &str) -> PathBuf {
        self.target_dir().join(self.triple).join(profile)
    }

    fn target_dir(&self) -> PathBuf {
        crate::paths::target().join(self.dir)
    }
}

/// The compilers for both targets.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Which way was taken.
    pub way: Way,
    /// For the stub and hostile images.
    pub bare: Target,
    /// For `pilotfishd`.
    pub dom0: Target,
}

/// Finds a way to compile for both targets; downloads what it takes. `install` installs Debian
/// packages.
///
/// # Errors
/// When neither way works, with what to do.
pub fn detect(install: fn(&[&str]) -> Result<()>) -> Result<Toolchain> {
    match env::var(TOOLCHAIN_ENV).as_deref() {
        Ok("rustup") => rustup(),
        Ok("debian") => debian(install),
        Ok(other) => bail!("{TOOLCHAIN_ENV}={other} is not known; use rustup or debian"),
        Err(_) => rustup().or_else(|why| {
            ui::heading(format!("rustup's way does not work here ({why:#})"));
            ui::heading("taking Debian's Rust packages instead");
            debian(install)
        }),
    }
}

fn rustup() -> Result<Toolchain> {
    if !process::on_path("rustup") {
        bail!("rustup is not installed");
    }
    let installed = process::output(Command::new("rustup").args(["target", "list", "--installed"]))?;
    let missing: Vec<&str> = [BARE, DOM0_RUSTUP]
        .into_iter()
        .filter(|target| !installed.lines().any(|line| line == *target))
        .collect();
    if !missing.is_empty() {
        ui::step(format!("rustup target add {}", missing.join(" ")), |_| {
            let log = crate::paths::logs().join("rustup.log");
            process::run_logged(Command::new("rustup").args(["target", "add"]).args(&missing), &log)
        })?;
    }
    let cargo = PathBuf::from(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // rust-lld comes with the toolchain, so no cross compiler and no cross C library.
    let env = vec![
        pair("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld"),
        pair("CARGO_TARGET_AARCH64_UNKNOWN_NONE_LINKER", "rust-lld"),
        pair("CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUSTFLAGS", &without_home("")),
    ];
    let target = |triple| Target {
        triple,
        cargo: cargo.clone(),
        env: env.clone(),
        args: vec!["--target".to_owned(), triple.to_owned()],
        dir: "",
    };
    Ok(Toolchain { way: Way::Rustup, bare: target(BARE), dom0: target(DOM0_RUSTUP) })
}

fn debian(install: fn(&[&str]) -> Result<()>) -> Result<Toolchain> {
    if !debian_installed() {
        ui::heading("Debian's Rust compiler and its source are needed:");
        install(DEBIAN_PACKAGES)?;
    }
    // Only these, in case rustup's proxies stand before them on PATH.
    let env = vec![
        pair("RUSTC", DEBIAN_RUSTC),
        // Debian ships the standard library as source only for our targets, and
        // building it is behind this switch.
        pair("RUSTC_BOOTSTRAP", "1"),
        pair("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc"),
        pair("CARGO_TARGET_AARCH64_UNKNOWN_NONE_LINKER", "aarch64-linux-gnu-ld"),
        pair("CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUSTFLAGS", &without_home("-Clinker-flavor=ld")),
    ];
    let target = |triple: &'static str, extra: &[&str]| Target {
        triple,
        cargo: PathBuf::from(DEBIAN_CARGO),
        env: env.clone(),
        args: ["--target", triple].iter().chain(extra).map(|&arg| arg.to_owned()).collect(),
        dir: "debian-rust",
    };
    Ok(Toolchain {
        way: Way::Debian,
        bare: target(
            BARE,
            &["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"],
        ),
        dom0: target(DOM0_DEBIAN, &["-Zbuild-std=std,panic_abort"]),
    })
}

/// The compiler's flags that make an image the same wherever it is built: messages name the files of
/// dependencies, which are in somebody's home.
fn without_home(flags: &str) -> String {
    let sources = crate::paths::cargo_home().map(|home| home.join("registry/src").display().to_string());
    match sources {
        // Cargo takes a space for the end of a flag.
        Some(sources) if !sources.contains(char::is_whitespace) => {
            format!("{flags} --remap-path-prefix={sources}=registry").trim_start().to_owned()
        }
        _ => flags.to_owned(),
    }
}

fn debian_installed() -> bool {
    let status = Command::new("dpkg-query")
        .arg("-W")
        .args(DEBIAN_PACKAGES)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success()) && Path::new(DEBIAN_CARGO).exists()
}

fn pair(name: &str, value: &str) -> (OsString, OsString) {
    (name.into(), value.into())
}
