//! Boots machines and runs scenarios on them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use xtask::agent::{Agent, Outcome};
use xtask::build::{self, Products};
use xtask::setup::source::NoSource;
use xtask::setup::{self, Fixture, XenVersion};
use xtask::system::{self, Options};
use xtask::{interrupt, ui};

use crate::flask;
use crate::manifest::{BOOTS_BY_U_BOOT, INSTALLS_DEBIAN, SCENARIOS, WALKS};
use crate::privileges;
use crate::progress::Progress;
use crate::report::Verdict;
use crate::scenario::{Board, Boot, Scenario};

/// The package with the tests' programs for dom0 and guests.
const PACKAGE: &str = "pilotfish-tests";
/// The one with what a stub's network may meet.
const NETWORK_PACKAGE: &str = "pilotfish-hostile-net";
/// Time for a boot and for what the agent does between scenarios.
const OVERHEAD: Duration = Duration::from_secs(240);
/// Boots that fail one after the other before the rest of a machine's scenarios is given up.
const BOOTS_IN_VAIN: u32 = 2;

/// Which scenarios to run, where.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only these, by name; the usual ones if empty.
    pub names: Vec<String>,
    /// Only on this Xen, and then also those that are not usual there, but not the long ones.
    pub xen: Option<XenVersion>,
    /// Only on this CPU model.
    pub cpu: Option<String>,
    /// Each on its machines with a FLASK policy, whether or not it usually has one.
    pub flask: bool,
    /// Each with guests that grant their memory.
    pub grants: bool,
    /// More words for dom0's command line, for scenarios that read some.
    pub dom0_args: String,
}

impl Selection {
    fn wants(&self, scenario: &Scenario, xen: XenVersion, board: Board) -> bool {
        let selected = if self.names.is_empty() {
            scenario.is_usual(xen) || self.xen.is_some() && !scenario.long
        } else {
            self.names.iter().any(|name| name == scenario.name)
        };
        selected
            && self.boards(scenario, xen).any(|on| on == board)
            && self.cpu.as_deref().is_none_or(|only| only == board.cpu)
            && self.xen.is_none_or(|only| only == xen)
    }

    /// The machines on which a scenario may run with this Xen.
    fn boards(&self, scenario: &Scenario, xen: XenVersion) -> impl Iterator<Item = Board> {
        scenario.boards(xen).map(|board| board.machine(self.flask, self.grants))
    }

    /// Whether no scenario runs where it is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.machines().is_empty()
    }

    /// For each Xen whose scenarios are not all selected for want of time: how many are left out.
    #[must_use]
    pub fn left_out(&self) -> Vec<(XenVersion, usize)> {
        let missing = |xen: XenVersion| {
            let here = || SCENARIOS.iter().filter(|s| s.xens.contains(&xen) && !s.long);
            here().count() - here().filter(|s| s.is_usual(xen)).count()
        };
        let whole = !self.names.is_empty() || self.xen.is_some();
        XenVersion::ALL.into_iter().map(|xen| (xen, missing(xen))).filter(|&(_, n)| !whole && n > 0).collect()
    }

    /// The machines to boot, each with what runs on it.
    fn machines(&self) -> Vec<Load> {
        let mut boards: Vec<Board> = Vec::new();
        for board in XenVersion::ALL
            .into_iter()
            .flat_map(|xen| SCENARIOS.iter().flat_map(move |scenario| self.boards(scenario, xen)))
        {
            if !boards.contains(&board) {
                boards.push(board);
            }
        }
        let mut machines = Vec::new();
        for xen in XenVersion::ALL {
            for &board in &boards {
                let wanted = SCENARIOS.iter().filter(|scenario| self.wants(scenario, xen, board));
                let (shared, own): (Vec<Scenario>, Vec<Scenario>) =
                    wanted.copied().partition(|scenario| scenario.boot == Boot::Shared);
                if !shared.is_empty() {
                    machines.push((xen, board, shared));
                }
                machines.extend(own.into_iter().map(|scenario| (xen, board, vec![scenario])));
            }
        }
        machines
    }
}

