//! `cargo xtask bench`: Pilotfish against Xen's native PV disk, in one run on one machine.
//!
//! - [`host`]: what else the machine was busy with.
//! - [`plan`]: what is measured: kinds of disk, workloads, rounds.
//! - [`sample`]: what dom0 tells of each span, read.
//! - [`stats`]: medians, ranges, and ratios of what was measured in the same round.
//! - [`targets`]: what the project wants to reach, beside what was measured.
//! - [`table`], [`plot`], [`report`]: the result as text, as SVG and as JSON.
//! - [`buffered`]: what guests do, and latencies, measured in a guest of its own.
//! - [`curves`]: how cost grows, measured in a run of its own.
//!
//! The other sides are `tests/bench/bench.sh` (dom0), `tests/bench/guest/bench.sh` (guest) and
//! `tests/src/bin/meter/` (CPU times). How to read the result: `docs/performance.md`.

pub mod buffered;
pub mod curves;
pub mod host;
pub mod plan;
pub mod plot;
pub mod report;
pub mod sample;
pub mod stats;
pub mod table;
pub mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::agent::Outcome;
use crate::bench::host::{Others, TOO_MUCH};
use crate::bench::plan::Plan;
use crate::bench::report::Report;
use crate::bench::sample::Measured;
use crate::protocol::Event;
use crate::setup;
use crate::system::{self, Options};
use crate::{build, interrupt, paths, process, ui};

const SCENARIO: &str = "bench";
/// Memory of the machine: room for a guest of 4 GiB.
const MACHINE_MIB: u32 = 8192;

/// Runs the benchmark; true when all that was planned was measured, whatever the figures.
///
/// # Errors
/// When set-up, build or boot fail, or nothing came of the measurement.
pub fn run(plan: &Plan, options: &Options) -> Result<bool> {
    let spans = plan.spans();
    let what = format!("{spans} spans of {} s in {} rounds", plan.seconds, plan.rounds);
    let run = measure(SCENARIO, &plan.config(), &what, spans, limit(plan), options)?;
    let mut measured = Measured::read(&run.outcome.facts);
    measured.set_aside(|key| run.is_disturbed(key));
    let report = Report {
        plan: plan.clone(),
        measured,
        complete: run.outcome.passed(),
        facts: run.outcome.facts,
        others: run.others,
        image_bytes: run.image_bytes,
        cpu: run.cpu,
        xen: run.xen,
        wall: run.wall,
    };
    write(&report)?;
    Ok(report.complete)
}

/// A scenario that measured.
#[derive(Debug)]
pub struct Run {
    /// What dom0 told.
    pub outcome: Outcome,
    /// CPUs that others on this machine took while a fact of this key came about.
    pub others: BTreeMap<String, f64>,
    /// Size of the stub's image.
    pub image_bytes: u64,
    /// QEMU's CPU model.
    pub cpu: String,
    /// Xen's version.
    pub xen: String,
    /// The day.
    pub date: String,
    /// How long it took.
    pub wall: Duration,
}

impl Run {
    /// Whether others spoiled the span that this fact tells of.
    #[must_use]
    pub fn is_disturbed(&self, key: &str) -> bool {
        self.others.get(key).is_some_and(|&cpus| cpus > TOO_MUCH)
    }

    /// A fact, verbatim.
    #[must_use]
    pub fn fact(&self, key: &str) -> &str {
        self.outcome.facts.get(key).map_or("not told", String::as_str)
    }

    #[cfg(test)]
    fn for_tests(facts: BTreeMap<String, String>) -> Self {
        let (cpu, xen, date) = ("cortex-a57".to_owned(), "4.20.4".to_owned(), "2026-11-26".to_owned());
        let outcome = Outcome { facts, ..Outcome::default() };
        Self { outcome, others: BTreeMap::new(), image_bytes: 0, cpu, xen, date, wall: Duration::ZERO }
    }
}

/// Sets up, builds, boots and runs a scenario that measures `spans` spans; `config` is
/// `/pf/bench.conf` for it.
fn measure(
    scenario: &str,
    config: &str,
    what: &str,
    spans: usize,
    limit: Duration,
    options: &Options,
) -> Result<Run> {
    ui::heading("Set-up");
    setup::packages::ensure()?;
    let toolchain = setup::toolchain()?;
    let fixture = setup::fixture(options.xen)?;
    let tools = setup::tools(fixture.version)?;
    ui::heading("Build");
    let mut products = build::all(&toolchain)?;
    products.hostile.push(build::program(&toolchain, "set-target")?);
    products.hostile.push(build::program(&toolchain, "meter")?);
    let mut options = options.clone();
    options.memory_mib = MACHINE_MIB;
    options.tools = Some(tools);
    options.files.push(("pf/bench.conf", config.to_owned()));
    ui::heading("Run");
    let date = process::output(Command::new("date").arg("+%F"))?.trim().to_owned();
    let started = Instant::now();
    let mut agent = system::boot(&fixture, &products, &options)?;
    let mut watch = Others::than(agent.pid());
    let mut others = BTreeMap::new();
    let outcome = ui::step(what, |step| {
        let mut seen = 0;
        agent.run(scenario, limit, |event| match event {
            Event::Fact { key, .. } if key.starts_with("m.") => {
                seen += 1;
                if let Some(cpus) = watch.since_last() {
                    others.insert(key.clone(), cpus);
                }
                step.say(format!("{seen} of {spans}: {key}"));
            }
            Event::Check { passed: false, what } => step.note(format!("✗ {what}")),
            Event::Text(line) => step.say(line),
            _ => {}
        })
    })?;
    // At once: a large guest's memory would be cleared first, and nobody needs that.
    drop(agent);
    // Half a result would take the place of the last whole one.
    interrupt::check()?;
    for line in outcome.lines.iter().filter(|_| !outcome.passed()) {
        println!("    {line}");
    }
    Ok(Run {
        outcome,
        others,
        image_bytes: products.image_bytes(),
        cpu: options.cpu,
        xen: fixture.xen_version,
        date,
        wall: started.elapsed(),
    })
}

/// What dom0 may take: each span has a start of fio before it.
#[must_use]
pub fn limit(plan: &Plan) -> Duration {
    let spans = u32::try_from(plan.spans()).unwrap_or(u32::MAX);
    Duration::from_secs(240) + Duration::from_secs_f64(plan.seconds * buffered::LATENCY_SPANS + 6.0) * spans
}

/// Prints the report and writes its files.
fn write(report: &Report) -> Result<()> {
    print!("{}", report.text());
    let dir = paths::target().join("bench");
    fs::create_dir_all(&dir)?;
    let json = paths::target().join("bench.json");
    fs::write(&json, format!("{:#}\n", report.json()))
        .with_context(|| format!("cannot write {}", json.display()))?;
    let table = dir.join("result.md");
    fs::write(&table, report.text())?;
    println!("\n  {}\n  {}", json.display(), table.display());
    for (name, draw) in [("ratios.svg", plot::ratios as plot::Draw), ("cpu.svg", plot::cpu)] {
        let path = dir.join(name);
        draw(&report.measured, &report.plan, &path)?;
        println!("  {}", path.display());
    }
    Ok(())
}
