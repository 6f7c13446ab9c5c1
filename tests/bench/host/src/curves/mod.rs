//! `cargo xtask bench --curves`: how cost grows with depth, size and number.
//!
//! - [`plan`]: which curves there are, and their points.
//! - [`read`]: what dom0 tells of each point, read.
//! - `view`: the tables and pictures that they make.
//! - [`report`], [`plot`]: the result as text, as JSON and as pictures.
//!
//! The other sides are `tests/bench/dom0/curves.sh` (dom0), `tests/bench/guest/curves.sh` (Linux
//! guests) and `tests/frontend/src/load.rs` (tiny ones).

pub mod plan;
pub mod plot;
pub mod read;
pub mod report;
mod view;

use std::fs;

use anyhow::{Context, Result};
use xtask::paths;
use xtask::system::Options;

use crate::curves::plan::Plan;
use crate::curves::read::Measured;
use crate::curves::report::Report;
use crate::run::{Job, measure};

const SCENARIO: &str = "curves";

/// Measures the curves of `plan`; true when all that was planned was measured.
///
/// # Errors
/// When set-up, build or boot fail, or nothing came of the measurement.
pub fn run(plan: &Plan, options: &Options) -> Result<bool> {
    let names: Vec<&str> = plan.curves.iter().map(|curve| curve.name()).collect();
    let what = format!(
        "{}: {} spans of {} s in {} rounds",
        names.join(", "),
        plan.spans(),
        plan.seconds,
        plan.rounds
    );
    let (config, spans) = (plan.config(), plan.spans());
    let limit = plan.limit();
    let job =
        Job { scenario: SCENARIO, config: &config, what: &what, spans, limit, grants: false, flask: false };
    let run = measure(job, options)?;
    let measured = Measured::read(&run.outcome.facts, |key| run.is_disturbed(key));
    let report = Report { plan: plan.clone(), measured, run };
    write(&report)?;
    Ok(report.run.outcome.passed())
}

/// Prints the report and writes its files.
fn write(report: &Report) -> Result<()> {
    let text = report.text();
    print!("{text}");
    let dir = paths::target().join("bench");
    fs::create_dir_all(&dir)?;
    let (table, json) = (dir.join("curves.md"), dir.join("curves.json"));
    fs::write(&table, text)?;
    fs::write(&json, format!("{:#}\n", report.json()))
        .with_context(|| format!("cannot write {}", json.display()))?;
    println!("\n  {}\n  {}", table.display(), json.display());
    for (name, panels) in report.pictures() {
        let path = dir.join(format!("curve-{name}.svg"));
        plot::draw(&panels, &path)?;
        println!("  {}", path.display());
    }
    Ok(())
}
