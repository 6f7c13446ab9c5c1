//! The tables of what guests do, the ratios that targets ask for, and the JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::buffered::{Way, Workload};
use crate::measured::Measured;
use crate::span::{Cpu, Span, float};
use crate::stats::{Spread, median, shown};
use crate::table::Table;
use crate::work::{PERCENTILES, Work};
use crate::workload::Kind;

/// The rate of Pilotfish as a ratio to the native one.
#[must_use]
pub fn rate(measured: &Measured, workload: Workload) -> Option<Spread> {
    ratio(measured, workload, |span, work| Some(work.per_second(span)))
}

/// What `value` is for each round of a kind and workload, by round.
fn by_round(
    measured: &Measured,
    kind: Kind,
    workload: Workload,
    value: impl Fn(&Span, &Work) -> Option<f64>,
) -> BTreeMap<u32, f64> {
    let spans = measured.spans_of(kind, workload.words);
    let told = spans.filter_map(|(round, span)| {
        let work = measured.work.get(&(round, kind, workload.words.to_owned()))?;
        Some((round, value(span, work)?))
    });
    told.collect()
}

fn ratio(
    measured: &Measured,
    workload: Workload,
    value: impl Fn(&Span, &Work) -> Option<f64>,
) -> Option<Spread> {
    let of = by_round(measured, Kind::Pilotfish, workload, &value);
    let to = by_round(measured, Kind::Native, workload, &value);
    Spread::of_ratios(&of, &to)
}

/// Microseconds of CPU time for a unit of work, of `part` of the span's.
fn us_per_unit(part: fn(Cpu) -> u64) -> impl Fn(&Span, &Work) -> Option<f64> {
    move |span, work| Some(float(part(span.cpu)) / 1000.0 / span.dom0_seconds / work.per_second(span))
}

/// Rates, CPU times, and what the stub counted.
#[must_use]
pub fn rates(measured: &Measured, workloads: &[Workload]) -> Table {
    let mut table = Table::new([
        "workload",
        "native a second",
        "pilotfish/native",
        "dom0 CPU",
        "total CPU",
        "stub us",
        "map misses",
        "KiB",
    ]);
    for &workload in workloads {
        let of = |kind, value: &dyn Fn(&Span, &Work) -> Option<f64>| {
            Spread::of(by_round(measured, kind, workload, value).into_values())
        };
        let counted = |key, unit: f64| {
            let counts = measured.guest_counts.per_request(Kind::Pilotfish, workload.words, key);
            Spread::of(counts.into_iter().map(|count| count / unit))
        };
        let native = of(Kind::Native, &|span, work| Some(work.per_second(span)));
        table.row([
            workload.to_string(),
            native.map_or("-".to_owned(), |native| format!("{native:.0} {}", workload.unit)),
            shown(rate(measured, workload), 2),
            shown(ratio(measured, workload, us_per_unit(|cpu| cpu.dom0_ns)), 2),
            shown(ratio(measured, workload, us_per_unit(Cpu::total_ns)), 2),
            median(of(Kind::Pilotfish, &us_per_unit(|cpu| cpu.stub_ns)), 0),
            median(counted("map_misses", 1.0), 2),
            median(counted("data_bytes", 1024.0), 1),
        ]);
    }
    table
}

/// Percentiles of single I/Os' times.
#[must_use]
pub fn latencies(measured: &Measured, workloads: &[Workload]) -> Table {
    let mut table = Table::new(["workload, percentile", "native us", "pilotfish us", "pilotfish/native"]);
    for &workload in workloads.iter().filter(|workload| workload.way == Way::Timed) {
        for (which, percent) in PERCENTILES.iter().enumerate() {
            let value = |_: &Span, work: &Work| work.percentile_us(which);
            let of = |kind| Spread::of(by_round(measured, kind, workload, value).into_values());
            table.row([
                format!("{workload}, p{percent}"),
                shown(of(Kind::Native), 0),
                shown(of(Kind::Pilotfish), 0),
                shown(ratio(measured, workload, value), 2),
            ]);
        }
    }
    table
}

