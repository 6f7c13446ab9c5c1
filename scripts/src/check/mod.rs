//! `cargo xtask test`: every check, in steps, counted.
//!
//! - [`step`]: which steps there are. `.ci/` has a script for each.
//! - [`tally`]: verdicts, counted.

pub mod step;
pub mod tally;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::check::step::Step;
use crate::check::tally::{Tally, cargo_test_line, summary_line};
use crate::interrupt::{self, Group};
use crate::setup::{self, XenVersion};
use crate::toolchain::Target;
use crate::{lint, paths, process, ui, workspace};

/// The packages of bare-metal images, and those that none holds yet.
const BARE_PACKAGES: [&str; 6] = [
    "pilotfish-image",
    "pilotfish-runtime",
    "pilotfish-hostile",
    "pilotfish-frontend",
    "pilotfish-nbd",
    "pilotfish-net",
];
/// The package of the fuzz targets, whose tests are a step of their own.
const FUZZ_PACKAGE: &str = "pilotfish-fuzz-targets";

/// What to run.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Only these steps, in the order of [`Step::ALL`].
    pub steps: Vec<Step>,
    /// Only this scenario.
    pub scenario: Option<String>,
    /// Only this Xen version.
    pub xen: Option<XenVersion>,
}

/// Runs the selected steps, each to its end whatever came of the last; true when all passed.
///
/// # Errors
/// When the set-up fails, or on Ctrl-C.
pub fn run(selection: &Selection) -> Result<bool> {
    ui::heading("Set-up");
    setup::packages::ensure()?;
    let toolchain = setup::toolchain()?;
    let wanted = || Step::ALL.into_iter().filter(|step| selection.steps.contains(step));
    if wanted().any(|step| step == Step::Qemu) {
        setup::fixtures(selection.xen)?;
    }
    let (mut total, mut told) = (Tally::default(), Vec::new());
    for step in wanted() {
        ui::heading(format!("Step {step}: {}", step.what()));
        let started = Instant::now();
        let tally = match step {
            Step::Lint => lint_all(&toolchain.bare)?,
            Step::Host => counted(&mut host_tests()?, cargo_test_line)?,
            Step::Fuzz => {
                counted(&mut cargo(&["test", "--no-fail-fast", "--package", FUZZ_PACKAGE]), cargo_test_line)?
            }
            Step::Qemu => counted(&mut scenarios(selection), summary_line)?,
        };
        let line = format!("{step}: {tally} ({} s)", started.elapsed().as_secs());
        ui::heading(format!("Step {line}"));
        told.push(line);
        total.add(tally);
    }
    told.iter().for_each(|line| println!("{line}"));
    println!("{total}");
    Ok(total.failed == 0 && total.passed > 0)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(paths::root());
    command
}

fn static_checks(bare: &Target) -> Vec<(&'static str, Command)> {
    let mut fmt = cargo(&["fmt", "--all", "--check"]);
    fmt.stdin(Stdio::null());
    let clippy = cargo(&["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]);
    let mut docs = cargo(&["doc", "--quiet", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut checks =
        vec![("format", fmt), ("clippy, host crates", clippy), ("documentation, host crates", docs)];
    if bare.can_lint() {
        let mut clippy = bare.cargo("clippy");
        clippy.arg("--quiet");
        let mut docs = bare.cargo("doc");
        docs.args(["--quiet", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        for package in BARE_PACKAGES {
            clippy.args(["--package", package]);
            docs.args(["--package", package]);
        }
        clippy.args(["--", "-D", "warnings"]);
        checks.push(("clippy, bare-metal crates", clippy));
        checks.push(("documentation, bare-metal crates", docs));
    }
    checks
}

/// Rules that no compiler checks, format, clippy, documentation.
fn lint_all(bare: &Target) -> Result<Tally> {
    let mut tally = Tally::one(ui::step("modules, sizes, scripts", |_| lint::run())?);
    for (what, mut command) in static_checks(bare) {
        tally.add(verdict(what, &mut command)?);
    }
    Ok(tally)
}

/// The tests of all packages that exist on the host.
fn host_tests() -> Result<Command> {
    let packages = workspace::read()?.default_packages();
    let mut command = cargo(&["test", "--no-fail-fast"]);
    for package in packages.iter().filter(|name| *name != FUZZ_PACKAGE) {
        command.args(["--package", package]);
    }
    Ok(command)
}

fn scenarios(selection: &Selection) -> Command {
    let mut command = cargo(&["run", "--quiet", "--package", "pilotfish-tests"]);
    command.args(["--bin", "pilotfish-qemu-tests", "--"]);
    if let Some(xen) = selection.xen {
        command.args(["--xen", xen.as_str()]);
    }
    command.args(selection.scenario.iter());
    command
}

/// A check whose exit status is its verdict; a failed one shows its output.
fn verdict(what: &str, command: &mut Command) -> Result<Tally> {
    let log = paths::logs().join("checks.log");
    let result = ui::step(what, |_| process::run_logged(command, &log));
    interrupt::check()?;
    if let Err(error) = &result {
        eprintln!("{error:#}");
    }
    Ok(Tally::one(result.is_ok()))
}

/// A check that tells its own verdicts in its output, which is shown as it comes. One
/// that fails without a failed verdict counts as one failure.
fn counted(command: &mut Command, read: fn(&str) -> Option<Tally>) -> Result<Tally> {
    interrupt::check()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", process::describe(command)))?;
    let group = Group::of(&child);
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            if let Some(counts) = read(&line) {
                tally.add(counts);
            }
        }
    }
    let status = child.wait()?;
    drop(group);
    interrupt::check()?;
    if !status.success() && tally.failed == 0 {
        eprintln!("{} failed ({status})", process::describe(command));
        tally.failed = 1;
    }
    Ok(tally)
}
