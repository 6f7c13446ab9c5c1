//! What dom0 tells of each point, read.
//!
//! Keys are `m.CURVE.SERIES.POINT.ROUND` for spans and `s.STUB.CURVE.SERIES.POINT.ROUND` for what a
//! stub had counted after one; any other `s.STUB.WORDS` for what it had before one.

use std::collections::BTreeMap;

use crate::span::{Span, float};
use crate::stats::Spread;

/// A point of a series.
pub type Place = (String, String, u64);

/// What a stub had counted, its disks added up.
type Counts = BTreeMap<String, u64>;

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Spans of each point by round.
    pub spans: BTreeMap<Place, BTreeMap<u32, Span>>,
    /// How many more something else on the machine disturbed: they are in no figure.
    pub aside: usize,
    /// What the stub counted while a point was measured, the start and end of fio included.
    pub counted: BTreeMap<Place, Vec<Counts>>,
}

impl Measured {
    /// Reads the facts of a run; what cannot be read is left out.
    #[must_use]
    pub fn read(facts: &BTreeMap<String, String>, disturbed: impl Fn(&str) -> bool) -> Self {
        let mut measured = Self::default();
        // By stub and by the number of the question.
        let mut asked: BTreeMap<(&str, u64), (Option<Place>, Counts)> = BTreeMap::new();
        for (key, value) in facts {
            let words: Vec<&str> = key.split('.').collect();
            match words.as_slice() {
                ["m", label @ ..] => {
                    let Some(((place, round), span)) = place(label).zip(Span::parse(value)) else { continue };
                    if disturbed(key) {
                        measured.aside += 1;
                    } else {
                        measured.spans.entry(place).or_default().insert(round, span);
                    }
                }
                ["s", stub, label @ ..] => {
                    if let Some((number, counts)) = counts(value) {
                        asked.insert((stub, number), (place(label).map(|(place, _)| place), counts));
                    }
                }
                _ => {}
            }
        }
        for (((stub, _), (_, before)), ((same, _), (place, after))) in asked.iter().zip(asked.iter().skip(1))
        {
            if let Some(place) = place.as_ref().filter(|_| stub == same) {
                measured.counted.entry(place.clone()).or_default().push(since(before, after));
            }
        }
        measured
    }

    /// `value` of each round of a point.
    #[must_use]
    pub fn by_round(&self, place: &Place, value: impl Fn(&Span) -> f64) -> BTreeMap<u32, f64> {
        let rounds = self.spans.get(place).into_iter().flatten();
        rounds.map(|(round, span)| (*round, value(span))).collect()
    }

    /// How many of what `key` counts came for each of the guests' requests.
    #[must_use]
    pub fn per_request(&self, place: &Place, key: &str) -> Option<Spread> {
        let counted = self.counted.get(place).into_iter().flatten();
        Spread::of(counted.filter_map(|counts| {
            let requests = counts.get("requests").filter(|&&requests| requests > 0)?;
            Some(float(*counts.get(key)?) / float(*requests))
        }))
    }
}

/// `CURVE.SERIES.POINT.ROUND`.
fn place(label: &[&str]) -> Option<(Place, u32)> {
    let [curve, series, point, round] = *label else { return None };
    Some((((*curve).to_owned(), (*series).to_owned(), point.parse().ok()?), round.parse().ok()?))
}

/// The question's number, and all counters.
fn counts(value: &str) -> Option<(u64, Counts)> {
    let mut counts = Counts::new();
    let mut asked = None;
    for word in value.split_ascii_whitespace() {
        let (key, number) = word.split_once('=')?;
        let number: u64 = number.parse().ok()?;
        match key {
            "asked" => asked = Some(number),
            "disk" => {}
            _ => {
                let count = counts.entry(key.to_owned()).or_default();
                *count = count.wrapping_add(number);
            }
        }
    }
    Some((asked?, counts))
}

/// What was counted between two answers.
fn since(before: &Counts, after: &Counts) -> Counts {
    let difference =
        |(key, count): (&String, &u64)| Some((key.clone(), count.wrapping_sub(*before.get(key)?)));
    after.iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: &str = "ns=1000000000 from=1.00,0,0,0,0 to=2.00,1000,8000,0,0 dom0_ns=1 guest_ns=1 stub_ns=1";

    #[test]
    fn spans_and_counters_find_their_points() {
        let facts = [
            ("m.depth.native.16.1", SPAN),
            ("m.depth.ram.16.1", SPAN),
            ("m.depth.ram.16.2", SPAN),
            ("m.depth.ram.many.2", SPAN),
            ("s.one.start", "asked=1 answers=10 disk=0 requests=4 disk=1 requests=6"),
            ("s.one.depth.ram.16.1", "asked=2 answers=30 disk=0 requests=4 disk=1 requests=16"),
            ("s.two.depth.ram.16.1", "asked=9 answers=1 disk=0 requests=1"),
        ];
        let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let measured = Measured::read(&facts, |key| key == "m.depth.ram.16.2");
        let ram = ("depth".to_owned(), "ram".to_owned(), 16);
        assert_eq!((measured.spans.len(), measured.aside), (2, 1));
        assert_eq!(measured.by_round(&ram, |span| span.seconds).into_keys().collect::<Vec<_>>(), [1]);
        assert_eq!(measured.counted[&ram].len(), 1);
        assert!((measured.per_request(&ram, "answers").unwrap().median - 2.0).abs() < 1e-9);
        assert!(measured.per_request(&ram, "unknown").is_none());
    }
}