/// Every span of these workloads, those set aside included.
#[must_use]
pub fn json(measured: &Measured, workloads: &[Workload]) -> Vec<Value> {
    let mut spans = Vec::new();
    for (set_aside, found) in [(false, &measured.spans), (true, &measured.aside)] {
        for (key, span) in found {
            let (round, kind, words) = key;
            let workload = workloads.iter().find(|workload| workload.words == words.as_str());
            let Some((workload, work)) = workload.zip(measured.work.get(key)) else { continue };
            let percentiles: Map<String, Value> = PERCENTILES
                .iter()
                .enumerate()
                .filter_map(|(which, percent)| {
                    Some((format!("p{percent}"), json!(work.percentile_us(which)?)))
                })
                .collect();
            spans.push(json!({
                "round": round,
                "disk": kind.name(),
                "workload": words,
                "unit": workload.unit,
                "per_second": work.per_second(span),
                "latency_us": percentiles,
                "seconds": span.seconds,
                "disk_bytes": span.bytes,
                "guest_requests": span.requests,
                "cpu_ns": { "dom0": span.cpu.dom0_ns, "guest": span.cpu.guest_ns, "stub": span.cpu.stub_ns },
                "set_aside": set_aside,
            }));
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffered::ALL;

    fn workload(words: &str) -> Workload {
        ALL.into_iter().find(|workload| workload.words == words).unwrap()
    }

    fn measured(facts: &[(&str, &str)]) -> Measured {
        let facts = facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Measured::read(&facts)
    }

    const ONE_SECOND: &str =
        "ns=1000000000 from=1.00,0,0,0,0 to=2.00,1,8,0,0 dom0_ns=3000000 guest_ns=0 stub_ns=0";
    const TWO_SECONDS: &str =
        "ns=2000000000 from=1.00,0,0,0,0 to=3.00,1,8,0,0 dom0_ns=6000000 guest_ns=0 stub_ns=2000000";

    #[test]
    fn half_the_time_for_a_fixed_amount_is_twice_the_rate() {
        let measured = measured(&[
            ("m.1.native.cached-read", TWO_SECONDS),
            ("m.1.pilotfish.cached-read", ONE_SECOND),
            ("m.2.native.cached-read", TWO_SECONDS),
            ("guest_work.1.native.cached-read", "units=256"),
            ("guest_work.1.pilotfish.cached-read", "units=256"),
            ("guest_work.2.native.cached-read", "units=256"),
            ("s.guest.1.before.cached-read", "asked=1 disk=0 requests=0 map_misses=0 data_bytes=0"),
            ("s.guest.1.pilotfish.cached-read", "asked=2 disk=0 requests=10 map_misses=5 data_bytes=10240"),
            // Of the other guest's questions, which have numbers of their own.
            ("s.1.pilotfish.randread-4k-1", "asked=2 disk=0 requests=1 map_misses=9 data_bytes=1"),
        ]);
        let workload = workload("cached-read");
        assert_eq!(rate(&measured, workload).unwrap().to_string(), "2.00 (2.00..2.00)");
        let table = rates(&measured, &[workload]).text();
        assert!(table.contains("128 (128..128) MiB"), "{table}");
        // Half the CPU time for the same work.
        assert!(table.contains(" 0.50 (0.50..0.50) ") && table.contains(" 0.50 | 1.0 |"), "{table}");
        assert_eq!(latencies(&measured, &[workload]).text().lines().count(), 2);
        assert_eq!(json(&measured, &[workload]).len(), 3);
    }

    #[test]
    fn percentiles_are_compared_round_by_round() {
        let mut measured = measured(&[
            ("m.1.native.latency-randread-4k-1", ONE_SECOND),
            ("m.1.pilotfish.latency-randread-4k-1", ONE_SECOND),
            ("guest_work.1.native.latency-randread-4k-1", "units=5 ms=9 p50_us=100 p99_us=200 p99.9_us=1000"),
            (
                "guest_work.1.pilotfish.latency-randread-4k-1",
                "units=5 ms=9 p50_us=150 p99_us=400 p99.9_us=500",
            ),
        ]);
        let workload = workload("latency-randread-4k-1");
        let table = latencies(&measured, &[workload]).text();
        for ratio in ["1.50 (", "2.00 (", "0.50 ("] {
            assert!(table.contains(ratio), "{table}");
        }
        assert_eq!(json(&measured, &[workload])[0]["latency_us"]["p99.9"], json!(1000.0));
        measured.set_aside(|key| key == "m.1.native.latency-randread-4k-1");
        assert!(!latencies(&measured, &[workload]).text().contains("1.50 ("));
        assert_eq!(json(&measured, &[workload])[1]["set_aside"], json!(true));
    }
}
