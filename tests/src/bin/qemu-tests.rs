//! Runs the QEMU scenarios and ends with a line `N passed, N failed` (and `, N skipped`).
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write as _, stdout};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use pilotfish_tests::attacks::record::Record;
use pilotfish_tests::attacks::table::{Part, Table};
use pilotfish_tests::attacks::{self, Suite, preambles};
use pilotfish_tests::manifest::SCENARIOS;
use pilotfish_tests::report::Verdict;
use pilotfish_tests::{report, runner};
use xtask::attack::AttackOptions;
use xtask::setup::XenVersion;
use xtask::{interrupt, paths, process};

/// Runs Pilotfish's scenarios on real Xen in QEMU, one verdict each.
#[derive(Parser)]
struct Cli {
    /// Only these scenarios (default: all but the long ones; on a Xen that Debian does not ship, the core).
    names: Vec<String>,
    /// Only this Xen version, with all its scenarios.
    #[arg(long, value_name = "VERSION")]
    xen: Option<XenVersion>,
    /// More words for dom0's command line, for scenarios that read some.
    #[arg(long, value_name = "WORDS", default_value = "")]
    dom0_args: String,
    /// Only the suites of attacks (all, or those named), with a table of every attack.
    #[arg(long)]
    attacks: bool,
    #[command(flatten)]
    more: AttackOptions,
}

fn run(mut cli: Cli) -> Result<bool> {
    if cli.attacks {
        let AttackOptions { list, document, write, flask, grants, .. } = cli.more;
        let suites = attacks::named(&cli.names);
        let suites = suites.map_err(|name| anyhow!("no suite of attacks is called {name:?}"))?;
        return match (list, document) {
            (true, _) => list_attacks(&suites),
            (_, true) => attacks::keep([]).map(|()| true),
            _ => {
                cli.names = suites.iter().map(|suite| suite.scenario.to_owned()).collect();
                announce(&suites, flask, grants)?;
                run_scenarios(cli, |verdicts| tell_attacks(&suites, verdicts, write))
            }
        };
    }
    if cli.more.write || cli.more.document {
        bail!("--write and --document are for --attacks");
    }
    if cli.more.list {
        for scenario in SCENARIOS {
            let long = if scenario.long { " (long: only by name)" } else { "" };
            println!("{:<20} {}{long}", scenario.name, scenario.rule);
        }
        return Ok(true);
    }
    run_scenarios(cli, |_| Ok(true))
}

/// What each attack of these suites tries.
fn list_attacks(suites: &[Suite]) -> Result<bool> {
    let mut text = String::new();
    for suite in suites {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}", suite.scenario);
        for attack in preambles::of(suite)? {
            let _ = writeln!(text, "    {:<24} {}", attack.name, attack.tries);
        }
    }
    match stdout().write_all(text.as_bytes()) {
        // Whoever reads it may have seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(true),
    }
}

/// Tells what is to come, and how long it took when it was done last.
fn announce(suites: &[Suite], flask: bool, grants: bool) -> Result<()> {
    let records = attacks::records()?;
    let (mut attacks, mut seconds, mut unknown) = (0, 0, 0);
    for suite in suites {
        attacks += preambles::of(suite)?.len();
        let here = |run: &&&Record| {
            !(flask || grants) || (run.place.has_policy(), grants) == (flask, run.place.grants())
        };
        let took: u64 = records.of(suite.scenario).iter().filter(here).map(|run| run.seconds).sum();
        seconds += took;
        unknown += u32::from(took == 0);
    }
    let more = if unknown > 0 { format!("; {unknown} suites were never timed there") } else { String::new() };
    let minutes = seconds.div_ceil(60);
    println!("{} suites, {attacks} attacks; they took {minutes} min when they ran last{more}", suites.len());
    println!(
        "Each suite is told as it ends, the table at the end. Ctrl-C ends all of it, and the machine with it."
    );
    Ok(())
}

/// The table of a run, printed and kept; whether it is a good one.
fn tell_attacks(suites: &[Suite], verdicts: &[Verdict], write: bool) -> Result<bool> {
    let table = Table::of(suites, verdicts)?;
    let dir = paths::target().join("attack");
    fs::create_dir_all(&dir)?;
    let path = dir.join("table.txt");
    fs::write(&path, table.text()).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}table: {}", table.text(), path.display());
    let good = table.is_good();
    if write {
        let date = process::output(Command::new("date").arg("+%F"))?;
        attacks::keep(table.records(date.trim()))?;
        println!("kept in {} and {}", attacks::records_path().display(), attacks::document_path().display());
    }
    Ok(good)
}

/// What came of a suite's attacks, if it is one, in one line.
fn attacks_of(verdict: &Verdict) -> Option<String> {
    let suites = attacks::named(&[verdict.scenario.name.to_owned()]).ok()?;
    let suite = suites.first()?;
    Some(Part::of(suite.scenario, &preambles::of(suite).ok()?, verdict).line())
}

/// Runs what is asked for; `more` sees all verdicts, and says whether they are good.
fn run_scenarios(cli: Cli, more: impl FnOnce(&[Verdict]) -> Result<bool>) -> Result<bool> {
    if let Some(unknown) = cli.names.iter().find(|name| SCENARIOS.iter().all(|known| known.name != **name)) {
        bail!("no scenario is called {unknown:?}; --list shows them");
    }
    interrupt::install()?;
    let Cli { names, xen, dom0_args, more: AttackOptions { cpu, flask, grants, .. }, .. } = cli;
    let selection = runner::Selection { names, xen, cpu, flask, grants, dom0_args };
    if selection.is_empty() {
        bail!(
            "nothing to run: no such scenario runs on that Xen and CPU; tests/src/manifest.rs says where each runs"
        );
    }
    let left_out = selection.left_out();
    let logs = paths::logs().join("scenarios");
    let runner::Run { verdicts, skipped } = runner::run(&selection, |verdict| {
        println!("{}", verdict.line());
        if let Some(line) = attacks_of(verdict) {
            println!("{line}");
        }
        match verdict.write_log(&logs) {
            Ok(path) if !verdict.passed() => println!("        log: {}", path.display()),
            Ok(_) => {}
            Err(error) => println!("        no log: {error:#}"),
        }
    })?;
    report::write_json(&verdicts, &paths::target().join("tests.json"))?;
    let ran = |xen| verdicts.iter().any(|verdict| verdict.xen == xen);
    for (xen, count) in left_out.into_iter().filter(|&(xen, _)| ran(xen)) {
        println!("Xen {xen}: {count} scenarios left out of a usual run; --xen {xen} runs them all");
    }
    let passed = verdicts.iter().filter(|verdict| verdict.passed()).count();
    let failed = verdicts.len() - passed;
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    println!("{passed} passed, {failed} failed{skipped}");
    Ok(more(&verdicts)? && failed == 0 && passed > 0)
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        _ if interrupt::seen() => ExitCode::from(interrupt::EXIT_STATUS),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
