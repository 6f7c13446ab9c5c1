//! What dom0 tells of each span (`tests/bench/meter/src/`), read.

use std::collections::BTreeMap;

use crate::plan::{Kind, Workload};
use crate::work::Work;

/// Bytes of a sector, as Linux counts them whatever the disk's own are.
const SECTOR: u64 = 512;

/// CPU time in a span, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cpu {
    /// dom0's.
    pub dom0_ns: u64,
    /// The guest's.
    pub guest_ns: u64,
    /// The stub's.
    pub stub_ns: u64,
}

impl Cpu {
    /// That of all three.
    #[must_use]
    pub const fn total_ns(self) -> u64 {
        self.dom0_ns.saturating_add(self.guest_ns).saturating_add(self.stub_ns)
    }
}

/// What happened between two marks of the guest.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its length by the guest's clock, in seconds.
    pub seconds: f64,
    /// Its length by dom0's clock, between the looks at the CPU times.
    pub dom0_seconds: f64,
    /// Bytes that the disk read and wrote.
    pub bytes: u64,
    /// Requests of the guest's block layer, which may have merged or split I/Os.
    pub requests: u64,
    /// Who ran for how long.
    pub cpu: Cpu,
}

impl Span {
    /// Reads a fact of dom0; `None` when a part of it is missing or makes no sense.
    #[must_use]
    pub fn parse(fact: &str) -> Option<Self> {
        let words: BTreeMap<&str, &str> =
            fact.split_ascii_whitespace().filter_map(|word| word.split_once('=')).collect();
        let number = |key: &str| words.get(key)?.parse::<u64>().ok();
        let (from, to) = (Counters::parse(words.get("from")?)?, Counters::parse(words.get("to")?)?);
        let seconds = to.uptime - from.uptime;
        (seconds > 0.0).then_some(())?;
        Some(Self {
            seconds,
            dom0_seconds: nanoseconds(number("ns")?),
            bytes: to.sectors.checked_sub(from.sectors)?.checked_mul(SECTOR)?,
            requests: to.requests.checked_sub(from.requests)?,
            cpu: Cpu {
                dom0_ns: number("dom0_ns")?,
                guest_ns: number("guest_ns")?,
                stub_ns: number("stub_ns")?,
            },
        })
    }

    /// I/Os of the program that asked, of this size.
    #[must_use]
    pub fn ios(&self, workload: Workload) -> f64 {
        float(self.bytes) / (f64::from(workload.block_kib) * 1024.0)
    }

    /// I/Os per second.
    #[must_use]
    pub fn iops(&self, workload: Workload) -> f64 {
        self.ios(workload) / self.seconds
    }

    /// MiB per second.
    #[must_use]
    pub fn mib_per_second(&self) -> f64 {
        float(self.bytes) / f64::from(1 << 20) / self.seconds
    }

    /// Microseconds of CPU time for one I/O, of `part` of the span's; infinite without any I/O.
    #[must_use]
    pub fn us_per_io(&self, workload: Workload, part: impl Fn(Cpu) -> u64) -> f64 {
        float(part(self.cpu)) / 1000.0 / self.ios(workload)
    }
}

/// What the guest's kernel had counted at a mark.
struct Counters {
    uptime: f64,
    requests: u64,
    sectors: u64,
}

impl Counters {
    /// `uptime,reads,sectors read,writes,sectors written`.
    fn parse(words: &str) -> Option<Self> {
        let mut words = words.split(',');
        let uptime = words.next()?.parse().ok()?;
        let counts = words.map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let [reads, read_sectors, writes, written_sectors] = counts.try_into().ok()?;
        Some(Self {
            uptime,
            requests: reads.checked_add(writes)?,
            sectors: read_sectors.checked_add(written_sectors)?,
        })
    }
}

/// A bare round trip's times, in nanoseconds, as one line of `tests/frontend` tells them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoundTrip {
    /// Of reads without a pause: the median of the batches.
    pub hot_ns: u64,
    /// Of single reads after a sleep: the median.
    pub cold_ns: u64,
}

impl RoundTrip {
    fn parse(fact: &str) -> Option<Self> {
        let words: BTreeMap<&str, &str> =
            fact.split_ascii_whitespace().filter_map(|word| word.split_once('=')).collect();
        let number = |key: &str| words.get(key)?.parse::<u64>().ok();
        Some(Self { hot_ns: number("hot_median_ns")?, cold_ns: number("cold_median_ns")? })
    }
}

/// What the stub had counted when dom0 asked (`image/life/src/stats.rs`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Which question it was.
    asked: u64,
    /// Of the whole stub.
    stub: BTreeMap<String, u64>,
    /// Of each disk.
    disks: Vec<BTreeMap<String, u64>>,
}

