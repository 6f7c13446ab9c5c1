//! How long to poll for work before the CPU is given away.
//!
//! A blocked stub answers several times later than one that polls, so it polls for a while
//! after its last work. Whether that pays shows by how long nothing came in the end: if work
//! mostly comes within the budget, it is spent; if not, hardly any of it is.

use kernel::Hypervisor;

/// Polling costs no more than this where it does not pay.
const LEAST_NS: u64 = 20_000;
/// The score from which on the budget is spent, and the highest: a few odd waits either way do
/// not change what is done.
const PAYS: u8 = 2;
const SCORE_MAX: u8 = 4;
/// Polls in vain between two readings of the clock, which is expensive in an emulator.
const CLOCK_POLLS: u32 = 16;
/// How often others are asked whether they want the CPU, the first time after [`CLOCK_POLLS`]: a vCPU
/// that was just woken may be queued for ours, and Xen lets us have it for 1 ms (`ratelimit_us`).
const YIELD_NS: u64 = 100_000;

/// Polls, and decides from the past for how long.
#[derive(Clone, Copy, Debug)]
pub struct BusyPoll {
    budget_ns: u64,
    score: u8,
    /// Since when there is no work, if the clock was read since then.
    idle_since_ns: Option<u64>,
}

impl BusyPoll {
    /// Spends at most `budget_ns` after each work; 0: does not poll at all.
    #[must_use]
    pub const fn new(budget_ns: u64) -> BusyPoll {
        BusyPoll { budget_ns, score: PAYS, idle_since_ns: None }
    }

    /// How long to poll now.
    #[must_use]
    pub const fn limit_ns(&self) -> u64 {
        // The configuration's bound holds also where it is the shorter one.
        if self.score >= PAYS || self.budget_ns < LEAST_NS { self.budget_ns } else { LEAST_NS }
    }

    /// If there is no work, it is since now.
    pub const fn begin(&mut self) {
        self.idle_since_ns = None;
    }

    /// Calls `poll` until it finds work, but for no longer than pays, nor while others want the
    /// CPU. Whether there is work.
    #[must_use]
    pub fn wait<H: Hypervisor>(&mut self, hv: &H, mut poll: impl FnMut() -> bool) -> bool {
        // Time 0 is long ago, so others are asked for the first time with the first reading of the clock.
        let (mut yielded_ns, mut given_away) = (0, false);
        loop {
            for _ in 0..CLOCK_POLLS {
                if poll() {
                    self.note_end(hv);
                    return true;
                }
            }
            let now_ns = hv.now_ns();
            // The first reading is where the idle time begins: what the polls before it took is little.
            if now_ns.saturating_sub(*self.idle_since_ns.get_or_insert(now_ns)) >= self.limit_ns() {
                return false;
            }
            if now_ns.saturating_sub(yielded_ns) >= YIELD_NS {
                let waited_ns = hv.waited_ns();
                hv.yield_cpu();
                if hv.waited_ns() != waited_ns {
                    // Once it may be the vCPU that we wait for. Twice, others have work to do, our
                    // storage backend perhaps: no CPU is to spare for polling.
                    if given_away {
                        return false;
                    }
                    given_away = true;
                }
                yielded_ns = now_ns;
            }
        }
    }

    /// Work or an event has come: learns from how long that took, if the clock was read at all.
    pub fn note_end<H: Hypervisor>(&mut self, hv: &H) {
        if let Some(since_ns) = self.idle_since_ns {
            self.note(hv.now_ns().saturating_sub(since_ns));
        }
    }

