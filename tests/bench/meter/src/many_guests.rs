//! Spans of many guests at once.
//!
//! The guests are paused at first and work without end while they may. For each span the first
//! COUNT of them are let run, and paused again after SECONDS. What they did in between their stubs
//! have counted, and are asked while nobody runs: the fact `m.guests.reads.COUNT.ROUND`, like those of
//! guests that mark their spans themselves, and the counters of all stubs together,
//! `s.all.guests.reads.COUNT.ROUND`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use xen_privcmd::Privcmd;

use crate::{mark, stats};

const DOM0: u16 = 0;
const SECTOR: u64 = 512;

/// A guest and its stub.
struct Pair {
    guest: u16,
    stub: u16,
    /// What the stub had counted when it was last asked.
    counts: BTreeMap<String, u64>,
}

impl Pair {
    fn parse(argument: &str) -> Result<Pair> {
        let (guest, stub) = argument.split_once(':').context("GUEST:STUB")?;
        Ok(Pair { guest: guest.parse()?, stub: stub.parse()?, counts: BTreeMap::new() })
    }

    fn ask(&mut self, word: u32) -> Result<()> {
        let line = stats::ask(self.stub, word)?.with_context(|| format!("stub {} is silent", self.stub))?;
        self.counts = totals(&line);
        Ok(())
    }
}

/// A stub's counters, those of its disks added up.
fn totals(line: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let words = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
    for (key, value) in words.filter(|(key, _)| !matches!(*key, "asked" | "disk")) {
        let count: &mut u64 = counts.entry(key.to_owned()).or_default();
        *count = count.wrapping_add(value.parse().unwrap_or(0));
    }
    counts
}

/// The sum of what a counter says.
fn sum(pairs: &[Pair], key: &str) -> u64 {
    pairs.iter().filter_map(|pair| pair.counts.get(key)).fold(0, |sum, count| sum.wrapping_add(*count))
}

/// All stubs' counters as those of one stub with one disk.
fn told(pairs: &[Pair], word: u32) -> String {
    let mut line = format!("asked={word} disk=0");
    let keys: Vec<&String> = pairs.first().map(|pair| pair.counts.keys().collect()).unwrap_or_default();
    for key in keys {
        // Writing into a String cannot fail.
        let _ = write!(line, " {key}={}", sum(pairs, key));
    }
    line
}

/// What dom0, guests and stubs have run, in nanoseconds each.
fn cpu_ns(xen: &Privcmd, pairs: &[Pair]) -> Result<[u64; 3]> {
    let sum =
        |of: fn(&Pair) -> u16| pairs.iter().map(|pair| mark::cpu_ns(xen, of(pair))).sum::<Result<u64>>();
    Ok([mark::cpu_ns(xen, DOM0)?, sum(|pair| pair.guest)?, sum(|pair| pair.stub)?])
}

/// Lets the first `count` guests run for that long, asks their stubs, and tells the span.
fn measure(
    xen: &Privcmd,
    pairs: &mut [Pair],
    (round, count): (u32, usize),
    seconds: Duration,
    word: u32,
) -> Result<()> {
    let label = format!("guests.reads.{count}.{round}");
    let before = cpu_ns(xen, pairs)?;
    let from = Instant::now();
    for pair in pairs.iter().take(count) {
        xen.unpause(pair.guest)?;
    }
    sleep(seconds);
    for pair in pairs.iter().take(count) {
        xen.pause(pair.guest)?;
    }
    let ns = from.elapsed().as_nanos();
    let after = cpu_ns(xen, pairs)?;
    let (requests, bytes) = (sum(pairs, "requests"), sum(pairs, "data_bytes"));
    for pair in pairs.iter_mut().take(count) {
        pair.ask(word)?;
    }
    let requests = sum(pairs, "requests").wrapping_sub(requests);
    let sectors = sum(pairs, "data_bytes").wrapping_sub(bytes) / SECTOR;
    let [dom0, guest, stub] = [0, 1, 2].map(|n: usize| after[n].saturating_sub(before[n]));
    println!(
        "@@PF fact m.{label}=ns={ns} from=0,0,0,0,0 to={}.{:09},{requests},{sectors},0,0 \
         dom0_ns={dom0} guest_ns={guest} stub_ns={stub}",
        ns / 1_000_000_000,
        ns % 1_000_000_000
    );
    println!("@@PF fact s.all.{label}={}", told(pairs, word));
    Ok(())
}

/// Measures all counts in all rounds.
///
/// # Errors
/// When a domain is gone or a stub does not answer.
pub fn run(arguments: &[String]) -> Result<()> {
    let [rounds, seconds, counts, pairs @ ..] = arguments else {
        anyhow::bail!("usage: meter many-guests ROUNDS SECONDS COUNTS GUEST:STUB...");
    };
    let rounds: u32 = rounds.parse().context("ROUNDS")?;
    let seconds = Duration::from_secs_f64(seconds.parse().context("SECONDS")?);
    let counts: Vec<usize> = counts.split(',').map(str::parse).collect::<Result<_, _>>().context("COUNTS")?;
    let mut pairs = pairs.iter().map(|pair| Pair::parse(pair)).collect::<Result<Vec<_>>>()?;
    ensure!(counts.iter().all(|&count| (1..=pairs.len()).contains(&count)), "more guests than there are");
    let xen = Privcmd::open()?;
    let mut word = 1;
    for pair in &mut pairs {
        pair.ask(word)?;
    }
    println!("@@PF fact s.all.start={}", told(&pairs, word));
    for round in 1..=rounds {
        for &count in &counts {
            word += 1;
            measure(&xen, &mut pairs, (round, count), seconds, word)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_counters_are_added_up() {
        let line = "asked=7 answers=5 disk=0 requests=3 sends=1 disk=1 requests=4 sends=2";
        let pair = |guest| Pair { guest, stub: 0, counts: totals(line) };
        let pairs = [pair(1), pair(2)];
        assert_eq!(sum(&pairs, "requests"), 14);
        assert_eq!(told(&pairs, 9), "asked=9 disk=0 answers=10 requests=14 sends=6");
        assert!(Pair::parse("1").is_err());
    }
}
