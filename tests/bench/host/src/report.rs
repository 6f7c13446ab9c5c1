//! The result of a run: as text, and as JSON with every raw number.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::buffered::{self, view};
use crate::others::TOO_MUCH;
use crate::plan::{Kind, Plan, Workload};
use crate::sample::{Cpu, Measured, Span, float};
use crate::stats::{Spread, shown};
use crate::table::Table;
use crate::targets::{self, Target, Verdict, Wanted};

/// All of a run.
#[derive(Debug)]
pub struct Report {
    /// What was to be measured.
    pub plan: Plan,
    /// What was.
    pub measured: Measured,
    /// Everything that dom0 told, as it told it.
    pub facts: BTreeMap<String, String>,
    /// CPUs that others on this machine took while a fact of this key came about.
    pub others: BTreeMap<String, f64>,
    /// Size of the stub's image.
    pub image_bytes: u64,
    /// QEMU's CPU model.
    pub cpu: String,
    /// Xen's version.
    pub xen: String,
    /// Whether the run came to its end with every check held.
    pub complete: bool,
    /// How long it took.
    pub wall: Duration,
}

impl Report {
    fn targets(&self) -> Vec<Target> {
        targets::all(&self.plan, &self.measured, &self.facts, self.image_bytes)
    }

    fn fact(&self, key: &str) -> &str {
        self.facts.get(key).map_or("not told", String::as_str)
    }

