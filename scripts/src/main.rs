//! The command line of `cargo xtask`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use xtask::bench::curves;
use xtask::bench::curves::plan::Curve;
use xtask::bench::plan::Plan;
use xtask::check::step::Step;
use xtask::setup::XenVersion;
use xtask::system::Options;
use xtask::{bench, build, check, clean, demo, interrupt, lint, setup, shell, ui};

/// Sets up, builds, runs and tests Pilotfish, a stub domain that serves disks on Xen.
///
/// On a clean Debian 12 or 13 machine, `cargo xtask demo` shows it at work and
/// `cargo xtask test` runs every test; both do the set-up they need on their way.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, build Xen, fetch dom0 and guest; all kept in a cache.
    ///
    /// Packages come by apt-get (as root or through sudo; none of it when all are
    /// there). Xen and the userlands go to $XDG_CACHE_HOME/pilotfish, are reused, and
    /// are safe to delete. Debian has no Xen 4.22: where its release tarball (xen-4.22.N.tar.gz)
    /// lies in the cache's folder sources/, Xen and its tools are built from it, in some two
    /// minutes; else that version is left out. The mirror is the one apt is configured with, or
    /// $PILOTFISH_MIRROR. $PILOTFISH_TOOLCHAIN (rustup or debian) forces a compiler.
    Setup {
        /// Only this Xen version (default: every one that can be had).
        #[arg(long, value_name = "VERSION")]
        xen: Option<XenVersion>,
    },
    /// Build the stub image, the hostile images and the dom0 daemon.
    Build,
    /// Show the main job: a guest on Xen in QEMU whose disks the stub serves.
    ///
    /// Writes target/demo.json; the console's log is target/logs/demo.log.
    Demo {
        #[command(flatten)]
        machine: Machine,
    },
    /// Boot the same system and leave you at a dom0 prompt.
    ///
    /// Ctrl-] ends it at once, `poweroff` ends it orderly.
    Shell {
        #[command(flatten)]
        machine: Machine,
        /// Without the stub and its daemon: only Xen, dom0 and its tools.
        #[arg(long)]
        bare: bool,
    },
    /// Run one scenario of tests/qemu and show all it prints.
    Run {
        /// Its name: tests/qemu/NAME.sh.
        name: String,
        #[command(flatten)]
        machine: Machine,
        /// Without the stub and its daemon: only Xen, dom0 and its tools.
        #[arg(long)]
        bare: bool,
    },
    /// Compare Pilotfish with Xen's native PV disk: rates, CPU times, bare round trips.
    ///
    /// One guest does the same I/O (fio) on a native PV disk, on a disk of its stub over
    /// the same kind of backing, and on one in the stub's memory, in turns; dom0 looks at
    /// everybody's CPU time. Another guest, whose memory was used before, does what guests do: reads and
    /// writes through the page cache, files on ext4, mixed loads. Prints the figures beside the project's targets, and writes
    /// target/bench.json (every raw number) and target/bench/ (tables, SVG). Ends well when
    /// all was measured, whatever the figures. Leave the machine alone meanwhile. What the
    /// figures mean: docs/performance.md.
    ///
    /// With --curves it measures instead how cost grows with depth, size and number; the result is
    /// target/bench/curves.md, curves.json and curve-*.svg.
    Bench(BenchArgs),
    /// Run every check: format, lints, docs, host tests, fuzz targets, QEMU scenarios.
    Test {
        /// Only these steps (default: all, in this order).
        #[arg(value_name = "STEP")]
        steps: Vec<Step>,
        /// Only what needs no QEMU.
        #[arg(long, conflicts_with_all = ["qemu_only", "steps"])]
        host_only: bool,
        /// Only the QEMU scenarios.
        #[arg(long, conflicts_with = "steps")]
        qemu_only: bool,
        /// Only this QEMU scenario (of the step qemu alone).
        #[arg(long, value_name = "NAME", conflicts_with_all = ["steps", "host_only"])]
        scenario: Option<String>,
        /// Only this Xen version, with all its scenarios (default: 4.17, 4.20, and the core of
        /// them on 4.22 where its tarball is there).
        #[arg(long, value_name = "VERSION")]
        xen: Option<XenVersion>,
    },
    /// Tell what breaks a rule that no compiler checks: circles of modules, long files and functions.
    Lint,
    /// Remove what was built; the cache stays unless asked for.
    Clean {
        /// Remove the cache outside the checkout too.
        #[arg(long)]
        cache: bool,
    },
}

