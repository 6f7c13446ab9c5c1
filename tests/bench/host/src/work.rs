//! What was done in a span, by the guest's own count.

use std::collections::BTreeMap;

use crate::span::Span;

/// The share of I/Os, in percent, that took no longer than what is told.
pub const PERCENTILES: [&str; 3] = ["50", "99", "99.9"];

/// Work done, and how long single I/Os took.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// In the workload's own unit.
    units: f64,
    /// How long it took, in seconds, where that is not the span.
    seconds: Option<f64>,
    /// Of each of [`PERCENTILES`], in microseconds, where times were taken.
    percentiles_us: Option<[f64; 3]>,
}

impl Work {
    /// Reads `units=N [ms=N p50_us=N p99_us=N p99.9_us=N]`; `None` when it makes no sense.
    #[must_use]
    pub fn parse(fact: &str) -> Option<Self> {
        let words: BTreeMap<&str, &str> =
            fact.split_ascii_whitespace().filter_map(|word| word.split_once('=')).collect();
        let number = |key: &str| words.get(key)?.parse::<f64>().ok().filter(|number| *number > 0.0);
        let seconds = match words.get("ms") {
            None => None,
            Some(_) => Some(number("ms")? / 1000.0),
        };
        let percentile = |percent: &str| number(&format!("p{percent}_us"));
        // fio tells zeros where it took no times.
        let percentiles_us = match PERCENTILES.map(percentile) {
            [Some(half), Some(most), Some(all)] => Some([half, most, all]),
            _ => None,
        };
        Some(Self { units: number("units")?, seconds, percentiles_us })
    }

    /// Units per second; the span is that in which this was done.
    #[must_use]
    pub fn per_second(&self, span: &Span) -> f64 {
        self.units / self.seconds.unwrap_or(span.seconds)
    }

    /// How long, in microseconds, that of [`PERCENTILES`] takes.
    #[must_use]
    pub fn percentile_us(&self, which: usize) -> Option<f64> {
        self.percentiles_us?.get(which).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        let fact = "ns=2000000000 from=1.00,0,0,0,0 to=3.00,1,8,0,0 dom0_ns=1 guest_ns=1 stub_ns=1";
        Span::parse(fact).unwrap()
    }

    #[test]
    fn work_of_a_fixed_amount_takes_the_span() {
        let work = Work::parse("units=256").unwrap();
        assert!((work.per_second(&span()) - 128.0).abs() < 1e-9);
        assert_eq!(work.percentile_us(0), None);
    }

    #[test]
    fn work_with_a_time_of_its_own_takes_that() {
        let work = Work::parse("units=300 ms=1500 p50_us=900 p99_us=2000 p99.9_us=7000.5").unwrap();
        assert!((work.per_second(&span()) - 200.0).abs() < 1e-9);
        assert_eq!(
            [0, 1, 2, 3].map(|n| work.percentile_us(n)),
            [Some(900.0), Some(2000.0), Some(7000.5), None]
        );
    }

    #[test]
    fn work_without_sense_is_none() {
        for fact in ["", "units=0", "units=many", "units=3 ms=0", "ms=3"] {
            assert_eq!(Work::parse(fact), None, "{fact}");
        }
        let untimed = Work::parse("units=3 ms=9 p50_us=0 p99_us=0 p99.9_us=0").unwrap();
        assert_eq!(untimed.percentile_us(0), None);
    }
}