    /// For people, in Markdown.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        if !self.complete {
            writeln!(out, "\nTHE RUN WAS NOT COMPLETE: the figures are those that arrived.")?;
        }
        writeln!(
            out,
            "\nXen {}, dom0 Linux {}, guest Linux {} with {} vCPU, {}; QEMU emulates a {}, so only \
             ratios within this run mean anything.",
            self.xen,
            self.fact("dom0_kernel"),
            self.fact("guest_kernel"),
            self.plan.vcpus,
            self.fact("guest_fio"),
            self.cpu
        )?;
        writeln!(
            out,
            "{} rounds, spans of {} s, disks of {} MiB; the run took {:.0} s. Each cell: median \
             (min..max) over the rounds.",
            self.plan.rounds,
            self.plan.seconds,
            self.plan.mib,
            self.wall.as_secs_f64()
        )?;
        let aside = self.measured.aside.len();
        if aside > 0 {
            writeln!(
                out,
                "\nTHE MACHINE WAS NOT ALONE: during {aside} of {} spans others took more than {TOO_MUCH} of a \
                 CPU. They are in no figure below (bench.json has them); measure again on an idle machine.",
                aside + self.measured.spans.len()
            )?;
        }
        if !self.plan.workloads.is_empty() {
            self.write_direct(out)?;
        }
        if !self.plan.buffered.is_empty() {
            self.write_buffered(out)?;
        }
        if self.plan.turns > 0 {
            writeln!(out, "\nBare round trips: a register read that a stub answers, in nanoseconds\n")?;
            out.push_str(&self.round_trips().text());
        }
        writeln!(out, "\nTargets\n")?;
        let targets = self.targets();
        out.push_str(&target_table(&targets).text());
        let count = |verdict| targets.iter().filter(|target| target.verdict() == verdict).count();
        writeln!(
            out,
            "\n{} met, {} missed, {} not measured",
            count(Verdict::Met),
            count(Verdict::Missed),
            count(Verdict::Unknown)
        )
    }

    /// What the guest with all disks did.
    fn write_direct(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nRate as a ratio to native PV in the same round (more is better)\n")?;
        out.push_str(&self.rates().text());
        writeln!(
            out,
            "\nCPU time of one I/O, in microseconds, and as a ratio to native PV (less is better)\n"
        )?;
        out.push_str(&self.cpu_times().text());
        if let Some(idle) = &self.measured.idle {
            let percent = |ns| float(ns) / 1e7 / idle.dom0_seconds;
            writeln!(
                out,
                "\nWith all disks idle: dom0 {:.1} %, guest {:.1} %, stub {:.1} % of a CPU. \"dom0 net\" is the \
                 ratio without what dom0 takes when idle.",
                percent(idle.cpu.dom0_ns),
                percent(idle.cpu.guest_ns),
                percent(idle.cpu.stub_ns)
            )?;
        }
        writeln!(out, "\nWhat the stub did for one request of the guest, by its own counters (median)\n")?;
        out.push_str(&self.counts().text());
        Ok(())
    }

    /// What guests do, and latencies.
    fn write_buffered(&self, out: &mut String) -> std::fmt::Result {
        let (measured, workloads) = (&self.measured, &self.plan.buffered);
        writeln!(
            out,
            "\nWhat guests do: a guest of {} MiB whose memory was churned, disks of {} MiB; rate, and CPU time of a unit \
             of work, as ratios to native PV. The stub's misses and KiB are those of one request\n",
            buffered::GUEST_MIB,
            buffered::DISK_MIB
        )?;
        out.push_str(&view::rates(measured, workloads).text());
        writeln!(out, "\nLatency of single I/Os in that guest, in microseconds (less is better)\n")?;
        out.push_str(&view::latencies(measured, workloads).text());
        Ok(())
    }

    fn rates(&self) -> Table {
        let mut table = Table::new(["workload", "native IOPS", "MiB/s", "pilotfish/native", "ram/native"]);
        for &workload in &self.plan.workloads {
            let of = |value: &dyn Fn(&Span) -> f64| {
                Spread::of(self.measured.by_round(Kind::Native, workload, value).into_values())
            };
            table.row([
                workload.to_string(),
                shown(of(&|span| span.iops(workload)), 0),
                of(&Span::mib_per_second).map_or("-".to_owned(), |spread| format!("{:.1}", spread.median)),
                shown(targets::rate(&self.measured, Kind::Pilotfish, workload), 2),
                shown(targets::rate(&self.measured, Kind::Ram, workload), 2),
            ]);
        }
        table
    }

    fn cpu_times(&self) -> Table {
        let mut table = Table::new([
            "workload",
            "disk",
            "dom0 us",
            "stub us",
            "guest us",
            "total us",
            "dom0 ratio",
            "dom0 net",
            "total ratio",
        ]);
        for &workload in &self.plan.workloads {
            for kind in Kind::ALL {
                let of = |part: fn(Cpu) -> u64| {
                    let rounds =
                        self.measured.by_round(kind, workload, |span| span.us_per_io(workload, part));
                    Spread::of(rounds.into_values())
                        .map_or("-".to_owned(), |spread| format!("{:.0}", spread.median))
                };
                let to_native = |part| match kind {
                    Kind::Native => String::new(),
                    _ => shown(targets::cpu(&self.measured, kind, workload, part), 2),
                };
                table.row([
                    workload.to_string(),
                    kind.name().to_owned(),
                    of(|cpu| cpu.dom0_ns),
                    of(|cpu| cpu.stub_ns),
                    of(|cpu| cpu.guest_ns),
                    of(Cpu::total_ns),
                    to_native(|cpu| cpu.dom0_ns),
                    match kind {
                        Kind::Native => String::new(),
                        _ => shown(targets::dom0_net(&self.measured, kind, workload), 2),
                    },
                    to_native(Cpu::total_ns),
                ]);
            }
        }
        table
    }

    fn counts(&self) -> Table {
        let mut table = Table::new([
            "workload",
            "disk",
            "answers",
            "notifications",
            "interrupts",
            "to blkback",
            "looks",
            "with work",
            "blocks",
            "map misses",
            "KiB",
        ]);
        for &workload in &self.plan.workloads {
            for kind in [Kind::Pilotfish, Kind::Ram] {
                let words = workload.words();
                let median = |key| Spread::of(self.measured.counts.per_request(kind, &words, key));
                let of = |key| median(key).map_or("-".to_owned(), |spread| format!("{:.2}", spread.median));
                table.row([
                    workload.to_string(),
                    kind.name().to_owned(),
                    of("answers"),
                    of("notifications"),
                    of("interrupts"),
                    of("sends"),
                    of("looks"),
                    of("worked"),
                    of("blocks"),
                    of("map_misses"),
                    median("data_bytes")
                        .map_or("-".to_owned(), |bytes| format!("{:.1}", bytes.median / 1024.0)),
                ]);
            }
        }
        table
    }

    fn round_trips(&self) -> Table {
        let mut table = Table::new(["stub", "without a pause", "after a pause of 5 ms", "lines"]);
        for (name, trips) in
            [("one that only spins", &self.measured.spin), ("pilotfish", &self.measured.real)]
        {
            table.row([
                name.to_owned(),
                shown(Spread::of(trips.iter().map(|trip| float(trip.hot_ns))), 0),
                shown(Spread::of(trips.iter().map(|trip| float(trip.cold_ns))), 0),
                trips.len().to_string(),
            ]);
        }
        table
    }

    /// With every raw number, and how it was made.
    #[must_use]
    pub fn json(&self) -> Value {
        let raw: Map<String, Value> =
            self.facts.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let spans: Vec<Value> = self
            .measured
            .spans
            .iter()
            .chain(&self.measured.aside)
            .filter_map(|((round, kind, words), span)| {
                let workload = self.plan.workloads.iter().find(|workload| workload.words() == *words)?;
                let others = self.others.get(&format!("m.{round}.{}.{words}", kind.name()));
                Some(span_json(*round, *kind, *workload, span, others.copied()))
            })
            .collect();
        let trips = |trips: &[crate::sample::RoundTrip]| -> Vec<Value> {
            trips.iter().map(|trip| json!({ "hot_ns": trip.hot_ns, "cold_ns": trip.cold_ns })).collect()
        };
        json!({
            "complete": self.complete,
            "wall_s": self.wall.as_secs(),
            "how": HOW,
            "machine": {
                "qemu_cpu": self.cpu,
                "xen": self.xen,
                "dom0_kernel": self.fact("dom0_kernel"),
                "guest_kernel": self.fact("guest_kernel"),
                "fio": self.fact("guest_fio"),
            },
            "plan": {
                "rounds": self.plan.rounds,
                "seconds": self.plan.seconds,
                "guest_vcpus": self.plan.vcpus,
                "disk_mib": self.plan.mib,
            },
            "stub_image_bytes": self.image_bytes,
            "targets": self.targets().iter().map(target_json).collect::<Vec<_>>(),
            "spans": spans,
            "buffered": view::json(&self.measured, &self.plan.buffered),
            "round_trips": { "pilotfish": trips(&self.measured.real), "spinner": trips(&self.measured.spin) },
            "raw": raw,
        })
    }
}

