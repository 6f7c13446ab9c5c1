//! The rules of `docs/architecture.md`, "Under load", as tables: when this is so, then that follows.

use super::*;
use alloc::vec::Vec;
use depth::{SMALL_WAIT_MAX_NS, WAIT_MAX_NS};
use rate::WAIT_MIN_NS;

const SMALL: u64 = 4096;
const LARGE: u64 = 64 << 10;
const HUGE: u64 = 1 << 20;

/// What a disk looks like to the rules.
#[derive(Clone, Copy, Debug)]
struct Disk {
    /// Requests that the driver has outstanding these days.
    depth: u32,
    /// Data of each.
    bytes: u64,
    /// Requests of each queue that the storage backend works on.
    at_storage: [u32; 3],
    /// Requests, of queue 0, that the storage backend was not told of.
    unsent: u32,
    /// Completed requests that the driver was not signalled.
    unsignalled: u32,
    /// The driver was just interrupted for a batch of queue 0.
    refill: bool,
}

/// Sixteen small requests outstanding, all of queue 0 and at the storage.
const DEEP: Disk =
    Disk { depth: 16, bytes: SMALL, at_storage: [16, 0, 0], unsent: 0, unsignalled: 0, refill: false };
/// The same driver, and nothing under way.
const IDLE: Disk = Disk { at_storage: [0; 3], ..DEEP };

impl Disk {
    fn coalescer(self) -> Coalescer {
        let mut coalescer = Coalescer::new(3);
        coalescer.on_storage(true);
        coalescer.on_outstanding(self.depth);
        // Until the mean is that.
        (0..200).for_each(|_| coalescer.on_request(self.bytes));
        if self.refill {
            coalescer.on_published(1, 1);
            assert!(coalescer.signal_now(true));
            coalescer.on_signalled(0, 1);
            coalescer.on_interrupt();
        }
        for (queue, &requests) in self.at_storage.iter().enumerate() {
            (0..requests).for_each(|_| coalescer.on_submitted(queue));
        }
        assert!(coalescer.submit_now(true));
        (0..self.unsent).for_each(|_| coalescer.on_submitted(0));
        coalescer.on_published(self.unsignalled.into(), self.unsignalled);
        coalescer
    }
}

#[test]
fn with_one_to_three_outstanding_nothing_is_held_and_each_event_is_for_one() {
    for depth in 1..=3 {
        let disk = Disk { depth, at_storage: [depth, 0, 0], ..DEEP };
        assert!(!disk.coalescer().is_coalescing());
        assert!(Disk { unsent: 1, ..disk }.coalescer().submit_now(false));
        assert!(Disk { unsignalled: 1, ..disk }.coalescer().signal_now(false));
        assert_eq!(disk.coalescer().early_signal_threshold(), None);
        let mut coalescer = disk.coalescer();
        assert_eq!(coalescer.thresholds(), Thresholds { completions: 1, requests: 1 });
        assert_eq!(coalescer.deadline_ns(1, 1), None, "a stub sleeps without a timer");
    }
}

#[test]
fn a_batch_is_what_is_outstanding_half_of_it_if_large_and_one_request_if_huge() {
    let batches = [
        (4, SMALL, 4),
        (16, SMALL, 16),
        (32, SMALL, 32),
        (300, SMALL, 32),
        (16, LARGE, 8),
        (300, LARGE, 16),
        (16, HUGE, 1),
    ];
    for (depth, bytes, batch) in batches {
        assert_eq!(Disk { depth, bytes, ..DEEP }.coalescer().batch_size(), batch, "{depth} of {bytes}");
    }
    let mut without_events = DEEP.coalescer();
    without_events.on_storage(false);
    assert_eq!(without_events.batch_size(), 1, "an engine without events has no use for batches");
}

#[test]
fn the_guest_is_interrupted_when_a_batch_is_done_or_nothing_is_at_the_storage() {
    let rules = [
        (Disk { unsignalled: 0, ..DEEP }, false, false),
        (Disk { unsignalled: 1, ..DEEP }, false, false),
        (Disk { unsignalled: 15, ..DEEP }, false, false),
        (Disk { unsignalled: 16, ..DEEP }, false, true),
        (Disk { unsignalled: 17, ..DEEP }, false, true),
        // A whole batch is back, and this is its first request.
        (Disk { unsignalled: 1, ..DEEP }, true, true),
        (Disk { unsignalled: 0, ..DEEP }, true, false),
        (Disk { unsignalled: 1, ..IDLE }, false, true),
        // What the storage backend was not told of does not come back.
        (Disk { unsignalled: 1, unsent: 5, ..IDLE }, false, true),
        (Disk { unsignalled: 7, bytes: LARGE, ..DEEP }, false, false),
        (Disk { unsignalled: 8, bytes: LARGE, ..DEEP }, false, true),
    ];
    for (disk, ahead, signal) in rules {
        let mut coalescer = disk.coalescer();
        assert_eq!(coalescer.signal_now(ahead), signal, "{disk:?} {ahead}");
        assert!(!signal || !coalescer.signal_now(true), "once is enough");
    }
}

