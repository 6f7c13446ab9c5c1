//! What the project wants to reach, beside what was measured.

use std::collections::BTreeMap;

use crate::buffered::{self, Way};
use crate::measured::Measured;
use crate::plan::Plan;
use crate::span::{Cpu, Span, float};
use crate::stats::Spread;
use crate::workload::{Kind, Workload};

/// Which side of the limit is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// What came of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The median is on the good side.
    Met,
    /// It is not.
    Missed,
    /// Nothing was measured.
    Unknown,
}

impl Verdict {
    /// As one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Unknown => "not measured",
        }
    }
}

/// A target and what was measured.
#[derive(Clone, Debug)]
pub struct Target {
    /// What is to be reached.
    pub what: String,
    /// The limit.
    pub wanted: Wanted,
    /// Unit of the limit and the measurement; nothing for a ratio.
    pub unit: &'static str,
    /// What was measured.
    pub measured: Option<Spread>,
}

impl Target {
    /// What came of it, by the median.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (self.measured, self.wanted) {
            (None, _) => Verdict::Unknown,
            (Some(spread), Wanted::AtLeast(limit)) if spread.median >= limit => Verdict::Met,
            (Some(spread), Wanted::AtMost(limit)) if spread.median <= limit => Verdict::Met,
            _ => Verdict::Missed,
        }
    }

    /// The limit as text.
    #[must_use]
    pub fn limit(&self) -> String {
        let (sign, limit) = match self.wanted {
            Wanted::AtLeast(limit) => (">=", limit),
            Wanted::AtMost(limit) => ("<=", limit),
        };
        let limit = if self.unit.is_empty() { format!("{limit:.2}") } else { limit.to_string() };
        format!("{sign} {limit} {}", self.unit).trim_end().to_owned()
    }

    /// The measurement as text.
    #[must_use]
    pub fn found(&self) -> String {
        match self.measured {
            None => "-".to_owned(),
            Some(spread) if self.unit.is_empty() => spread.to_string(),
            Some(spread) => format!("{:.1} {}", spread.median, self.unit),
        }
    }
}

/// The I/O rate of `kind` as a ratio to the native one.
#[must_use]
pub fn rate(measured: &Measured, kind: Kind, workload: Workload) -> Option<Spread> {
    ratio(measured, kind, workload, |span| span.iops(workload))
}

/// The CPU time of one I/O as a ratio to the native one's.
#[must_use]
pub fn cpu(measured: &Measured, kind: Kind, workload: Workload, part: fn(Cpu) -> u64) -> Option<Spread> {
    ratio(measured, kind, workload, |span| span.us_per_io(workload, part))
}

/// As [`cpu`] for dom0, without what dom0 takes when all disks are idle (its clock, above all).
#[must_use]
pub fn dom0_net(measured: &Measured, kind: Kind, workload: Workload) -> Option<Spread> {
    let idle = measured.idle.as_ref()?;
    let idle_rate = float(idle.cpu.dom0_ns) / idle.dom0_seconds;
    let net =
        |span: &Span| (float(span.cpu.dom0_ns) - idle_rate * span.dom0_seconds).max(0.0) / span.ios(workload);
    ratio(measured, kind, workload, net)
}

fn ratio(
    measured: &Measured,
    kind: Kind,
    workload: Workload,
    value: impl Fn(&Span) -> f64,
) -> Option<Spread> {
    let of = measured.by_round(kind, workload, &value);
    let to = measured.by_round(Kind::Native, workload, &value);
    Spread::of_ratios(&of, &to)
}