/// Goes with the numbers.
const HOW: &str = "One guest has three disks of one size: native (xen-blkback over a loop device over a \
raw file in dom0's tmpfs), pilotfish (the same below the stub's PV engine) and ram (the stub's memory). \
In each round each workload meets each disk in turn, in an order that rotates by round. A span begins \
when fio has been at work for 0.3 s. Bytes and requests are differences of /sys/block/*/stat in the \
guest, seconds of its /proc/uptime; CPU times are differences of XEN_DOMCTL_getdomaininfo's cpu_time, \
asked by dom0 when the guest's marks arrive on its console. An I/O is one of fio's: bytes divided by \
the block size. others_cpus is how many of this machine's CPUs others than QEMU took since the \
span before; spans with more than 0.15 are set aside and in no figure. Ratios are of two spans of the same round. buffered \
is what a guest of its own did that has a native disk and one of Pilotfish and whose free memory is spread; it counts \
its work itself (fio, or the fixed amount that was done), per_second is of that. raw has what was told, verbatim.";

fn target_table(targets: &[Target]) -> Table {
    let mut table = Table::new(["target", "wanted", "measured", ""]);
    for target in targets {
        table.row([target.what.clone(), target.limit(), target.found(), target.verdict().word().to_owned()]);
    }
    table
}

