//! One run of a scenario that measures: set-up, build, boot, and what dom0 told.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use pilotfish_tests::flask;
use xtask::agent::{Outcome, Patience};
use xtask::build::Products;
use xtask::protocol::Event;
use xtask::setup::Fixture;
use xtask::system::{self, Options};
use xtask::{build, interrupt, process, setup, ui};

use crate::others::{Others, TOO_MUCH};

/// Memory of the machine: room for a guest of 4 GiB.
const MACHINE_MIB: u32 = 8192;

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
    pub fn for_tests(facts: BTreeMap<String, String>) -> Self {
        let (cpu, xen, date) = ("cortex-a57".to_owned(), "4.20.4".to_owned(), "2026-11-26".to_owned());
        let outcome = Outcome { facts, ..Outcome::default() };
        Self { outcome, others: BTreeMap::new(), image_bytes: 0, cpu, xen, date, wall: Duration::ZERO }
    }
}

/// A scenario that is to measure.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Its name.
    pub scenario: &'a str,
    /// `/pf/bench.conf` for it.
    pub config: &'a str,
    /// What it measures, as the user reads it.
    pub what: &'a str,
    /// How many spans it measures.
    pub spans: usize,
    /// How long it may take.
    pub limit: Duration,
    /// Whether a guest grants its memory.
    pub grants: bool,
    /// Whether Xen enforces a FLASK policy.
    pub flask: bool,
}

/// What a job needs of the set-up, and its machine.
fn ready(job: Job<'_>, options: &Options) -> Result<(Fixture, Products, Options)> {
    ui::heading("Set-up");
    setup::packages::ensure()?;
    let toolchain = setup::toolchain()?;
    let fixture = setup::fixture(options.xen)?;
    let mut options = options.clone();
    options.memory_mib = MACHINE_MIB;
    options.tools = Some(setup::tools(fixture.version)?);
    options.grant_kernel = job.grants.then(setup::grant_kernel).transpose()?;
    options.flask_policy = job.flask.then(|| flask::policy(&fixture, false)).transpose()?;
    options.files.push(("pf/bench.conf", job.config.to_owned()));
    ui::heading("Build");
    let mut products = build::all(&toolchain)?;
    products.hostile.push(build::program(&toolchain, "pilotfish-tests", "set-target")?);
    products.hostile.push(build::program(&toolchain, "pilotfish-meter", "meter")?);
    Ok((fixture, products, options))
}

/// Sets up, builds, boots and runs a scenario.
///
/// # Errors
/// When set-up, build or boot fail.
pub fn measure(job: Job<'_>, options: &Options) -> Result<Run> {
    let Job { scenario, what, spans, limit, .. } = job;
    let (fixture, products, options) = ready(job, options)?;
    ui::heading("Run");
    let date = process::output(Command::new("date").arg("+%F"))?.trim().to_owned();
    let started = Instant::now();
    let mut agent = system::boot(&fixture, &products, &options)?;
    let mut watch = Others::than(agent.pid());
    let mut others = BTreeMap::new();
    let outcome = ui::step(what, |step| {
        let mut seen = 0;
        agent.run(scenario, Patience::of(limit), |event| match event {
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