/// Every target, in the order of the report. All but the RAM disk's figures, for which none is set.
#[must_use]
pub fn all(
    plan: &Plan,
    measured: &Measured,
    facts: &BTreeMap<String, String>,
    image_bytes: u64,
) -> Vec<Target> {
    let mut targets = Vec::new();
    let ratio = |what: String, wanted, measured| Target { what, wanted, unit: "", measured };
    for &workload in &plan.workloads {
        let least = if workload.is_random(4, 1) { 0.8 } else { 1.0 };
        let found = rate(measured, Kind::Pilotfish, workload);
        targets.push(ratio(format!("rate, {workload}"), Wanted::AtLeast(least), found));
    }
    for &workload in plan.buffered.iter().filter(|workload| workload.way == Way::Cached) {
        let found = buffered::view::rate(measured, workload);
        targets.push(ratio(format!("rate, {workload}"), Wanted::AtLeast(1.0), found));
    }
    for &workload in &plan.workloads {
        let found = cpu(measured, Kind::Pilotfish, workload, |cpu| cpu.dom0_ns);
        targets.push(ratio(format!("dom0 CPU per I/O, {workload}"), Wanted::AtMost(1.0), found));
    }
    for &workload in plan.workloads.iter().filter(|workload| workload.depth == 16) {
        let found = cpu(measured, Kind::Pilotfish, workload, Cpu::total_ns);
        targets.push(ratio(format!("total CPU per I/O, {workload}"), Wanted::AtMost(1.2), found));
    }
    targets.push(ratio(
        "bare round trip, to that with echo_stub".to_owned(),
        Wanted::AtMost(1.15),
        round_trips(measured),
    ));
    let number = |key: &str| facts.get(key)?.parse::<u64>().ok().map(float);
    let one = |value: Option<f64>| value.and_then(|value| Spread::of([value]));
    let absolute = |what: &str, limit, unit, value| Target {
        what: what.to_owned(),
        wanted: Wanted::AtMost(limit),
        unit,
        measured: one(value),
    };
    let image = (image_bytes > 0).then(|| float(image_bytes) / 1024.0);
    targets.push(absolute("stub image", 160.0, "KiB", image));
    let large = number("large_guest_mib").filter(|&mib| mib >= 4096.0);
    let memory = large.and_then(|_| number("stub_beside_large_mib"));
    targets.push(absolute("stub memory beside a guest of 4 GiB", 8.0, "MiB", memory));
    // Of the same stub: it has one PV disk, and dom0 has nothing else to do.
    let ready = number("stub_beside_large_ready_us").map(|us| us / 1000.0);
    targets.push(absolute("ready after its first instruction, one PV disk", 100.0, "ms", ready));
    let idle = measured.idle.as_ref().map(|span| float(span.cpu.stub_ns) / 1e9 / span.dom0_seconds * 100.0);
    targets.push(absolute("CPU of an idle stub", IDLE_PERCENT, "% of one", idle));
    targets
}

/// What counts as no CPU: a question to xenstore now and then is more than nothing.
const IDLE_PERCENT: f64 = 0.1;

/// Hot round trips to the stub, each to the median of those to the echo stub: they are made in
/// turns, but have no rounds in common.
fn round_trips(measured: &Measured) -> Option<Spread> {
    let echo = Spread::of(measured.echo.iter().map(|trip| float(trip.hot_ns)))?;
    Spread::of(measured.real.iter().map(|trip| float(trip.hot_ns) / echo.median))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::RoundTrip;

    fn target(wanted: Wanted, measured: Option<f64>) -> Target {
        let measured = measured.and_then(|value| Spread::of([value]));
        Target { what: String::new(), wanted, unit: "", measured }
    }

    #[test]
    fn a_target_is_met_missed_or_unknown() {
        assert_eq!(target(Wanted::AtLeast(1.0), Some(1.0)).verdict(), Verdict::Met);
        assert_eq!(target(Wanted::AtLeast(1.0), Some(0.99)).verdict(), Verdict::Missed);
        assert_eq!(target(Wanted::AtMost(1.0), Some(0.5)).verdict(), Verdict::Met);
        assert_eq!(target(Wanted::AtMost(1.0), Some(1.01)).verdict(), Verdict::Missed);
        assert_eq!(target(Wanted::AtMost(1.0), None).verdict(), Verdict::Unknown);
        assert_eq!(target(Wanted::AtMost(1.0), None).limit(), "<= 1.00");
    }

    #[test]
    fn a_run_that_measured_nothing_has_every_target_and_none_met() {
        let plan = Plan::full();
        let targets = all(&plan, &Measured::default(), &BTreeMap::new(), 0);
        assert_eq!(targets.len(), 10 + 7 + 10 + 4 + 5);
        assert!(targets.iter().all(|target| target.verdict() == Verdict::Unknown));
    }

    #[test]
    fn a_small_guest_says_nothing_about_the_memory_beside_a_large_one() {
        let facts = |mib: &str| {
            [("large_guest_mib", mib), ("stub_beside_large_mib", "16")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        let plan = Plan { workloads: Vec::new(), buffered: Vec::new(), ..Plan::full() };
        let verdict = |mib: &str| {
            let targets = all(&plan, &Measured::default(), &facts(mib), 0);
            targets.iter().find(|target| target.what.contains("memory")).map(Target::verdict)
        };
        assert_eq!(verdict("384"), Some(Verdict::Unknown));
        assert_eq!(verdict("4096"), Some(Verdict::Missed));
    }

    #[test]
    fn round_trips_are_compared_with_the_echo_stubs_median() {
        let trips = |times: [u64; 3]| times.map(|hot_ns| RoundTrip { hot_ns, cold_ns: 0 }).to_vec();
        let measured =
            Measured { echo: trips([90, 100, 200]), real: trips([110, 120, 100]), ..Measured::default() };
        let spread = round_trips(&measured).unwrap();
        assert_eq!(spread, Spread { median: 1.1, min: 1.0, max: 1.2, count: 3 });
    }
}
