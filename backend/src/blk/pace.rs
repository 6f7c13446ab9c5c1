//! How fast requests come to an end, and so how long to wait for a batch of them.
//!
//! An event for a batch costs less than one for each request, but the last of a batch may not
//! come for long, and nobody must wait for that. So the wait has an end, which follows the
//! storage's own pace: no constant suits a disk of another speed, or an emulator.
//!
//! Disks that are busy together share guest, backend and stub, so each gets on more slowly: the
//! bounds are for a disk alone, and as many times as much for each of several.

/// Shortest wait.
const NAP_MIN_NS: u64 = 20_000;
/// A time between two ends that is longer than this says nothing: there was nothing to do.
const GAP_MAX_NS: u64 = 1_000_000;

/// The time between two requests' ends, smoothed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    gap_ns: u64,
    ended: u64,
    at_ns: u64,
}

impl Pace {
    /// Nothing is known yet: first waits are short.
    pub(super) const fn new() -> Pace {
        Pace { gap_ns: 0, ended: 0, at_ns: 0 }
    }

    /// `ended` requests of the disk have come to an end at all, up to `now_ns`. `sharers`: disks
    /// that are busy.
    pub(super) fn note(&mut self, ended: u64, now_ns: u64, sharers: u32) {
        let (more, elapsed_ns) = (ended.wrapping_sub(self.ended), now_ns.saturating_sub(self.at_ns));
        if more == 0 {
            return;
        }
        let gap_max_ns = for_each(GAP_MAX_NS, sharers);
        let gap_ns = elapsed_ns.checked_div(more).unwrap_or(0).min(gap_max_ns);
        self.gap_ns = (self.gap_ns.saturating_mul(7).saturating_add(gap_ns)) / 8;
        (self.ended, self.at_ns) = (ended, now_ns);
    }

    /// How long to wait for an event that comes with the `batch`-th end from now: twice as long
    /// as it should take, `max_ns` for each of the `sharers` at most.
    #[must_use]
    pub(super) fn nap_ns(&self, batch: u32, max_ns: u64, sharers: u32) -> u64 {
        let twice_ns = self.gap_ns.saturating_mul(u64::from(batch)).saturating_mul(2);
        twice_ns.min(for_each(max_ns, sharers)).max(NAP_MIN_NS)
    }
}

fn for_each(bound_ns: u64, sharers: u32) -> u64 {
    bound_ns.saturating_mul(u64::from(sharers.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_NS: u64 = 10_000_000;

    #[test]
    fn a_nap_follows_the_pace() {
        let mut pace = Pace::new();
        assert_eq!(pace.nap_ns(8, MAX_NS, 1), NAP_MIN_NS);
        for turn in 1..100 {
            pace.note(turn * 4, turn * 40_000, 1);
        }
        // 10 us each; the first sample came from nowhere.
        assert!((150_000..=170_000).contains(&pace.nap_ns(8, MAX_NS, 1)), "{pace:?}");
        assert_eq!(pace.nap_ns(u32::MAX, MAX_NS, 1), MAX_NS);
        assert_eq!(pace.nap_ns(u32::MAX, 0, 1), NAP_MIN_NS);
    }

    #[test]
    fn disks_that_share_may_wait_longer() {
        let mut pace = Pace::new();
        for turn in 1..100 {
            pace.note(turn, turn * 20 * GAP_MAX_NS, 11);
        }
        let nap_ns = pace.nap_ns(2, u64::MAX, 11);
        assert!((43 * GAP_MAX_NS..=44 * GAP_MAX_NS).contains(&nap_ns), "{pace:?}");
        assert_eq!(pace.nap_ns(16, MAX_NS, 11), 11 * MAX_NS);
        assert_eq!(pace.nap_ns(16, MAX_NS, 0), MAX_NS);
    }

    #[test]
    fn a_pause_says_little_and_no_clock_or_count_breaks_it() {
        let mut pace = Pace::new();
        pace.note(1, u64::MAX, 1);
        assert!(pace.nap_ns(1, MAX_NS, 1) <= 2 * GAP_MAX_NS);
        let before = pace.nap_ns(1, MAX_NS, 1);
        pace.note(1, 5, 1);
        assert_eq!(pace.nap_ns(1, MAX_NS, 1), before, "nothing ended");
        pace.note(0, 0, u32::MAX);
        assert!(pace.nap_ns(u32::MAX, MAX_NS, 1) <= MAX_NS);
    }
}
