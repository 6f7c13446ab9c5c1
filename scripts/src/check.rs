//! `cargo xtask test`: every check, counted.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::interrupt::{self, Group};
use crate::setup::{self, XenVersion};
use crate::toolchain::Target;
use crate::{paths, process, ui};

/// The packages that exist only on bare metal.
const BARE_PACKAGES: [&str; 4] =
    ["pilotfish-image", "pilotfish-life", "pilotfish-hostile", "pilotfish-frontend"];

/// What to run.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Format, lints, docs and host tests.
    pub host: bool,
    /// QEMU scenarios.
    pub qemu: bool,
    /// Only this scenario.
    pub scenario: Option<String>,
    /// Only this Xen version.
    pub xen: Option<XenVersion>,
}

/// Counted verdicts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Not run, because what they need cannot be had here.
    skipped: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn one(passed: bool) -> Self {
        Self { passed: passed.into(), failed: (!passed).into(), skipped: 0 }
    }
}

/// Runs the selected checks; true when all passed.
///
/// # Errors
/// When the set-up fails, or on Ctrl-C.
pub fn run(selection: &Selection) -> Result<bool> {
    let mut total = Tally::default();
    ui::heading("Set-up");
    setup::packages::ensure()?;
    let toolchain = setup::toolchain()?;
    if selection.qemu {
        setup::fixtures(selection.xen)?;
    }
    if selection.host {
        ui::heading("Format, lints, documentation");
        for (what, mut command) in static_checks(&toolchain.bare) {
            total.add(verdict(what, &mut command)?);
        }
        ui::heading("Host tests");
        total.add(counted(&mut host_tests(), cargo_test_line)?);
    }
    if selection.qemu {
        ui::heading("QEMU scenarios");
        total.add(counted(&mut scenarios(selection), summary_line)?);
    }
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

fn host_tests() -> Command {
    cargo(&["test", "--no-fail-fast"])
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

/// Reads `N passed, N failed`, perhaps with `, N skipped`: the whole line.
fn summary_line(line: &str) -> Option<Tally> {
    let (passed, rest) = line.trim().split_once(" passed, ")?;
    let (failed, rest) = rest.split_once(" failed")?;
    let skipped = match rest.strip_prefix(", ") {
        Some(rest) => rest.strip_suffix(" skipped")?.parse().ok()?,
        None if rest.is_empty() => 0,
        None => return None,
    };
    Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()?, skipped })
}

/// Reads the last line of one of cargo's test programs.
fn cargo_test_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| -> Option<u64> {
        let field = counts.split(';').map(str::trim);
        field.filter_map(|field| field.strip_suffix(word)).find_map(|number| number.trim().parse().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")?, skipped: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_whole_line() {
        let tally = |passed, failed, skipped| Some(Tally { passed, failed, skipped });
        assert_eq!(summary_line("12 passed, 3 failed"), tally(12, 3, 0));
        assert_eq!(summary_line("12 passed, 3 failed, 4 skipped"), tally(12, 3, 4));
        assert_eq!(summary_line("12 passed, 3 failed, 4"), None);
        assert_eq!(summary_line("scenario: 12 passed, 3 failed"), None);
        assert_eq!(summary_line("12 passed"), None);
    }

    #[test]
    fn cargos_test_results_are_read() {
        let line = "test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(cargo_test_line(line), Some(Tally { passed: 7, failed: 2, skipped: 0 }));
        assert_eq!(cargo_test_line("test a::b ... ok"), None);
    }

    #[test]
    fn verdicts_add_up() {
        let mut tally = Tally::one(true);
        tally.add(Tally::one(false));
        tally.add(Tally { passed: 2, failed: 3, skipped: 5 });
        assert_eq!(tally, Tally { passed: 3, failed: 4, skipped: 5 });
    }
}