impl Counts {
    fn parse(fact: &str) -> Option<Self> {
        let mut counts = Self::default();
        for word in fact.split_ascii_whitespace() {
            let (key, value) = word.split_once('=')?;
            let value = value.parse().ok()?;
            if key == "disk" {
                counts.disks.push(BTreeMap::new());
                continue;
            }
            let of = counts.disks.last_mut().unwrap_or(&mut counts.stub);
            of.insert(key.to_owned(), value);
        }
        counts.asked = *counts.stub.get("asked")?;
        Some(counts)
    }

    /// What was counted since `before`, of the whole stub or of a disk.
    fn since(&self, before: &Self, disk: Option<usize>, key: &str) -> Option<u64> {
        let of = |counts: &Self| match disk {
            Some(disk) => counts.disks.get(disk)?.get(key).copied(),
            None => counts.stub.get(key).copied(),
        };
        Some(of(self)?.wrapping_sub(of(before)?))
    }
}

/// A stub's counters after each span, by the question's number, with what was measured before it:
/// nothing for the first.
#[derive(Clone, Debug, Default)]
pub struct Asked(BTreeMap<u64, (Option<(Kind, String)>, Counts)>);

impl Asked {
    fn add(&mut self, kind: &str, words: &str, fact: &str) {
        if let Some(counts) = Counts::parse(fact) {
            let span = Kind::named(kind).map(|kind| (kind, words.to_owned()));
            self.0.insert(counts.asked, (span, counts));
        }
    }

    /// How many of what `key` counts came for each of the guest's requests, one for each time that
    /// this kind met this workload: fio's start and end included.
    #[must_use]
    pub fn per_request(&self, kind: Kind, words: &str, key: &str) -> Vec<f64> {
        let disk = match kind {
            Kind::Native => return Vec::new(),
            Kind::Pilotfish => 0,
            Kind::Ram => 1,
        };
        let is_span = |span: &Option<(Kind, String)>| {
            span.as_ref().is_some_and(|(of, what)| *of == kind && what == words)
        };
        let pairs = self.0.values().zip(self.0.values().skip(1));
        pairs
            .filter(|(_, (span, _))| is_span(span))
            .filter_map(|((_, before), (_, after))| {
                let requests = after.since(before, Some(disk), "requests").filter(|&count| count > 0)?;
                let of_disk = after.since(before, Some(disk), key);
                Some(float(of_disk.or_else(|| after.since(before, None, key))?) / float(requests))
            })
            .collect()
    }
}

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// By round, kind and the workload's words.
    pub spans: BTreeMap<(u32, Kind, String), Span>,
    /// Those that something else on the machine disturbed: told, but in no figure.
    pub aside: BTreeMap<(u32, Kind, String), Span>,
    /// What was done in spans of the guest that counts that itself ([`crate::buffered`]).
    pub work: BTreeMap<(u32, Kind, String), Work>,
    /// The stub's counters.
    pub counts: Asked,
    /// Those of that other guest's stub.
    pub guest_counts: Asked,
    /// With all disks left alone.
    pub idle: Option<Span>,
    /// To the stub.
    pub real: Vec<RoundTrip>,
    /// To the stub that only spins.
    pub spin: Vec<RoundTrip>,
}

impl Measured {
    /// Reads the facts of a run; what cannot be read is left out.
    #[must_use]
    pub fn read(facts: &BTreeMap<String, String>) -> Self {
        let mut measured = Self::default();
        for (key, value) in facts {
            let words: Vec<&str> = key.split('.').collect();
            match words.as_slice() {
                ["m", _, "idle", _] => measured.idle = Span::parse(value),
                ["m", round, kind, workload] => {
                    if let (Ok(round), Some(kind), Some(span)) =
                        (round.parse(), Kind::named(kind), Span::parse(value))
                    {
                        measured.spans.insert((round, kind, (*workload).to_owned()), span);
                    }
                }
                ["guest_work", round, kind, workload] => {
                    if let (Ok(round), Some(kind), Some(work)) =
                        (round.parse(), Kind::named(kind), Work::parse(value))
                    {
                        measured.work.insert((round, kind, (*workload).to_owned()), work);
                    }
                }
                ["s", "guest", _, kind, workload] => measured.guest_counts.add(kind, workload, value),
                ["s", _, kind, workload] => measured.counts.add(kind, workload, value),
                ["rt", _, "real"] => measured.real.extend(RoundTrip::parse(value)),
                ["rt", _, "spin"] => measured.spin.extend(RoundTrip::parse(value)),
                _ => {}
            }
        }
        measured
    }

    /// Sets the spans aside whose facts have such a key.
    pub fn set_aside(&mut self, disturbed: impl Fn(&str) -> bool) {
        for (span, what) in core::mem::take(&mut self.spans) {
            let (round, kind, workload) = &span;
            let to = if disturbed(&format!("m.{round}.{}.{workload}", kind.name())) {
                &mut self.aside
            } else {
                &mut self.spans
            };
            to.insert(span, what);
        }
    }