#[test]
fn a_batch_is_back_when_it_or_all_there_is_waits_to_be_collected() {
    let rules = [
        (DEEP, Some(16)),
        (Disk { depth: 300, at_storage: [100, 0, 0], ..DEEP }, Some(32)),
        (Disk { at_storage: [5, 0, 0], ..DEEP }, Some(5)),
        (Disk { at_storage: [2, 3, 0], ..DEEP }, Some(5)),
        // One response is signalled anyway.
        (Disk { at_storage: [1, 0, 0], ..DEEP }, Some(2)),
        (Disk { depth: 3, ..DEEP }, None),
    ];
    for (disk, threshold) in rules {
        assert_eq!(disk.coalescer().early_signal_threshold(), threshold, "{disk:?}");
    }
}

#[test]
fn the_backend_is_told_when_new_requests_are_a_batch_or_three_quarters_of_several_queues() {
    let one = DEEP;
    let two = Disk { at_storage: [8, 8, 0], ..DEEP };
    let rules = [
        (Disk { unsent: 0, ..one }, true), // Nothing to tell costs nothing.
        (Disk { unsent: 1, ..one }, false),
        (Disk { unsent: 15, ..one }, false),
        (Disk { unsent: 16, ..one }, true),
        (Disk { unsent: 11, ..two }, false),
        (Disk { unsent: 12, ..two }, true),
        (Disk { unsent: 7, bytes: LARGE, ..one }, false),
        (Disk { unsent: 8, bytes: LARGE, ..one }, true),
        (Disk { unsent: 1, bytes: HUGE, ..one }, true),
    ];
    for (disk, submit) in rules {
        let mut coalescer = disk.coalescer();
        assert_eq!(coalescer.submit_now(false), submit, "{disk:?}");
        assert_eq!(coalescer.unsent(), if submit { 0 } else { disk.unsent });
    }
}

#[test]
fn the_backend_is_told_at_once_when_something_waits_for_its_next_completion() {
    let disk = Disk { unsent: 1, ..DEEP };
    assert!(disk.coalescer().submit_now(true), "requests are held for want of room");
    let mut coalescer = disk.coalescer();
    coalescer.on_queue_reset(0);
    assert!(coalescer.has_orphans());
    assert!(coalescer.submit_now(false), "new requests wait for the last orphan");
}

#[test]
fn the_stub_is_woken_for_what_makes_a_batch_with_what_waits_already() {
    let rules = [
        // (completions, requests of each active queue)
        (DEEP, (16, 16)),
        (Disk { unsignalled: 5, ..DEEP }, (11, 16)),
        (Disk { unsent: 5, ..DEEP }, (16, 11)),
        (Disk { unsignalled: 16, unsent: 16, ..DEEP }, (1, 1)),
        // No more than all there are can come back.
        (Disk { at_storage: [3, 0, 0], ..DEEP }, (3, 16)),
        (Disk { at_storage: [3, 0, 0], unsent: 2, ..DEEP }, (3, 14)),
        // Each queue in use brings its part.
        (Disk { at_storage: [8, 8, 0], ..DEEP }, (16, 8)),
        (Disk { at_storage: [6, 5, 5], ..DEEP }, (16, 6)),
        (Disk { at_storage: [15, 1, 0], unsent: 3, ..DEEP }, (16, 7)),
        // The first one if nothing is under way,
        (IDLE, (1, 1)),
        // unless a batch was just finished, of which another is expected to come.
        (Disk { refill: true, ..IDLE }, (1, 16)),
        (Disk { depth: 300, at_storage: [200, 0, 0], ..DEEP }, (32, 32)),
    ];
    for (disk, (completions, requests)) in rules {
        let mut coalescer = disk.coalescer();
        assert_eq!(coalescer.thresholds(), Thresholds { completions, requests }, "{disk:?}");
        let held = disk.unsent + disk.unsignalled > 0;
        let threshold = if held { 16 } else { completions.max(requests.into()) };
        assert_eq!(coalescer.event_threshold(), threshold, "{disk:?}");
        assert_eq!(coalescer.deadline_ns(1, 1).is_some(), threshold > 1, "{disk:?}");
    }
}

