//! Runs the QEMU scenarios and ends with a line `N passed, N failed` (and `, N skipped`).
#![forbid(unsafe_code)]

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use pilotfish_tests::attacks::table::Table;
use pilotfish_tests::attacks::{self, Suite, preambles};
use pilotfish_tests::manifest::SCENARIOS;
use pilotfish_tests::report::Verdict;
use pilotfish_tests::{report, runner};
use xtask::setup::XenVersion;
use xtask::{interrupt, paths};

/// Runs Pilotfish's scenarios on real Xen in QEMU, one verdict each.
#[derive(Parser)]
struct Cli {
    /// Only these scenarios (default: all but the long ones; on a Xen that Debian does not ship, the core).
    names: Vec<String>,
    /// Only this Xen version, with all its scenarios.
    #[arg(long, value_name = "VERSION")]
    xen: Option<XenVersion>,
    /// Only this CPU model of QEMU.
    #[arg(long)]
    cpu: Option<String>,
    /// On a machine whose Xen enforces a FLASK policy, also what usually runs without one.
    #[arg(long)]
    flask: bool,
    /// With guests that grant their memory to stubs that wait for them (mode B).
    #[arg(long)]
    grants: bool,
    /// More words for dom0's command line, for scenarios that read some.
    #[arg(long, value_name = "WORDS", default_value = "")]
    dom0_args: String,
    /// Only the suites of attacks (all, or those named), with a table of every attack.
    #[arg(long)]
    attacks: bool,
    /// List the scenarios and the rule that each states; with --attacks what each attack tries.
    #[arg(long)]
    list: bool,
}

fn run(mut cli: Cli) -> Result<bool> {
    if cli.attacks {
        let suites = attacks::named(&cli.names);
        let suites = suites.map_err(|name| anyhow!("no suite of attacks is called {name:?}"))?;
        if cli.list {
            return list_attacks(&suites);
        }
        cli.names = suites.iter().map(|suite| suite.scenario.to_owned()).collect();
        return run_scenarios(cli, |verdicts| tell_attacks(&suites, verdicts));
    }
    if cli.list {
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
    for suite in suites {
        println!("{}", suite.scenario);
        for attack in preambles::of(suite)? {
            println!("    {:<24} {}", attack.name, attack.tries);
        }
    }
    Ok(true)
}

/// The table of a run, printed and kept; whether it is a good one.
fn tell_attacks(suites: &[Suite], verdicts: &[Verdict]) -> Result<bool> {
    let table = Table::of(suites, verdicts)?;
    let dir = paths::target().join("attack");
    fs::create_dir_all(&dir)?;
    let path = dir.join("table.txt");
    fs::write(&path, table.text()).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}table: {}", table.text(), path.display());
    Ok(table.is_good())
}

/// Runs what is asked for; `more` sees all verdicts, and says whether they are good.
fn run_scenarios(cli: Cli, more: impl FnOnce(&[Verdict]) -> Result<bool>) -> Result<bool> {
    if let Some(unknown) = cli.names.iter().find(|name| SCENARIOS.iter().all(|known| known.name != **name)) {
        bail!("no scenario is called {unknown:?}; --list shows them");
    }
    interrupt::install()?;
    let Cli { names, xen, cpu, flask, grants, dom0_args, .. } = cli;
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
