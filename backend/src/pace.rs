//! How fast requests come to an end, and so how long to wait for a batch of them.
//!
//! An event for a batch costs less than one for each request, but the last of a batch may not
//! come for long, and nobody must wait for that. So the wait has an end, which follows the
//! storage's own pace: no constant suits a disk of another speed, or an emulator.

/// Shortest and longest wait.
const NAP_MIN_NS: u64 = 20_000;
const NAP_MAX_NS: u64 = 10_000_000;
/// Less than so many do not wait for longer than this.
const SMALL_BATCH: u32 = 6;
const SMALL_NAP_MAX_NS: u64 = 2_000_000;
/// A time between two ends that is longer than this says nothing: there was nothing to do.
const GAP_MAX_NS: u64 = 1_000_000;

/// The time between two requests' ends, smoothed.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    gap_ns: u64,
    ended: u64,
    at_ns: u64,
}

impl Pace {
    /// Nothing is known yet: first waits are short.
    #[must_use]
    pub const fn new() -> Pace {
        Pace { gap_ns: 0, ended: 0, at_ns: 0 }
    }

    /// `ended` requests have come to an end at all, up to `now_ns`.
    pub fn note(&mut self, ended: u64, now_ns: u64) {
        let (more, elapsed_ns) = (ended.wrapping_sub(self.ended), now_ns.saturating_sub(self.at_ns));
        if more == 0 {
            return;
        }
        let gap_ns = elapsed_ns.checked_div(more).unwrap_or(0).min(GAP_MAX_NS);
        self.gap_ns = (self.gap_ns.saturating_mul(7).saturating_add(gap_ns)) / 8;
        (self.ended, self.at_ns) = (ended, now_ns);
    }

    /// How long to wait for an event that comes with the `batch`-th end from now: twice as long
    /// as it should take.
    #[must_use]
    pub fn nap_ns(&self, batch: u32) -> u64 {
        let max_ns = if batch < SMALL_BATCH { SMALL_NAP_MAX_NS } else { NAP_MAX_NS };
        self.gap_ns.saturating_mul(u64::from(batch)).saturating_mul(2).clamp(NAP_MIN_NS, max_ns)
    }
}

impl Default for Pace {
    fn default() -> Pace {
        Pace::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nap_follows_the_pace() {
        let mut pace = Pace::new();
        assert_eq!(pace.nap_ns(8), NAP_MIN_NS);
        for turn in 1..100 {
            pace.note(turn * 4, turn * 40_000);
        }
        // 10 us each; the first sample came from nowhere.
        assert!((150_000..=170_000).contains(&pace.nap_ns(8)), "{pace:?}");
        assert_eq!(pace.nap_ns(u32::MAX), NAP_MAX_NS);
        for turn in 100..200 {
            pace.note(turn * 4, turn * 4_000_000);
        }
        assert_eq!(pace.nap_ns(SMALL_BATCH - 1), SMALL_NAP_MAX_NS);
        assert!(pace.nap_ns(SMALL_BATCH) > SMALL_NAP_MAX_NS);
    }

    #[test]
    fn a_pause_says_little_and_no_clock_or_count_breaks_it() {
        let mut pace = Pace::new();
        pace.note(1, u64::MAX);
        assert!(pace.nap_ns(1) <= 2 * GAP_MAX_NS);
        let before = pace.nap_ns(1);
        pace.note(1, 5);
        assert_eq!(pace.nap_ns(1), before, "nothing ended");
        pace.note(0, 0);
        assert!(pace.nap_ns(u32::MAX) <= NAP_MAX_NS);
    }
}
