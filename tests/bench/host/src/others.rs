//! What else the machine was busy with: a measurement beside a compiler is none.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use crate::span::float;

/// Ticks a second of what `/proc` counts, on every Linux of today.
const TICKS: f64 = 100.0;
/// Others that take more than this many CPUs spoil a span.
pub const TOO_MUCH: f64 = 0.15;

/// Tells how many CPUs everybody but one process took.
///
/// Processes are asked for it, each of them: the kernel's own total of busy time is sampled, and
/// counts too much where an emulator sleeps and wakes thousands of times a second.
#[derive(Debug)]
pub struct Others {
    pid: u32,
    last: Option<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    /// Stolen by somebody else's virtual machine.
    steal: u64,
    /// Of each process, its ended children's included.
    ticks: HashMap<u32, u64>,
}

impl Others {
    /// Everybody but `pid`, from now on.
    #[must_use]
    pub fn than(pid: u32) -> Self {
        let mut others = Self { pid, last: None };
        others.since_last();
        others
    }

    /// CPUs that others took since the last call; `None` where `/proc` does not tell.
    pub fn since_last(&mut self) -> Option<f64> {
        let steal = fs::read_to_string("/proc/stat").ok().and_then(|text| steal_ticks(&text))?;
        let sample = Sample { at: Instant::now(), steal, ticks: all_ticks(self.pid)? };
        let last = self.last.replace(sample.clone())?;
        let more = sample
            .ticks
            .iter()
            .map(|(pid, &ticks)| ticks.saturating_sub(last.ticks.get(pid).copied().unwrap_or(0)));
        let others = sample.steal.saturating_sub(last.steal) + more.sum::<u64>();
        let seconds = sample.at.duration_since(last.at).as_secs_f64();
        Some(float(others) / TICKS / seconds)
    }
}

/// Ticks of every process but `except`.
fn all_ticks(except: u32) -> Option<HashMap<u32, u64>> {
    let names = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok()).filter(|&pid: &u32| pid != except);
    let ticks_of = |pid| {
        // It may have ended meanwhile.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, process_ticks(&stat)?))
    };
    Some(pids.filter_map(ticks_of).collect())
}

/// Ticks of all CPUs that were stolen.
fn steal_ticks(stat: &str) -> Option<u64> {
    stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().nth(7)?.parse().ok()
}

/// Ticks of a process and of its children that have ended, in user and kernel mode.
fn process_ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().ok());
    ticks.collect::<Option<Vec<_>>>().map(|ticks| ticks.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found() {
        assert_eq!(steal_ticks("cpu  10 1 5 100 50 2 3 4 0 0\ncpu0 1 1 1"), Some(4));
        assert_eq!(steal_ticks("cpu  10 1"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 2 1 20 0 1 0 5 6 7";
        assert_eq!(process_ticks(stat), Some(45));
    }

    #[test]
    fn what_others_do_is_seen_and_our_own_is_not() {
        let busy =
            || (0..40_000_000u64).fold(1u64, |hash, at| std::hint::black_box(hash.wrapping_mul(31) ^ at));
        let mut everybody = Others::than(u32::MAX);
        let mut others = Others::than(std::process::id());
        let before = all_ticks(std::process::id()).map(|ticks| ticks.contains_key(&std::process::id()));
        assert_eq!(before, Some(false));
        while process_ticks(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap() < 20 {
            busy();
        }
        assert!(others.since_last().is_some());
        assert!(everybody.since_last().is_some_and(|cpus| cpus > 0.0), "this process is one of all");
    }
}
