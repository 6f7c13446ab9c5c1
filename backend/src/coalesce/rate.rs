//! How fast requests complete, and so how long to wait for a batch of them.
//!
//! An event for a batch costs less than one for each request, but the last of a batch may not
//! come for long, and nobody must wait for that. So the wait has an end, which follows the
//! storage's own rate: no constant suits a disk of another speed, or an emulator.
//!
//! Disks that are busy together share guest, storage backend and stub, so each is slower: the
//! bounds are for a disk alone, and as many times as much for each of several.

/// Shortest wait.
pub(super) const WAIT_MIN_NS: u64 = 20_000;
/// A time between two completions that is longer than this says nothing: there was nothing to do.
const GAP_MAX_NS: u64 = 1_000_000;

/// The time between two completions, smoothed.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompletionRate {
    gap_ns: u64,
    completed: u64,
    at_ns: u64,
}

impl CompletionRate {
    /// Nothing is known yet: first waits are short.
    pub(super) const fn new() -> CompletionRate {
        CompletionRate { gap_ns: 0, completed: 0, at_ns: 0 }
    }

    /// `completed` requests of the disk are done in total, up to `now_ns`, while `busy_disks` of
    /// the stub were busy.
    pub(super) fn update(&mut self, completed: u64, now_ns: u64, busy_disks: u32) {
        let (more, elapsed_ns) = (completed.wrapping_sub(self.completed), now_ns.saturating_sub(self.at_ns));
        // Without a completion the time goes on: the next one counts all of it.
        if more == 0 {
            return;
        }
        let gap_max_ns = for_each(GAP_MAX_NS, busy_disks);
        let gap_ns = elapsed_ns.checked_div(more).unwrap_or(0).min(gap_max_ns);
        self.gap_ns = (self.gap_ns.saturating_mul(7).saturating_add(gap_ns)) / 8;
        (self.completed, self.at_ns) = (completed, now_ns);
    }

    /// How long to wait for `requests` completions from now on: twice as long as they should take,
    /// `max_ns` for each of the `busy_disks` at most.
    #[must_use]
    pub(super) fn wait_ns(&self, requests: u32, max_ns: u64, busy_disks: u32) -> u64 {
        let twice_ns = self.gap_ns.saturating_mul(u64::from(requests)).saturating_mul(2);
        twice_ns.min(for_each(max_ns, busy_disks)).max(WAIT_MIN_NS)
    }
}

fn for_each(bound_ns: u64, busy_disks: u32) -> u64 {
    bound_ns.saturating_mul(u64::from(busy_disks.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_NS: u64 = 10_000_000;

    #[test]
    fn a_wait_follows_the_rate() {
        let mut rate = CompletionRate::new();
        assert_eq!(rate.wait_ns(8, MAX_NS, 1), WAIT_MIN_NS);
        for turn in 1..100 {
            rate.update(turn * 4, turn * 40_000, 1);
        }
        // 10 us each; the first sample came from nowhere.
        assert!((150_000..=170_000).contains(&rate.wait_ns(8, MAX_NS, 1)), "{rate:?}");
        assert_eq!(rate.wait_ns(u32::MAX, MAX_NS, 1), MAX_NS);
        assert_eq!(rate.wait_ns(u32::MAX, 0, 1), WAIT_MIN_NS);
    }

    #[test]
    fn disks_that_share_may_wait_longer() {
        let mut rate = CompletionRate::new();
        for turn in 1..100 {
            rate.update(turn, turn * 20 * GAP_MAX_NS, 11);
        }
        let wait_ns = rate.wait_ns(2, u64::MAX, 11);
        assert!((43 * GAP_MAX_NS..=44 * GAP_MAX_NS).contains(&wait_ns), "{rate:?}");
        assert_eq!(rate.wait_ns(16, MAX_NS, 11), 11 * MAX_NS);
        assert_eq!(rate.wait_ns(16, MAX_NS, 0), MAX_NS);
    }

    #[test]
    fn a_pause_says_little_and_no_clock_or_count_breaks_it() {
        let mut rate = CompletionRate::new();
        rate.update(1, u64::MAX, 1);
        assert!(rate.wait_ns(1, MAX_NS, 1) <= 2 * GAP_MAX_NS);
        let before = rate.wait_ns(1, MAX_NS, 1);
        rate.update(1, 5, 1);
        assert_eq!(rate.wait_ns(1, MAX_NS, 1), before, "nothing completed");
        rate.update(0, 0, u32::MAX);
        assert!(rate.wait_ns(u32::MAX, MAX_NS, 1) <= MAX_NS);
    }
}
