//! Runs the QEMU scenarios and ends with a line `N passed, N failed` (and `, N skipped`).
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use pilotfish_tests::manifest::SCENARIOS;
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
    /// List the scenarios and the rule that each states.
    #[arg(long)]
    list: bool,
}

fn run(cli: Cli) -> Result<bool> {
    if cli.list {
        for scenario in SCENARIOS {
            let long = if scenario.long { " (long: only by name)" } else { "" };
            println!("{:<20} {}{long}", scenario.name, scenario.rule);
        }
        return Ok(true);
    }
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
    Ok(failed == 0 && passed > 0)
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
