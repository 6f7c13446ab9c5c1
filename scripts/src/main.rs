//! The command line of `cargo xtask`.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{self, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use xtask::attack::AttackOptions;
use xtask::check::step::Step;
use xtask::cli::{self, Machine};
use xtask::setup::XenVersion;
use xtask::{build, check, clean, demo, lint, paths, setup, shell, tcb, ui};

/// Sets up, builds, runs and tests Pilotfish, a stub domain that serves disks on Xen.
///
/// On a clean Debian 12 or 13 machine, `cargo xtask demo` shows it at work and
/// `cargo xtask test` runs every test; both do the set-up they need on their way.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, build Xen, fetch dom0 and guest; all kept in a cache.
    ///
    /// Packages come by apt-get (as root or through sudo; none of it when all are
    /// there). Xen and the userlands go to $XDG_CACHE_HOME/pilotfish, are reused, and
    /// are safe to delete. Debian has no Xen 4.22: where its release tarball (xen-4.22.N.tar.gz)
    /// lies in the cache's folder sources/, Xen and its tools are built from it, in some two
    /// minutes; else that version is left out. The mirror is the one apt is configured with, or
    /// $PILOTFISH_MIRROR. $PILOTFISH_TOOLCHAIN (rustup or debian) forces a compiler.
    Setup {
        /// Only this Xen version (default: every one that can be had).
        #[arg(long, value_name = "VERSION")]
        xen: Option<XenVersion>,
    },
    /// Build the stub image, the hostile images, and the dom0 daemon with its manual page and shell completions.
    Build,
    /// Show the main job: a guest on Xen in QEMU whose disks the stub serves.
    ///
    /// Writes target/demo.json; the console's log is target/logs/demo.log.
    Demo {
        #[command(flatten)]
        machine: Machine,
        /// Where the data of the guest's first disk is.
        #[arg(long, value_enum, default_value_t)]
        storage: demo::Storage,
    },
    /// Boot the same system and leave you at a dom0 prompt.
    ///
    /// Ctrl-] ends it at once, `poweroff` ends it orderly.
    Shell {
        #[command(flatten)]
        machine: Machine,
        /// Without the stub and its daemon: only Xen, dom0 and its tools.
        #[arg(long)]
        bare: bool,
    },
    /// Run one scenario of tests/qemu and show all it prints.
    Run {
        /// Its name: tests/qemu/NAME.sh.
        name: String,
        #[command(flatten)]
        machine: Machine,
        /// Without the stub and its daemon: only Xen, dom0 and its tools.
        #[arg(long)]
        bare: bool,
    },
    /// Compare Pilotfish with Xen's native PV disk: rates, CPU times, bare round trips.
    ///
    /// What can be chosen: `cargo xtask bench --help`. What the figures mean: docs/performance.md.
    #[command(disable_help_flag = true)]
    Bench {
        /// As `cargo xtask bench --help` tells them.
        #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Attack Pilotfish: every hostile scenario, with one table of what came of each attack.
    ///
    /// Ends with a line for each attack (success: nobody was harmed who must not be), how long dom0 and a
    /// bystander were held up beside a quiet stretch, and the totals. The table is also in target/attack/.
    /// The exit status is 0 if no attack is a failure or an error.
    Attack {
        /// Xen version to attack on (default: the newest that Debian ships).
        #[arg(long, value_name = "VERSION")]
        xen: Option<XenVersion>,
        /// Only this suite, the name of a scenario; may be given more than once.
        #[arg(long, value_name = "NAME")]
        suite: Vec<String>,
        #[command(flatten)]
        more: AttackOptions,
    },
    /// Run every check: format, lints, docs, host tests, fuzz targets, QEMU scenarios.
    Test {
        /// Only these steps (default: all, in this order).
        #[arg(value_name = "STEP")]
        steps: Vec<Step>,
        /// Only what needs no QEMU.
        #[arg(long, conflicts_with_all = ["qemu_only", "steps"])]
        host_only: bool,
        /// Only the QEMU scenarios.
        #[arg(long, conflicts_with = "steps")]
        qemu_only: bool,
        /// Only this QEMU scenario (of the step qemu alone).
        #[arg(long, value_name = "NAME", conflicts_with_all = ["steps", "host_only"])]
        scenario: Option<String>,
        /// Only this Xen version, with all its scenarios (default: 4.17, 4.20, and the core of
        /// them on 4.22 where its tarball is there).
        #[arg(long, value_name = "VERSION")]
        xen: Option<XenVersion>,
    },
    /// Tell what breaks a rule that no compiler checks; takes seconds.
    ///
    /// No circles of modules. No file of more than 450 lines, no function of more than 50 or nested deeper
    /// than four. No syntax error in a script. No bare `backend` in a comment or a document. What each
    /// means: CONTRIBUTING.md.
    Lint,
    /// Count what has to be trusted: lines, unsafe, hypercalls, xenstore; takes seconds.
    ///
    /// Counts what is compiled into the stub's image, ours and its dependencies', and the files that a device model
    /// in a Linux domain consists of, as far as they are here.
    Tcb {
        /// Write docs/tcb.md anew.
        #[arg(long)]
        write: bool,
    },
    /// Remove what was built; the cache stays unless asked for.
    Clean {
        /// Remove the cache outside the checkout too.
        #[arg(long)]
        cache: bool,
    },
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Setup { xen } => {
            let ready = setup::ensure(xen)?;
            ui::heading(format!("ready: toolchain by {:?}", ready.toolchain.way));
            for fixture in &ready.fixtures {
                ui::heading(format!("ready: Xen {}, Linux {}", fixture.xen_version, fixture.kernel_release));
            }
            for missing in &ready.missing {
                ui::heading(format!("left out: {}", missing.why));
            }
            Ok(true)
        }
        Command::Build => {
            setup::packages::ensure()?;
            let products = build::all(&setup::toolchain()?)?;
            let dom0 = products.daemon.iter().chain(&products.manual);
            let images = products.image.iter().chain(&products.net_image);
            for built in images.chain(dom0).chain(&products.hostile) {
                println!("built {}", built.display());
            }
            Ok(true)
        }
        Command::Demo { machine, storage } => {
            demo::run(&machine.options("demo", Duration::from_secs(300)), storage)
        }
        Command::Shell { machine, bare } => {
            shell::run(&machine.options("shell", Duration::MAX), bare).map(|()| true)
        }
        Command::Run { name, machine, bare } => {
            let options = machine.options(&format!("run-{name}"), Duration::from_secs(600));
            shell::scenario(&options, &name, bare, Duration::from_secs(240))
        }
        Command::Bench { arguments } => become_cargo_run("pilotfish-bench", &[], &arguments),
        Command::Attack { xen, suite, more } => attack(xen, &suite, &more),
        Command::Test { steps, host_only, qemu_only, scenario, xen } => {
            let wanted = |step: &Step| match step {
                Step::Qemu => !host_only,
                _ => !qemu_only && scenario.is_none(),
            };
            let all = Step::ALL.into_iter().filter(wanted).collect();
            let steps = if steps.is_empty() { all } else { steps };
            check::run(&check::Selection { steps, scenario, xen })
        }
        Command::Lint => lint::run(),
        Command::Tcb { write } => tcb::run(write),
        Command::Clean { cache } => clean::run(cache).map(|()| true),
    }
}

/// The suites of attacks are the tests' own.
fn attack(xen: Option<XenVersion>, suites: &[String], more: &AttackOptions) -> Result<bool> {
    let xen = xen.unwrap_or(XenVersion::V4_20).as_str();
    let words = ["--attacks", "--xen", xen].into_iter().chain(more.words());
    let words = words.chain(suites.iter().map(String::as_str));
    let arguments: Vec<OsString> = words.map(OsString::from).collect();
    become_cargo_run("pilotfish-tests", &["--bin", "pilotfish-qemu-tests"], &arguments)
}

/// Becomes a program of another package, which depends on this one.
fn become_cargo_run(package: &str, more: &[&str], arguments: &[OsString]) -> Result<bool> {
    let mut command = process::Command::new("cargo");
    command.args(["run", "--quiet", "--package", package]).args(more).arg("--").args(arguments);
    Err(command.current_dir(paths::root()).exec()).context("cannot run cargo")
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::main(|| run(cli.command))
}