    /// The spans of a kind and workload that are in figures, by round.
    pub fn spans_of<'a>(&'a self, kind: Kind, words: &'a str) -> impl Iterator<Item = (u32, &'a Span)> {
        let of = self.spans.iter().filter(move |((_, of, what), _)| *of == kind && what == words);
        of.map(|((round, ..), span)| (*round, span))
    }

    /// What `value` is for each round of a kind and workload, by round.
    #[must_use]
    pub fn by_round(
        &self,
        kind: Kind,
        workload: Workload,
        value: impl Fn(&Span) -> f64,
    ) -> BTreeMap<u32, f64> {
        self.spans_of(kind, &workload.words()).map(|(round, span)| (round, value(span))).collect()
    }
}

/// Nanoseconds as seconds.
#[must_use]
pub fn nanoseconds(ns: u64) -> f64 {
    float(ns) / 1e9
}

/// A count as a number to calculate with.
#[must_use]
pub fn float(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
    let number = count as f64;
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACT: &str = "ns=1510000000 from=20.50,100,800,7,56 to=22.00,1600,12800,7,56 \
                        dom0_ns=300000000 guest_ns=600000000 stub_ns=150000000";
    const READ: Workload = Workload { block_kib: 4, depth: 1, read: true, sequential: false };

    #[test]
    fn a_span_is_the_difference_of_its_marks() {
        let span = Span::parse(FACT).unwrap();
        assert!((span.seconds - 1.5).abs() < 1e-9);
        assert_eq!((span.bytes, span.requests), (12000 * 512, 1500));
        assert!((span.iops(READ) - 1000.0).abs() < 1e-6);
        assert!((span.us_per_io(READ, |cpu| cpu.dom0_ns) - 200.0).abs() < 1e-6);
        assert!((span.us_per_io(READ, Cpu::total_ns) - 700.0).abs() < 1e-6);
    }

    #[test]
    fn a_span_with_a_part_missing_or_going_backwards_is_none() {
        assert_eq!(Span::parse(""), None);
        assert_eq!(Span::parse(&FACT.replace("stub_ns", "other_ns")), None);
        assert_eq!(Span::parse(&FACT.replace("22.00", "20.50")), None);
        assert_eq!(Span::parse(&FACT.replace("12800", "1")), None);
        assert_eq!(Span::parse(&FACT.replace(",7,56 dom0", " dom0")), None);
    }

    #[test]
    fn the_stubs_counters_are_told_for_each_request() {
        let facts = [
            ("s.0.start.start", "asked=1 answers=100 disk=0 requests=5 used=5 disk=1 requests=1"),
            (
                "s.1.pilotfish.randread-4k-1",
                "asked=2 answers=120 disk=0 requests=15 used=15 disk=1 requests=1",
            ),
            ("s.1.ram.randread-4k-1", "asked=3 answers=120 disk=0 requests=15 used=15 disk=1 requests=9"),
            ("s.2.ram.randread-4k-1", "nonsense"),
        ];
        let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let measured = Measured::read(&facts);
        assert_eq!(measured.counts.0.len(), 3);
        let of = |kind, key| measured.counts.per_request(kind, &READ.words(), key);
        assert_eq!(of(Kind::Pilotfish, "answers"), [2.0]);
        assert_eq!(of(Kind::Pilotfish, "used"), [1.0]);
        assert_eq!(of(Kind::Ram, "answers"), [0.0]);
        assert!(of(Kind::Ram, "unknown").is_empty() && of(Kind::Native, "answers").is_empty());
    }

    #[test]
    fn facts_are_sorted_into_what_was_measured() {
        let rt = "line=2 hot_median_ns=53000 hot_min_ns=1 hot_max_ns=2 cold_median_ns=280000";
        let facts = [
            ("m.1.native.randread-4k-1", FACT),
            ("m.2.ram.randread-4k-1", FACT),
            ("m.2.other.randread-4k-1", FACT),
            ("m.2.pilotfish.randread-4k-1", "nonsense"),
            ("m.0.idle.idle", FACT),
            ("rt.1.spin", rt),
            ("rt.2.real", rt),
            ("stub_ready_us", "7"),
        ];
        let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let measured = Measured::read(&facts);
        assert_eq!(measured.spans.len(), 2);
        assert!(measured.idle.is_some());
        assert_eq!(measured.spin, [RoundTrip { hot_ns: 53000, cold_ns: 280_000 }]);
        assert_eq!(measured.real.len(), 1);
        let rounds = |measured: &Measured| -> Vec<u32> {
            measured.by_round(Kind::Ram, READ, |span| span.iops(READ)).into_keys().collect()
        };
        assert_eq!(rounds(&measured), [2]);
        let mut measured = measured;
        measured.set_aside(|key| key == "m.2.ram.randread-4k-1");
        assert!(rounds(&measured).is_empty());
        assert_eq!((measured.spans.len(), measured.aside.len()), (1, 1));
    }
}
