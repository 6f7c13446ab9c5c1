//! What a stub counted, by the answers it gave when dom0 asked.

use std::collections::BTreeMap;

use crate::span::float;
use crate::workload::Kind;

/// What the stub had counted when dom0 asked (`image/runtime/src/stats.rs`).
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
    /// Adds the answer to a question that was asked after a span of this kind and workload.
    pub fn add(&mut self, kind: &str, words: &str, fact: &str) {
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
            Kind::Pilotfish | Kind::Granted => 0,
            Kind::Ram | Kind::Nbd => 1,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::Measured;

    const WORDS: &str = "randread-4k-1";

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
        let of = |kind, key| measured.counts.per_request(kind, WORDS, key);
        assert_eq!(of(Kind::Pilotfish, "answers"), [2.0]);
        assert_eq!(of(Kind::Pilotfish, "used"), [1.0]);
        assert_eq!(of(Kind::Ram, "answers"), [0.0]);
        assert!(of(Kind::Ram, "unknown").is_empty() && of(Kind::Native, "answers").is_empty());
    }
}