fn target_json(target: &Target) -> Value {
    let (sense, limit) = match target.wanted {
        Wanted::AtLeast(limit) => ("at least", limit),
        Wanted::AtMost(limit) => ("at most", limit),
    };
    let measured = target.measured.map(|spread| {
        json!({ "median": spread.median, "min": spread.min, "max": spread.max, "count": spread.count })
    });
    json!({
        "what": target.what,
        "wanted": sense,
        "limit": limit,
        "unit": target.unit,
        "measured": measured,
        "verdict": target.verdict().word(),
    })
}

fn span_json(round: u32, kind: Kind, workload: Workload, span: &Span, others: Option<f64>) -> Value {
    json!({
        "round": round,
        "disk": kind.name(),
        "workload": workload.words(),
        "seconds": span.seconds,
        "dom0_seconds": span.dom0_seconds,
        "bytes": span.bytes,
        "guest_requests": span.requests,
        "iops": span.iops(workload),
        "mib_per_s": span.mib_per_second(),
        "cpu_ns": {
            "dom0": span.cpu.dom0_ns,
            "guest": span.cpu.guest_ns,
            "stub": span.cpu.stub_ns,
        },
        "others_cpus": others,
        "set_aside": others.is_some_and(|cpus| cpus > TOO_MUCH),
        "total_cpu_us_per_io": span.us_per_io(workload, Cpu::total_ns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(facts: BTreeMap<String, String>) -> Report {
        let workloads = vec![Workload { block_kib: 4, depth: 1, read: true, sequential: false }];
        Report {
            plan: Plan { workloads, buffered: Vec::new(), ..Plan::full() },
            measured: Measured::read(&facts),
            facts,
            others: BTreeMap::new(),
            image_bytes: 150 * 1024,
            cpu: "cortex-a57".to_owned(),
            xen: "4.20.4".to_owned(),
            complete: true,
            wall: Duration::from_secs(9),
        }
    }

    fn span(sectors: u32, dom0_ns: u32) -> String {
        format!(
            "ns=1000000000 from=1.00,0,0,0,0 to=2.00,{},{sectors},0,0 dom0_ns={dom0_ns} guest_ns=1000 stub_ns=0",
            sectors / 8
        )
    }

    #[test]
    fn ratios_and_verdicts_follow_from_the_facts() {
        let facts = BTreeMap::from([
            ("m.1.native.randread-4k-1".to_owned(), span(8000, 1000)),
            ("m.1.pilotfish.randread-4k-1".to_owned(), span(6400, 2000)),
        ]);
        let report = report(facts);
        let text = report.text();
        assert!(text.contains("0.80 (0.80..0.80)"), "{text}");
        let json = report.json();
        let verdict = |what: &str| {
            json["targets"]
                .as_array()
                .unwrap()
                .iter()
                .find(|target| target["what"].as_str().unwrap().starts_with(what))
                .map(|target| target["verdict"].clone())
        };
        assert_eq!(verdict("rate, 4 KiB random read, QD1"), Some(json!("met")));
        assert_eq!(verdict("dom0 CPU per I/O"), Some(json!("MISSED")));
        assert_eq!(verdict("stub image"), Some(json!("met")));
        assert_eq!(verdict("bare round trip"), Some(json!("not measured")));
        assert_eq!(json["spans"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_run_without_figures_says_so() {
        let text = Report { complete: false, ..report(BTreeMap::new()) }.text();
        assert!(text.contains("NOT COMPLETE") && text.contains("not measured"));
    }
}