#[test]
fn a_queue_is_active_while_it_has_requests_at_the_storage_or_had_some_in_the_last_batch() {
    let mut coalescer = Disk { refill: true, at_storage: [0, 1, 0], ..DEEP }.coalescer();
    assert_eq!([0, 1, 2, 9].map(|queue| coalescer.is_active(queue)), [true, true, false, false]);
    coalescer.on_completed(Some(1));
    coalescer.on_signalled(0, 0);
    coalescer.on_signalled(1, 1);
    assert_eq!([0, 1, 2].map(|queue| coalescer.is_active(queue)), [false, true, false]);
    coalescer.on_queue_reset(1);
    assert_eq!([0, 1, 2].map(|queue| coalescer.is_active(queue)), [false; 3]);
}

/// How long a disk waits whose requests complete every `gap_ns`, beside others.
fn wait_ns(disk: Disk, gap_ns: u64, busy_disks: u32) -> u64 {
    let mut coalescer = disk.coalescer();
    let mut now_ns = 0;
    for completed in 1..200 {
        now_ns += gap_ns;
        coalescer.on_published(completed, 0);
        coalescer.thresholds();
        let deadline_ns = coalescer.deadline_ns(now_ns, busy_disks);
        if completed == 199 {
            return deadline_ns.map_or(0, |deadline_ns| deadline_ns - now_ns);
        }
    }
    0
}

#[test]
fn a_wait_lasts_twice_as_long_as_a_batch_takes_within_bounds() {
    const MS: u64 = 1_000_000;
    let small = Disk { depth: 5, at_storage: [5, 0, 0], ..DEEP };
    let rules = [
        (DEEP, 10_000, 1, 2 * 16 * 10_000),
        (Disk { bytes: LARGE, ..DEEP }, 10_000, 1, 2 * 16 / 2 * 10_000),
        (DEEP, 100, 1, WAIT_MIN_NS),
        (DEEP, MS, 1, WAIT_MAX_NS),
        (small, MS, 1, SMALL_WAIT_MAX_NS),
        // As many times as much as disks are busy, but the least is the least.
        (DEEP, MS, 3, 3 * WAIT_MAX_NS),
        (small, MS, 3, 3 * SMALL_WAIT_MAX_NS),
        (DEEP, 10_000, 3, 2 * 16 * 10_000),
        (DEEP, 100, 3, WAIT_MIN_NS),
        (Disk { depth: 3, ..DEEP }, 10_000, 1, 0),
    ];
    for (disk, gap_ns, busy_disks, expected_ns) in rules {
        let wait_ns = wait_ns(disk, gap_ns, busy_disks);
        // The mean is whole nanoseconds.
        let range = expected_ns.saturating_sub(expected_ns / 100)..=expected_ns;
        assert!(range.contains(&wait_ns), "{disk:?} {gap_ns} {busy_disks}: {wait_ns} for {expected_ns}");
    }
}

#[test]
fn when_time_is_up_everything_goes() {
    let mut coalescer = Disk { unsent: 3, unsignalled: 2, ..DEEP }.coalescer();
    assert!(!coalescer.submit_now(false) && !coalescer.signal_now(false));
    coalescer.on_deadline();
    assert!(coalescer.submit_now(false) && coalescer.signal_now(false));
    coalescer.on_turn_end(true);
    assert!(!coalescer.is_holding() && !coalescer.is_overdue());
}

#[test]
fn after_a_deadline_the_next_batch_is_smaller() {
    // Times of deadlines in a row, and the batch afterwards.
    let rules = [
        // Something was held: a quarter less.
        (Disk { unsent: 3, ..DEEP }, 1, 12),
        (Disk { unsignalled: 3, ..DEEP }, 1, 12),
        (Disk { unsent: 3, ..DEEP }, 2, 9),
        // A batch was expected, and some of it is under way.
        (Disk { refill: true, ..DEEP }, 1, 12),
        // A batch was expected, and nothing came at all.
        (Disk { refill: true, ..IDLE }, 1, 1),
        // Only the storage was waited for: that says nothing of the driver.
        (DEEP, 1, 16),
        (DEEP, 5, 16),
    ];
    for (disk, deadlines, batch) in rules {
        let mut coalescer = disk.coalescer();
        (0..deadlines).for_each(|_| coalescer.on_deadline());
        assert_eq!(coalescer.batch_size(), batch, "{disk:?} {deadlines}");
    }
}

#[test]
fn a_reset_expects_no_batch() {
    let mut coalescer = Disk { refill: true, ..IDLE }.coalescer();
    assert!(coalescer.is_busy());
    coalescer.on_reset();
    assert!(!coalescer.is_busy());
    assert_eq!(coalescer.thresholds(), Thresholds { completions: 1, requests: 1 });
}

