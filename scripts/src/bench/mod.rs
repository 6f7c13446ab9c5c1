//! `cargo xtask bench`: Pilotfish against Xen's native PV disk, in one run on one machine.
//!
//! - [`host`]: what else the machine was busy with.
//! - [`plan`]: what is measured: kinds of disk, workloads, rounds.
//! - [`sample`]: what dom0 tells of each span, read.
//! - [`stats`]: medians, ranges, and ratios of what was measured in the same round.
//! - [`targets`]: what the project wants to reach, beside what was measured.
//! - [`table`], [`plot`], [`report`]: the result as text, as SVG and as JSON.
//!
//! The other sides are `tests/bench/bench.sh` (dom0), `tests/bench/guest/bench.sh` (guest) and
//! `tests/src/bin/meter.rs` (CPU times). How to read the result: `docs/performance.md`.

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
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::host::{Others, TOO_MUCH};
use crate::bench::plan::Plan;
use crate::bench::report::Report;
use crate::bench::sample::Measured;
use crate::protocol::Event;
use crate::setup;
use crate::system::{self, Options};
use crate::{build, paths, toolchain, ui};

const SCENARIO: &str = "bench";
/// Memory of the machine: room for a guest of 4 GiB.
const MACHINE_MIB: u32 = 8192;

/// Runs the benchmark; true when all that was planned was measured, whatever the figures.
///
/// # Errors
/// When set-up, build or boot fail, or nothing came of the measurement.
pub fn run(plan: &Plan, options: &Options) -> Result<bool> {
    ui::heading("Set-up");
    setup::packages::ensure()?;
    let toolchain = toolchain::detect()?;
    let fixture = setup::fixture(options.xen)?;
    let tools = setup::tools(fixture.version)?;
    ui::heading("Build");
    let mut products = build::all(&toolchain)?;
    products.hostile.push(build::program(&toolchain, "set-target")?);
    products.hostile.push(build::program(&toolchain, "meter")?);
    let mut options = options.clone();
    options.memory_mib = MACHINE_MIB;
    options.tools = Some(tools);
    options.files.push(("pf/bench.conf", plan.config()));
    ui::heading("Run");
    let started = Instant::now();
    let mut agent = system::boot(&fixture, &products, &options)?;
    let spans = plan.spans();
    let what = format!("{spans} spans of {} s in {} rounds", plan.seconds, plan.rounds);
    let mut others = Others::than(agent.pid());
    let mut disturbed = BTreeMap::new();
    let outcome = ui::step(what, |step| {
        let mut seen = 0;
        agent.run(SCENARIO, limit(plan), |event| match event {
            Event::Fact { key, .. } if key.starts_with("m.") => {
                seen += 1;
                if let Some(cpus) = others.since_last() {
                    disturbed.insert(key.clone(), cpus);
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
    let mut measured = Measured::read(&outcome.facts);
    measured.set_aside(|key| disturbed.get(key).is_some_and(|&cpus| cpus > TOO_MUCH));
    let report = Report {
        plan: plan.clone(),
        measured,
        facts: outcome.facts.clone(),
        others: disturbed,
        image_bytes: products.image_bytes(),
        cpu: options.cpu.clone(),
        xen: fixture.xen_version.clone(),
        complete: outcome.passed(),
        wall: started.elapsed(),
    };
    for line in outcome.lines.iter().filter(|_| !report.complete) {
        println!("    {line}");
    }
    write(&report)?;
    Ok(report.complete)
}

/// What dom0 may take: each span has a start of fio before it.
#[must_use]
pub fn limit(plan: &Plan) -> Duration {
    let spans = u32::try_from(plan.spans()).unwrap_or(u32::MAX);
    Duration::from_secs(180) + Duration::from_secs_f64(plan.seconds + 4.0) * spans
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