    /// Work came after `idle_ns` without, of which the CPU may have been given away.
    const fn note(&mut self, idle_ns: u64) {
        // No poll within the budget would have found it.
        if idle_ns > self.budget_ns {
            self.score = self.score.saturating_sub(1);
        } else if self.score < SCORE_MAX {
            self.score = self.score.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use core::cell::Cell;
    use kernel::DomId;
    use kernel::fake::FakeXen;

    #[test]
    fn the_budget_is_spent_only_where_it_pays() {
        let mut poll = BusyPoll::new(1_000_000);
        assert_eq!(poll.limit_ns(), 1_000_000);
        poll.note(50_000_000);
        assert_eq!(poll.limit_ns(), LEAST_NS);
        poll.note(900_000);
        assert_eq!(poll.limit_ns(), 1_000_000);
        (0..100).for_each(|_| poll.note(10));
        poll.note(50_000_000);
        assert_eq!(poll.limit_ns(), 1_000_000, "one long wait among short ones");
        (0..2).for_each(|_| poll.note(u64::MAX));
        assert_eq!(poll.limit_ns(), LEAST_NS, "a long past is forgotten");
    }

    #[test]
    fn no_budget_means_no_polling() {
        let mut poll = BusyPoll::new(0);
        poll.note(0);
        assert_eq!(poll.limit_ns(), 0);
        let mut short = BusyPoll::new(5_000);
        short.note(u64::MAX);
        assert_eq!(short.limit_ns(), 5_000, "never longer than wanted");
    }

    /// A stub has been up for a while when it polls.
    const START_NS: u64 = 1_000_000_000;

    /// A machine whose clock moves by a microsecond with each reading.
    fn xen() -> FakeXen {
        let xen = FakeXen::new(DomId(7));
        xen.advance_ns(START_NS);
        xen.set_tick_ns(1_000);
        xen
    }

    /// Counts how often the CPU is given away; the first `busy` times somebody else takes it.
    fn count_yields(xen: &FakeXen, busy: u32) -> Rc<Cell<u32>> {
        let count: Rc<Cell<u32>> = Rc::default();
        let (counter, peer) = (count.clone(), xen.clone());
        xen.on_idle(move || {
            counter.set(counter.get() + 1);
            if counter.get() <= busy {
                peer.add_waited_ns(5_000);
            }
            false
        });
        count
    }

    #[test]
    fn the_budget_bounds_the_polling_and_the_clock_is_read_every_16_polls() {
        let xen = xen();
        let mut poll = BusyPoll::new(50_000);
        let mut polls = 0;
        let found = poll.wait(&xen, || {
            polls += 1;
            false
        });
        assert!(!found);
        // The first reading is when the time begins.
        assert_eq!((xen.now_ns() - START_NS, polls), (52_000, 51 * 16));
    }

    #[test]
    fn what_is_found_within_the_first_polls_costs_no_reading_of_the_clock() {
        let xen = xen();
        let mut poll = BusyPoll::new(50_000);
        let mut polls = 0;
        let found = poll.wait(&xen, || {
            polls += 1;
            polls == 16
        });
        assert!(found);
        assert_eq!(xen.now_ns() - START_NS, 1_000, "this reading is the first");
    }

    #[test]
    fn a_poll_in_vain_and_a_long_block_after_it_shorten_the_next_polls() {
        let xen = xen();
        let mut poll = BusyPoll::new(500_000);
        for turn in 0..3 {
            poll.begin();
            assert!(!poll.wait(&xen, || false));
            xen.advance_ns(50_000_000);
            poll.note_end(&xen);
            assert_eq!(poll.limit_ns(), LEAST_NS, "turn {turn}");
        }
        for _ in 0..3 {
            poll.begin();
            let mut polls = 0;
            assert!(poll.wait(&xen, || {
                polls += 1;
                polls > 40
            }));
        }
        assert_eq!(poll.limit_ns(), 500_000, "work came while it was polled for");
    }

    #[test]
    fn a_block_that_no_poll_preceded_teaches_nothing() {
        let xen = xen();
        let mut poll = BusyPoll::new(500_000);
        poll.begin();
        xen.advance_ns(50_000_000);
        poll.note_end(&xen);
        assert_eq!(poll.limit_ns(), 500_000);
    }

    #[test]
    fn others_are_let_run_after_the_first_polls_and_every_100_us_after_that() {
        let xen = xen();
        let yields = count_yields(&xen, 0);
        let mut poll = BusyPoll::new(1_000_000);
        let (mut polls, seen) = (0, yields.clone());
        assert!(!poll.wait(&xen, || {
            polls += 1;
            assert!(polls > 16 || seen.get() == 0, "not before");
            assert!(polls <= 16 || seen.get() > 0, "but then");
            false
        }));
        assert_eq!(yields.get(), 10, "at 1 us, and each 100 us");
    }

    #[test]
    fn polling_ends_when_others_take_the_cpu_a_second_time() {
        for (busy, expected) in [(1, 10), (2, 2), (9, 2)] {
            let xen = xen();
            // Somebody who runs at the first yield only may be the vCPU that we wait for.
            let yields = count_yields(&xen, busy);
            assert!(!BusyPoll::new(1_000_000).wait(&xen, || false));
            assert_eq!(yields.get(), expected, "others took it {busy} times");
        }
    }
}