/// A machine, and what runs on it.
type Load = (XenVersion, Board, Vec<Scenario>);

/// What some scenarios boot beyond the fixture. None: no scenario wants it, or it cannot be had.
#[derive(Default)]
struct Extras {
    u_boot: Option<PathBuf>,
    grant_kernel: Option<PathBuf>,
}

/// Whether a machine of that board needs the kernel that grants its pages for a scenario.
fn wants_grant_kernel(board: Board, scenario: &Scenario) -> bool {
    board.grants || scenario.wants_grant_kernel()
}

/// Makes or finds what a scenario that is `wanted` boots, if there is such a scenario. Those are taken out,
/// and counted, if its source cannot be had.
fn extra(
    machines: &mut Vec<Load>,
    wanted: fn(Board, &Scenario) -> bool,
    make: fn() -> Result<PathBuf>,
) -> Result<(Option<PathBuf>, usize)> {
    let of = |(_, board, scenarios): &Load| {
        scenarios.iter().filter(|one| wanted(*board, one)).map(|one| one.name).collect::<Vec<_>>()
    };
    let mut names: Vec<&str> = machines.iter().flat_map(of).collect();
    if names.is_empty() {
        return Ok((None, 0));
    }
    let missing = match make() {
        Ok(image) => return Ok((Some(image), 0)),
        Err(error) => error.downcast::<NoSource>()?,
    };
    let count = names.len();
    names.dedup();
    println!("skip  {}: {missing}", names.join(", "));
    for (_, board, scenarios) in &mut *machines {
        scenarios.retain(|scenario| !wanted(*board, scenario));
    }
    machines.retain(|(.., scenarios)| !scenarios.is_empty());
    Ok((None, count))
}

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// One for each scenario and machine that ran.
    pub verdicts: Vec<Verdict>,
    /// Scenarios whose Xen cannot be had here.
    pub skipped: usize,
}

/// Sets up, builds, and runs everything selected; `on_verdict` sees each verdict at once.
///
/// # Errors
/// When the set-up or a build fails, or on Ctrl-C. A machine that does not boot is no error:
/// its scenarios fail.
pub fn run(selection: &Selection, mut on_verdict: impl FnMut(&Verdict)) -> Result<Run> {
    let mut machines = selection.machines();
    let ready = setup::ensure(selection.xen)?;
    let (u_boot, no_u_boot) = extra(&mut machines, |_, one| one.name == BOOTS_BY_U_BOOT, setup::u_boot)?;
    let (grant_kernel, no_grants) = extra(&mut machines, wants_grant_kernel, setup::grant_kernel)?;
    let (extras, mut skipped) = (Extras { u_boot, grant_kernel }, no_u_boot + no_grants);
    let mut products = build::all(&ready.toolchain)?;
    // They go where the hostile images go: scenarios run them in dom0 as they launch those.
    products.hostile.push(build::program(&ready.toolchain, PACKAGE, "set-target")?);
    for name in ["hostile-nbd", "hostile-frames"] {
        products.hostile.push(build::program(&ready.toolchain, NETWORK_PACKAGE, name)?);
    }
    let power_failure = build::program(&ready.toolchain, PACKAGE, "power-failure")?;
    products.hostile.push(power_failure.clone());
    products.guest.push(power_failure);
    let mut verdicts = Vec::new();
    for (xen, board, scenarios) in machines {
        if let Some(missing) = ready.missing.iter().find(|missing| missing.version == xen) {
            skipped += scenarios.len();
            println!("skip  {} scenarios on {}: {}", scenarios.len(), board.name(), missing.why);
        }
        if let Some(fixture) = ready.fixtures.iter().find(|fixture| fixture.version == xen) {
            let (extras, dom0_args) = (&extras, &*selection.dom0_args);
            let mut machine =
                Machine { fixture, products: &products, board, extras, dom0_args, agent: None, boots: 0 };
            machine.run_all(&scenarios, &mut |verdict| {
                on_verdict(&verdict);
                verdicts.push(verdict);
            })?;
        }
    }
    Ok(Run { verdicts, skipped })
}

