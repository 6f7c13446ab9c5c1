//! The tables of the text.

use crate::report::Report;
use crate::span::{Cpu, Span, float};
use crate::stats::{Spread, median, shown};
use crate::table::Table;
use crate::targets::{self, Target};
use crate::workload::Kind;

impl Report {
    pub(super) fn rates(&self) -> Table {
        let others: Vec<Kind> = self.plan.kinds.into_iter().filter(|kind| *kind != Kind::Native).collect();
        let ratios: Vec<String> = others.iter().map(|kind| format!("{}/native", kind.name())).collect();
        let heads = ["workload", "native IOPS", "MiB/s"];
        let mut table = Table::new(heads.into_iter().chain(ratios.iter().map(String::as_str)));
        for &workload in &self.plan.workloads {
            let of = |value: &dyn Fn(&Span) -> f64| {
                Spread::of(self.measured.by_round(Kind::Native, workload, value).into_values())
            };
            let rate = |&kind: &Kind| shown(targets::rate(&self.measured, kind, workload), 2);
            let native = [
                workload.to_string(),
                shown(of(&|span| span.iops(workload)), 0),
                median(of(&Span::mib_per_second), 1),
            ];
            table.row(native.into_iter().chain(others.iter().map(rate)));
        }
        table
    }

    pub(super) fn cpu_times(&self) -> Table {
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
            for kind in self.plan.kinds {
                let of = |part: fn(Cpu) -> u64| {
                    let rounds =
                        self.measured.by_round(kind, workload, |span| span.us_per_io(workload, part));
                    median(Spread::of(rounds.into_values()), 0)
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

    pub(super) fn counts(&self) -> Table {
        let mut table = Table::new([
            "workload",
            "disk",
            "answers",
            "notifications",
            "interrupts",
            "to blkback",
            "polls",
            "with work",
            "blocks",
            "map misses",
            "grant calls",
            "KiB",
        ]);
        for &workload in &self.plan.workloads {
            for kind in self.plan.kinds.into_iter().filter(|kind| *kind != Kind::Native) {
                let words = workload.words();
                let counts = match kind {
                    Kind::Granted => &self.measured.guest_counts,
                    _ => &self.measured.counts,
                };
                let count = |key, unit: f64| {
                    let counts = counts.per_request(kind, &words, key);
                    Spread::of(counts.into_iter().map(|count| count / unit))
                };
                let of = |key| median(count(key, 1.0), 2);
                table.row([
                    workload.to_string(),
                    kind.name().to_owned(),
                    of("answers"),
                    of("notifications"),
                    of("interrupts"),
                    of("sends"),
                    of("polls"),
                    of("worked"),
                    of("blocks"),
                    of("map_misses"),
                    of("grant_calls"),
                    median(count("data_bytes", 1024.0), 1),
                ]);
            }
        }
        table
    }

    pub(super) fn round_trips(&self) -> Table {
        let mut table = Table::new(["stub", "without a pause", "after a pause of 5 ms", "lines"]);
        for (name, trips) in
            [("echo_stub, which does nothing else", &self.measured.echo), ("pilotfish", &self.measured.real)]
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
}

pub(super) fn target_table(targets: &[Target]) -> Table {
    let mut table = Table::new(["target", "wanted", "measured", ""]);
    for target in targets {
        table.row([target.what.clone(), target.limit(), target.found(), target.verdict().word().to_owned()]);
    }
    table
}
