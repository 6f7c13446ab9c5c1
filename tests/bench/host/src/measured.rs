//! All that a run measured.

use std::collections::BTreeMap;

use crate::counts::Asked;
use crate::span::{RoundTrip, Span};
use crate::work::Work;
use crate::workload::{Kind, Workload};

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
    /// Those of another guest's stub: [`crate::buffered`]'s, or the one that is granted memory.
    pub guest_counts: Asked,
    /// With all disks left alone.
    pub idle: Option<Span>,
    /// To the stub.
    pub real: Vec<RoundTrip>,
    /// To the stub that answers and does nothing else.
    pub echo: Vec<RoundTrip>,
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
                ["rt", _, "echo"] => measured.echo.extend(RoundTrip::parse(value)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::sample::{FACT, READ};

    #[test]
    fn facts_are_sorted_into_what_was_measured() {
        let rt = "line=2 hot_median_ns=53000 hot_min_ns=1 hot_max_ns=2 cold_median_ns=280000";
        let facts = [
            ("m.1.native.randread-4k-1", FACT),
            ("m.2.ram.randread-4k-1", FACT),
            ("m.2.other.randread-4k-1", FACT),
            ("m.2.pilotfish.randread-4k-1", "nonsense"),
            ("m.0.idle.idle", FACT),
            ("rt.1.echo", rt),
            ("rt.2.real", rt),
            ("stub_ready_us", "7"),
        ];
        let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let measured = Measured::read(&facts);
        assert_eq!(measured.spans.len(), 2);
        assert!(measured.idle.is_some());
        assert_eq!(measured.echo, [RoundTrip { hot_ns: 53000, cold_ns: 280_000 }]);
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