#[derive(Args)]
struct Machine {
    /// Xen version to boot (default: the newest that Debian ships and whose source can be had).
    #[arg(long, value_name = "VERSION")]
    xen: Option<XenVersion>,
    /// QEMU's CPU model.
    #[arg(long, default_value = xtask::qemu::DEFAULT_CPU)]
    cpu: String,
    /// Give up after this many seconds (the shell has no limit unless given).
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl Machine {
    fn options(&self, log: &str, default_timeout: Duration) -> Options {
        let mut options = Options::new(self.xen, log);
        options.cpu.clone_from(&self.cpu);
        options.timeout = self.timeout.map_or(default_timeout, Duration::from_secs);
        options
    }
}

#[derive(Args)]
struct BenchArgs {
    /// How often each disk meets each workload (default: 5; quick: 2; curves: 3).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Length of each measurement, without fio's start and end (default: 1.5; quick: 1; curves: 0.8).
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Few rounds and workloads, for a look: some three minutes.
    #[arg(long)]
    quick: bool,
    /// vCPUs of the guest.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    vcpus: u32,
    /// Only these workloads, e.g. randread-4k-16,write-1024k-4,cached-read,ext4-fsync-8k.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    workloads: Vec<String>,
    /// How cost grows: all curves, or these of depth, block-size, vcpus, disks, guests, map.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', num_args = 0.., conflicts_with_all = ["quick", "vcpus", "workloads"])]
    curves: Option<Vec<Curve>>,
    #[command(flatten)]
    machine: Machine,
}

impl BenchArgs {
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
        Ok(plan)
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Setup { xen } => {
            let ready = setup::ensure(xen)?;
            ui::heading(format!("ready: toolchain by {:?}", ready.toolchain.way));
            for fixture in &ready.fixtures {
                ui::heading(format!("ready: Xen {}, Linux {}", fixture.xen_version, fixture.kernel_release));
            }
            for missing in &ready.missing {
                ui::heading(format!("left out: {}", missing.why));
            }
            Ok(true)
        }
        Command::Build => {
            setup::packages::ensure()?;
            let products = build::all(&setup::toolchain()?)?;
            for built in products.image.iter().chain(&products.daemon).chain(&products.hostile) {
                println!("built {}", built.display());
            }
            Ok(true)
        }
        Command::Demo { machine } => demo::run(&machine.options("demo", Duration::from_secs(300))),
        Command::Shell { machine, bare } => {
            shell::run(&machine.options("shell", Duration::MAX), bare).map(|()| true)
        }
        Command::Run { name, machine, bare } => {
            let options = machine.options(&format!("run-{name}"), Duration::from_secs(600));
            shell::scenario(&options, &name, bare, Duration::from_secs(240))
        }
        Command::Bench(args) => {
            if let Some(plan) = args.curves()? {
                let limit = plan.limit() + Duration::from_secs(240);
                return curves::run(&plan, &args.machine.options("curves", limit));
            }
            let plan = args.plan()?;
            let limit = bench::limit(&plan) + Duration::from_secs(240);
            bench::run(&plan, &args.machine.options("bench", limit))
        }
        Command::Test { steps, host_only, qemu_only, scenario, xen } => {
            let wanted = |step: &Step| match step {
                Step::Qemu => !host_only,
                _ => !qemu_only && scenario.is_none(),
            };
            let all = Step::ALL.into_iter().filter(wanted).collect();
            let steps = if steps.is_empty() { all } else { steps };
            check::run(&check::Selection { steps, scenario, xen })
        }
        Command::Lint => lint::run(),
        Command::Clean { cache } => clean::run(cache).map(|()| true),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = interrupt::install().and_then(|()| run(cli.command));
    match result {
        _ if interrupt::seen() => {
            eprintln!("interrupted; what was finished stays in the cache");
            ExitCode::from(interrupt::EXIT_STATUS)
        }
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