/// One Xen version on one board.
struct Machine<'a> {
    fixture: &'a Fixture,
    products: &'a Products,
    board: Board,
    extras: &'a Extras,
    dom0_args: &'a str,
    agent: Option<Agent>,
    boots: u32,
}

impl Machine<'_> {
    fn run_all(&mut self, scenarios: &[Scenario], on_verdict: &mut dyn FnMut(Verdict)) -> Result<()> {
        let mut in_vain = 0;
        for (n, scenario) in scenarios.iter().enumerate() {
            let started = Instant::now();
            let (outcome, trouble) = if in_vain < BOOTS_IN_VAIN {
                match self.run_one(scenario, scenarios.get(n..).unwrap_or_default()) {
                    Ok(outcome) => (outcome, None),
                    Err(error) => (Outcome::default(), Some(format!("{error:#}"))),
                }
            } else {
                (Outcome::default(), Some("not run: the machine does not boot".to_owned()))
            };
            interrupt::check()?;
            in_vain = if self.agent.is_none() && trouble.is_some() { in_vain + 1 } else { 0 };
            if trouble.is_some() || outcome.status.is_none() {
                // Whatever answers no more is no place for the next scenario.
                self.agent = None;
            }
            on_verdict(Verdict {
                scenario: *scenario,
                xen: self.fixture.version,
                versions: format!("Xen {}, Linux {}", self.fixture.xen_version, self.fixture.kernel_release),
                board: self.board.name(),
                outcome,
                trouble,
                wall_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            });
        }
        self.agent.take().map_or(Ok(()), Agent::poweroff)
    }

    fn run_one(&mut self, scenario: &Scenario, rest: &[Scenario]) -> Result<Outcome> {
        let mut agent = match self.agent.take() {
            Some(agent) => agent,
            None => self.boot(rest)?,
        };
        let outcome = ui::step(format!("{}: {}", scenario.name, scenario.rule), |step| {
            let mut progress = Progress::default();
            agent.run(scenario.name, scenario.patience(), |event| step.say(progress.line(event)))
        });
        self.agent = Some(agent);
        outcome
    }

    /// Boots a machine with time enough for `rest`.
    fn boot(&mut self, rest: &[Scenario]) -> Result<Agent> {
        self.boots += 1;
        let first = rest.first().map_or("none", |scenario| scenario.name);
        let name = format!("tests-{}-{}-{}-{first}", self.fixture.version, self.board.name(), self.boots);
        let mut options = Options::new(Some(self.fixture.version), &name);
        options.cpu = self.board.cpu.to_owned();
        options.gic = self.board.gic;
        options.dom0_args = self.dom0_args.to_owned();
        if self.board.flask {
            options.flask_policy = Some(flask::policy(self.fixture, self.board.grants)?);
        }
        if self.board.grants {
            options.files.push(("pf/grants", String::new()));
        }
        if rest.iter().any(|scenario| scenario.tools) {
            options.tools = Some(setup::tools(self.fixture.version)?);
        }
        if rest.iter().any(|scenario| scenario.name == BOOTS_BY_U_BOOT) {
            options.u_boot.clone_from(&self.extras.u_boot);
        }
        if rest.iter().any(|scenario| wants_grant_kernel(self.board, scenario)) {
            options.grant_kernel.clone_from(&self.extras.grant_kernel);
        }
        if rest.iter().any(|scenario| scenario.name == INSTALLS_DEBIAN) {
            options.debian = Some(setup::debian(self.fixture.version)?);
        }
        if rest.iter().any(|scenario| scenario.name == WALKS) {
            options.files.push(("pf/privileges.tsv", fs::read_to_string(privileges::table_path())?));
        }
        options.memory_mib =
            rest.iter().map(|scenario| scenario.memory_mib).max().unwrap_or(options.memory_mib);
        options.timeout = rest.iter().map(Scenario::limit).sum::<Duration>() + OVERHEAD;
        system::boot(self.fixture, self.products, &options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_long_ones_runs_on_debians_newest_xen_and_all_of_a_xen_that_is_named() {
        let count = |selection: Selection| -> usize {
            selection.machines().iter().map(|(.., scenarios)| scenarios.len()).sum()
        };
        let boards = |xen, wanted: fn(&Scenario, XenVersion) -> bool| -> usize {
            let scenarios = SCENARIOS.iter().filter(|scenario| wanted(scenario, xen));
            scenarios.map(|scenario| scenario.boards(xen).count()).sum()
        };
        let expected: usize = XenVersion::ALL.into_iter().map(|xen| boards(xen, Scenario::is_usual)).sum();
        assert_eq!(count(Selection::default()), expected);
        let newest = XenVersion::V4_20;
        assert!(SCENARIOS.iter().all(|s| s.is_usual(newest) || s.long || !s.xens.contains(&newest)));
        for xen in XenVersion::ALL {
            let all = boards(xen, |scenario, _| !scenario.long);
            assert_eq!(count(Selection { xen: Some(xen), ..Selection::default() }), all);
        }
    }

    #[test]
    fn what_a_usual_run_leaves_out_is_told() {
        let left = Selection::default().left_out();
        let told = [(XenVersion::V4_17, left[0].1), (XenVersion::V4_22, left[1].1)];
        assert!(left == told && left.iter().all(|(_, count)| *count > 0), "{left:?}");
        assert!(Selection { xen: Some(XenVersion::V4_22), ..Selection::default() }.left_out().is_empty());
    }

    #[test]
    fn with_a_policy_a_scenario_runs_once_on_each_machine() {
        let flask = Selection {
            names: vec!["demo".to_owned()],
            xen: Some(XenVersion::V4_20),
            flask: true,
            ..Selection::default()
        };
        let machines = flask.machines();
        assert_eq!(machines.iter().map(|(.., scenarios)| scenarios.len()).collect::<Vec<_>>(), [1]);
        assert!(machines.iter().all(|(_, board, _)| board.flask));
    }

    #[test]
    fn with_grants_each_scenario_runs_once_and_its_guests_have_the_kernel_for_it() {
        for flask in [false, true] {
            let selection = Selection {
                names: vec!["demo".to_owned()],
                xen: Some(XenVersion::V4_20),
                flask,
                grants: true,
                ..Selection::default()
            };
            let machines = selection.machines();
            let told: Vec<_> = machines.iter().map(|(_, on, all)| (on.flask, on.grants, all.len())).collect();
            assert!(
                told.contains(&(flask, true, 1)) && told.iter().all(|(_, grants, _)| *grants),
                "{told:?}"
            );
            assert!(machines.iter().all(|(_, on, all)| wants_grant_kernel(*on, &all[0])));
        }
        let demo = SCENARIOS.iter().find(|one| one.name == "demo").unwrap();
        assert!(demo.boards(XenVersion::V4_20).all(|board| !wants_grant_kernel(board, demo)));
    }

    #[test]
    fn a_selection_that_nothing_fits_is_empty() {
        let named = |xen| Selection {
            names: vec![BOOTS_BY_U_BOOT.to_owned()],
            xen: Some(xen),
            ..Selection::default()
        };
        assert!(named(XenVersion::V4_17).is_empty());
        assert!(!named(XenVersion::V4_20).is_empty());
    }

    #[test]
    fn a_long_scenario_runs_when_named() {
        for scenario in SCENARIOS.iter().filter(|scenario| scenario.long) {
            let named = Selection { names: vec![scenario.name.to_owned()], ..Selection::default() };
            let boards = XenVersion::ALL.into_iter().flat_map(|xen| scenario.boards(xen));
            assert_eq!(named.machines().len(), boards.count());
        }
    }

    #[test]
    fn scenarios_share_a_boot_unless_they_need_their_own() {
        let machines = Selection { xen: Some(XenVersion::V4_20), ..Selection::default() }.machines();
        for (.., scenarios) in &machines {
            assert!(scenarios.len() == 1 || scenarios.iter().all(|scenario| scenario.boot == Boot::Shared));
        }
        // Two for hostile-contention, one for the other with LSE, one for all others, the old and the newest
        // board, and one with FLASK.
        assert_eq!(machines.len(), 7);
    }
}
