//! The benchmark: Pilotfish against Xen's native PV disk, in one run on one machine. It is started
//! by `cargo xtask bench`.
//!
//! Here is the side of the machine that runs QEMU; the others are beside it:
//!
//! | where | what |
//! |---|---|
//! | `tests/bench/host/` | which workloads there are, what is made of the figures |
//! | `tests/bench/dom0/` | scripts that make the guests: `bench.sh`, `buffered.sh`, `curves.sh` |
//! | `tests/bench/guest/` | scripts of the Linux guests that do the I/O, with marks on the console |
//! | `tests/bench/meter/` | dom0's program that reads the marks and asks Xen for CPU times |
//! | `tests/frontend/src/load.rs`, `roundtrip.rs` | tiny guests: reads without end, bare round trips |
//! | `tests/hostile/src/bin/echo_stub.rs` | the stub that answers at once and does nothing else |
//!
//! A new workload is a line here (`workload.rs`, or `buffered/mod.rs` with a case in
//! `guest/buffered.sh`); fio's own are spelt out by their names.
//!
//! - [`mod@run`]: set-up, boot, and what dom0 told.
//! - [`others`]: what else the machine was busy with.
//! - [`workload`], [`plan`]: what is measured: kinds of disk, workloads, rounds.
//! - [`span`], [`work`], [`counts`]: what dom0, guests and stubs tell of each span, read.
//! - [`measured`]: all of it.
//! - [`stats`]: medians, ranges, and ratios of what was measured in the same round.
//! - [`targets`]: what the project wants to reach, beside what was measured.
//! - [`table`], [`plot`], [`report`]: the result as text, as SVG and as JSON.
//! - [`buffered`]: what guests do, and latencies, measured in a guest of its own.
//! - [`curves`]: how cost grows, measured in a run of its own.
//!
//! How to read the result: `docs/performance.md`.
#![forbid(unsafe_code)]

mod buffered;
mod counts;
mod curves;
mod measured;
mod others;
mod plan;
mod plot;
mod report;
mod run;
mod span;
mod stats;
mod table;
mod targets;
mod work;
mod workload;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use xtask::cli::{self, Machine};
use xtask::paths;
use xtask::system::Options;

use crate::curves::plan::Curve;
use crate::measured::Measured;
use crate::plan::Plan;
use crate::report::Report;

/// Compare Pilotfish with Xen's native PV disk: rates, CPU times, bare round trips.
///
/// One guest does the same I/O (fio) on a native PV disk, on a disk of its stub over
/// the same kind of backing, and on one in the stub's memory, in turns; dom0 asks Xen for
/// everybody's CPU time. Another guest, whose memory was used before, does what guests do: reads and
/// writes through the page cache, files on ext4, mixed loads. Prints the figures beside the project's targets, and writes
/// target/bench.json (every raw number) and target/bench/ (tables, SVG). Ends well when
/// all was measured, whatever the figures. Leave the machine alone meanwhile. What the
/// figures mean: docs/performance.md.
///
/// With --curves it measures instead how cost grows with depth, size and number; the result is
/// target/bench/curves.md, curves.json and curve-*.svg.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    /// How often each disk meets each workload (default: 5; quick: 2; curves: 3).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Length of each measurement, without fio's start and end (default: 1.5; quick: 1; curves: 0.8).
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Few rounds and workloads: some four minutes.
    #[arg(long)]
    quick: bool,
    /// vCPUs of the guest.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    vcpus: u32,
    /// Only these workloads, e.g. randread-4k-16,write-1024k-4,cached-read,ext4-fsync-8k.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    workloads: Vec<String>,
    /// In place of the RAM disk, and with 4 KiB alone: a second guest, which grants its memory to its stub.
    #[arg(long)]
    grants: bool,
    /// With --grants: Xen enforces a FLASK policy, so that the two guests are those of A+ and B.
    #[arg(long, requires = "grants")]
    flask: bool,
    /// An NBD server in dom0 has the data. In place of the RAM disk: the stub's own client. The others: Linux's.
    #[arg(long, conflicts_with = "grants")]
    nbd: bool,
    /// With --nbd: the MTU of all interfaces on the way to the server, the loopback device of Linux's client included.
    /// Default: as Linux has them, 1500 and for the loopback device 65536.
    #[arg(long, value_name = "BYTES", requires = "nbd", value_parser = clap::value_parser!(u16).range(1280..=9000))]
    mtu: Option<u16>,
    /// How cost grows: all curves, or these of depth, block-size, vcpus, disks, guests, map.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', num_args = 0.., conflicts_with_all = ["quick", "vcpus", "workloads", "grants", "nbd"])]
    curves: Option<Vec<Curve>>,
    #[command(flatten)]
    machine: Machine,
}

impl Cli {
    /// Which curves; none when the usual benchmark is asked for.
    fn curves(&self) -> Result<Option<curves::plan::Plan>> {
        let Some(names) = &self.curves else { return Ok(None) };
        let mut plan = curves::plan::Plan::new(names);
        plan.rounds = self.rounds.unwrap_or(plan.rounds);
        plan.seconds = self.seconds.unwrap_or(plan.seconds);
        ensure!((0.2..=600.0).contains(&plan.seconds), "--seconds is 0.2 to 600");
        Ok(Some(plan))
    }

    fn plan(&self) -> Result<Plan> {
        let mut plan = if self.quick { Plan::quick() } else { Plan::full() };
        plan.rounds = self.rounds.unwrap_or(plan.rounds);
        plan.seconds = self.seconds.unwrap_or(plan.seconds);
        ensure!((0.2..=600.0).contains(&plan.seconds), "--seconds is 0.2 to 600");
        plan.vcpus = self.vcpus;
        if !self.workloads.is_empty() {
            plan.keep(&self.workloads)?;
        }
        if self.grants {
            plan.with_grants(!self.workloads.is_empty());
            ensure!(!plan.workloads.is_empty(), "none of these workloads is of the guests of --grants");
        }
        if self.nbd {
            plan.with_nbd(self.mtu);
        }
        Ok(plan)
    }
}

const SCENARIO: &str = "bench";

/// Runs the benchmark, with `flask` under a policy; true when all that was planned was measured, whatever the figures.
///
/// # Errors
/// When set-up, build or boot fail, or nothing came of the measurement.
pub fn run(plan: &Plan, flask: bool, options: &Options) -> Result<bool> {
    let spans = plan.spans();
    let what = format!("{spans} spans of {} s in {} rounds", plan.seconds, plan.rounds);
    let config = plan.config();
    let (limit, grants) = (plan.limit(), plan.grants());
    let job = run::Job { scenario: SCENARIO, config: &config, what: &what, spans, limit, grants, flask };
    let run = run::measure(job, options)?;
    let mut measured = Measured::read(&run.outcome.facts);
    measured.set_aside(|key| run.is_disturbed(key));
    let report = Report {
        plan: plan.clone(),
        measured,
        complete: run.outcome.passed(),
        facts: run.outcome.facts,
        others: run.others,
        image_bytes: run.image_bytes,
        flask,
        cpu: run.cpu,
        xen: run.xen,
        wall: run.wall,
    };
    write(&report)?;
    Ok(report.complete)
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::main(|| {
        if let Some(plan) = cli.curves()? {
            let limit = plan.limit() + Duration::from_secs(240);
            return curves::run(&plan, &cli.machine.options("curves", limit));
        }
        let plan = cli.plan()?;
        let limit = plan.limit() + Duration::from_secs(240);
        run(&plan, cli.flask, &cli.machine.options("bench", limit))
    })
}
