//! What dom0 tells of each span and each bare round trip (`tests/bench/meter/`), read.

use std::collections::BTreeMap;

use crate::workload::Workload;

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
    /// Its length by dom0's clock, between the readings of the CPU times.
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
    /// Reads a fact of dom0; `None` when a part of it is missing.
    #[must_use]
    pub fn parse(fact: &str) -> Option<Self> {
        let words: BTreeMap<&str, &str> =
            fact.split_ascii_whitespace().filter_map(|word| word.split_once('=')).collect();
        let number = |key: &str| words.get(key)?.parse::<u64>().ok();
        Some(Self { hot_ns: number("hot_median_ns")?, cold_ns: number("cold_median_ns")? })
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

/// What tests measure: a span of 1.5 s with 1000 I/Os a second of that workload.
#[cfg(test)]
pub mod sample {
    use crate::workload::Workload;

    pub const FACT: &str = "ns=1510000000 from=20.50,100,800,7,56 to=22.00,1600,12800,7,56 \
                        dom0_ns=300000000 guest_ns=600000000 stub_ns=150000000";
    pub const READ: Workload = Workload { block_kib: 4, depth: 1, read: true, sequential: false };
}

#[cfg(test)]
mod tests {
    use super::sample::{FACT, READ};
    use super::*;

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
}