#[test]
fn eight_deadlines_in_a_row_for_nothing_end_the_timer_until_something_comes() {
    let mut coalescer = DEEP.coalescer();
    let mut now_ns = 1;
    for deadline in 0..8 {
        assert_eq!(coalescer.thresholds().completions, 16, "{deadline}");
        now_ns = coalescer.deadline_ns(now_ns, 1).expect("a timer");
        coalescer.on_clock(now_ns, 1);
        coalescer.on_turn_end(false);
    }
    assert_eq!(coalescer.thresholds(), Thresholds { completions: 1, requests: 1 });
    assert_eq!(coalescer.deadline_ns(now_ns, 1), None);
    coalescer.on_completed(Some(0));
    coalescer.on_turn_end(true);
    assert_eq!(coalescer.thresholds().completions, 15, "then it is waited for as ever");
}

/// What becomes of a hold at each event.
#[test]
fn a_hold_has_a_deadline_from_its_first_reading_of_the_clock_until_it_ends() {
    type Event = fn(&mut Coalescer);
    let rules: [(Hold, u32, Event, Hold); 12] = [
        // (hold, requests held, event, hold afterwards)
        (Hold::None, 0, |c| c.on_clock(5, 1), Hold::None),
        (Hold::None, 1, |c| c.on_clock(5, 1), Hold::Until(5 + WAIT_MIN_NS)),
        (Hold::Until(9), 1, |c| c.on_clock(8, 1), Hold::Until(9)),
        (Hold::Until(9), 1, |c| c.on_clock(9, 1), Hold::Overdue),
        // Nothing is held, but a batch is waited for.
        (Hold::Until(9), 0, |c| c.on_clock(9, 1), Hold::Overdue),
        (Hold::Overdue, 1, |c| c.on_clock(99, 1), Hold::Overdue),
        (Hold::Until(9), 1, |c| c.on_turn_end(true), Hold::Until(9)),
        (Hold::Until(9), 0, |c| c.on_turn_end(true), Hold::None),
        (Hold::Overdue, 0, |c| c.on_turn_end(false), Hold::None),
        (Hold::Until(9), 1, |c| assert_eq!(sleep(c, 5), Some(9)), Hold::Until(9)),
        (Hold::None, 1, |c| assert_eq!(sleep(c, 5), Some(5 + WAIT_MIN_NS)), Hold::Until(5 + WAIT_MIN_NS)),
        // A wait for a batch begins anew with each sleep.
        (Hold::Until(9), 0, |c| assert_eq!(sleep(c, 7), Some(7 + WAIT_MIN_NS)), Hold::Until(7 + WAIT_MIN_NS)),
    ];
    for (row, (before, unsent, event, after)) in rules.into_iter().enumerate() {
        let mut coalescer = Disk { unsent, ..DEEP }.coalescer();
        coalescer.hold = before;
        event(&mut coalescer);
        assert_eq!(coalescer.hold, after, "row {row}");
    }
}

fn sleep(coalescer: &mut Coalescer, now_ns: u64) -> Option<u64> {
    coalescer.on_idle();
    coalescer.thresholds();
    coalescer.deadline_ns(now_ns, 1)
}

#[test]
fn the_clock_is_wanted_while_something_is_held_or_waited_for() {
    let rules = [
        // (hold, requests held, is_untimed, needs_clock)
        (Hold::None, 0, false, false),
        (Hold::None, 1, true, true),
        (Hold::Until(9), 0, false, true),
        (Hold::Until(9), 1, false, true),
    ];
    for (hold, unsent, untimed, clock) in rules {
        let mut coalescer = Disk { unsent, ..DEEP }.coalescer();
        coalescer.hold = hold;
        assert_eq!((coalescer.is_untimed(), coalescer.needs_clock()), (untimed, clock), "{hold:?} {unsent}");
    }
}

#[test]
fn what_is_at_the_storage_is_counted_by_queue_and_orphans_apart() {
    let mut coalescer = Disk { at_storage: [2, 1, 0], ..DEEP }.coalescer();
    coalescer.on_queue_reset(0);
    assert_eq!((coalescer.in_flight(), coalescer.has_orphans()), (3, true));
    for queue in [None, Some(1), None] {
        assert!(coalescer.has_orphans());
        coalescer.on_completed(queue);
    }
    assert_eq!((coalescer.in_flight(), coalescer.has_orphans()), (0, false));
    let counts: Vec<_> = (0..3).map(|queue| coalescer.is_active(queue)).collect();
    assert_eq!(counts, [false; 3]);
}
