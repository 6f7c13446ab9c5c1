//! The result of a run.
//!
//! - here: as text.
//! - `tables`: what the text shows.
//! - `json`: every raw number.

mod json;
mod tables;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::buffered::{self, view};
use crate::measured::Measured;
use crate::others::TOO_MUCH;
use crate::plan::Plan;
use crate::report::tables::target_table;
use crate::span::float;
use crate::targets::{self, Target, Verdict};

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
    /// Whether Xen enforced a FLASK policy.
    pub flask: bool,
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

    fn write(&self, out: &mut String) -> fmt::Result {
        self.write_head(out)?;
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
        self.write_targets(out)
    }

    /// What was measured where, and what is wrong with it.
    fn write_head(&self, out: &mut String) -> fmt::Result {
        if !self.complete {
            writeln!(out, "\nTHE RUN WAS NOT COMPLETE: the figures are those that arrived.")?;
        }
        writeln!(
            out,
            "\nXen {}{}, dom0 Linux {}, guest Linux {} with {} vCPU, {}; QEMU emulates a {}, so only \
             ratios within this run mean anything.",
            self.xen,
            if self.flask { " with FLASK" } else { "" },
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
        match self.plan.mtu {
            Some(mtu) => writeln!(out, "The MTU of all interfaces on the way to the NBD server is {mtu}.")?,
            None if self.plan.nbd() => {
                writeln!(
                    out,
                    "The MTU on the way to the NBD server is 1500, and 65536 from Linux's client."
                )?;
            }
            None => {}
        }
        let aside = self.measured.aside.len();
        if aside == 0 {
            return Ok(());
        }
        writeln!(
            out,
            "\nTHE MACHINE WAS NOT ALONE: during {aside} of {} spans others took more than {TOO_MUCH} of a \
             CPU. They are in no figure below (bench.json has them); measure again on an idle machine.",
            aside + self.measured.spans.len()
        )
    }

    fn write_targets(&self, out: &mut String) -> fmt::Result {
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
    fn write_direct(&self, out: &mut String) -> fmt::Result {
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
    fn write_buffered(&self, out: &mut String) -> fmt::Result {
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
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workload::Workload;

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
            flask: false,
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
    fn with_grants_the_second_guests_disk_and_counters_are_in_the_tables() {
        let counters = |asked: u32, requests: u32, calls: u32| {
            format!("asked={asked} grant_calls={calls} disk=0 requests={requests}")
        };
        let facts = BTreeMap::from([
            ("m.1.native.randread-4k-1".to_owned(), span(8000, 1000)),
            ("m.1.granted.randread-4k-1".to_owned(), span(4000, 1000)),
            ("s.guest.0.start.start".to_owned(), counters(1, 10, 10)),
            ("s.guest.1.granted.randread-4k-1".to_owned(), counters(3, 110, 410)),
        ]);
        let mut report = report(facts);
        report.plan.with_grants(true);
        let text = report.text();
        let row = |table: &str, start: &str| {
            let rest = text.split_once(table).map_or("", |(_, rest)| rest);
            rest.lines().find(|line| line.contains(start)).unwrap_or_default().to_owned()
        };
        assert!(text.contains("granted/native") && !text.contains("ram/native"), "{text}");
        assert!(row("Rate as", "4 KiB").ends_with("0.50 (0.50..0.50) |"), "{text}");
        assert!(row("What the stub did", "granted").contains(" 4.00 |"), "{text}");
    }

    #[test]
    fn a_run_without_figures_says_so() {
        let text = Report { complete: false, ..report(BTreeMap::new()) }.text();
        assert!(text.contains("NOT COMPLETE") && text.contains("not measured"));
    }
}
