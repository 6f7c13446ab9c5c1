//! What else the machine was busy with: a measurement beside a compiler is none.

use std::fs;
use std::time::Instant;

/// Ticks a second of what `/proc` counts, on every Linux of today.
const TICKS: f64 = 100.0;
/// Others that take more than this many CPUs spoil a span.
pub const TOO_MUCH: f64 = 0.15;

/// Tells how many CPUs everybody but one process took.
#[derive(Debug)]
pub struct Others {
    pid: u32,
    last: Option<Look>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    busy: u64,
    own: u64,
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
        let busy = fs::read_to_string("/proc/stat").ok().and_then(|text| busy_ticks(&text))?;
        let own = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok();
        let own = own.and_then(|text| own_ticks(&text))?;
        let look = Look { at: Instant::now(), busy, own };
        let last = self.last.replace(look)?;
        let others = look.busy.checked_sub(last.busy)?.saturating_sub(look.own.saturating_sub(last.own));
        let seconds = look.at.duration_since(last.at).as_secs_f64();
        Some(super::sample::float(others) / TICKS / seconds)
    }
}

/// Ticks of all CPUs that were neither idle nor waiting; stolen ones (somebody else's virtual
/// machine) count.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks = fields.map(|field| field.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = *ticks.as_slice() else {
        return None;
    };
    Some(user + nice + system + irq + softirq + steal)
}

/// Ticks of a process, in user and kernel mode.
fn own_ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found() {
        assert_eq!(busy_ticks("cpu  10 1 5 100 50 2 3 4 0 0\ncpu0 1 1 1"), Some(25));
        assert_eq!(busy_ticks("cpu  10 1"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 0 0 20 0 1 0 5 6 7";
        assert_eq!(own_ticks(stat), Some(42));
    }

    #[test]
    fn our_own_time_is_not_that_of_others() {
        let mut others = Others::than(std::process::id());
        assert!(others.since_last().is_none_or(|cpus| cpus >= 0.0));
    }
}
