//! Interrupts and notifications: none lost, none too many.

use super::*;

/// Fifty reads were submitted, and are done.
fn fifty_reads() -> Rig {
    let mut rig = Rig::new(ALL, 256);
    rig.driver.want_interrupt(1);
    for sector in 0..50 {
        rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
        rig.driver.kick();
    }
    rig.run();
    rig
}

#[test]
fn a_batch_needs_one_interrupt_and_one_notification() {
    let mut rig = fifty_reads();
    assert_eq!((rig.driver.kicks, rig.irqs), (1, 1));
    assert_eq!(rig.driver.take_interrupt(), INT_USED);
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), 0);
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    let mut rig = Rig::new(ALL & !F_EVENT_IDX, 8);
    rig.driver.set_no_interrupt(true);
    rig.read(0, 512, &Framing::Usual);
    assert_eq!((rig.irqs, rig.driver.read(INTERRUPT_STATUS)), (0, 0));
    rig.driver.set_no_interrupt(false);
    rig.read(0, 512, &Framing::Usual);
    assert_eq!((rig.irqs, rig.driver.read(INTERRUPT_STATUS)), (1, INT_USED));
}

#[test]
fn no_notification_and_no_interrupt_is_lost_across_65535() {
    for wanted in [ALL, ALL & !F_EVENT_IDX] {
        let mut rig = Rig::new(wanted, 4);
        rig.driver.indirect = false;
        let (header, status) = (rig.driver.alloc(16), rig.driver.alloc(2));
        rig.mem.poke(header, &T_GET_ID.to_le_bytes());
        for turn in 0..66_000u32 {
            rig.driver.want_interrupt(1);
            rig.driver.add(vec![(header, 16)], vec![(status, 2)]);
            rig.driver.kick();
            let irqs = rig.irqs;
            rig.run();
            assert_eq!(rig.irqs, irqs + 1, "turn {turn}");
            rig.driver.take_interrupt();
            assert!(rig.driver.next_used().is_some(), "turn {turn}");
        }
        assert_eq!(rig.driver.kicks, 66_000, "the device slept each time");
    }
}

#[test]
fn what_a_device_does_is_counted() {
    let rig = fifty_reads();
    let stats = rig.device.borrow().stats();
    let counts = [stats.requests, stats.used, stats.notifications, stats.interrupts].map(|count| count.get());
    assert_eq!(counts, [50, 50, 1, 1]);
    assert_eq!(stats.data_bytes.get(), 50 * 512);
}

/// So many reads are under way at a storage that has events, and wants to be asked for them.
pub(super) fn under_way(wanted: u64, count: u32) -> Rig {
    let mut rig = Rig::new(wanted, 256);
    rig.faults.hold.set(true);
    rig.faults.port.set(Some(kernel::Port(9)));
    rig.driver.want_interrupt(1);
    for sector in 0..count {
        rig.driver.submit(&read_request(sector.into(), 512), &Framing::Usual);
    }
    rig.driver.kick();
    rig.run();
    rig
}

/// Lets `count` of them come back, and gives the device a turn. Returns the interrupts so far.
pub(super) fn one_turn(rig: &mut Rig, count: u32) -> u32 {
    rig.faults.release.set(count);
    rig.device.borrow_mut().process(&rig.mem);
    let irq = rig.device.borrow_mut().take_irq();
    rig.irqs += u32::from(irq);
    rig.irqs
}

#[test]
fn what_is_waited_for_alone_is_signalled_at_once() {
    let mut rig = under_way(ALL, 1);
    assert_eq!((one_turn(&mut rig, 1), rig.faults.completions_wanted.get()), (1, 1));
    let mut rig = under_way(ALL, 2);
    assert_eq!(one_turn(&mut rig, 1), 1, "the other may take long");
}

#[test]
fn an_interrupt_is_shared_while_more_is_still_to_come() {
    let mut rig = under_way(ALL, 16);
    for _ in 0..15 {
        assert_eq!(one_turn(&mut rig, 1), 0);
    }
    assert_eq!(one_turn(&mut rig, 1), 1, "nothing is at the storage any more");
    assert_eq!(std::iter::from_fn(|| rig.driver.next_used()).count(), 16);
}

#[test]
fn of_few_nothing_is_held_back() {
    let mut rig = under_way(ALL, 3);
    assert_eq!(one_turn(&mut rig, 1), 1);
    assert!(!rig.device.borrow().coalescer.is_holding());
    assert_eq!(
        (rig.faults.completions_wanted.get(), rig.device.borrow().coalescer.event_threshold()),
        (1, 1)
    );
}

#[test]
fn of_many_what_is_done_waits_for_a_batch_also_asleep_until_time_is_up() {
    let mut rig = under_way(ALL, 16);
    assert_eq!(one_turn(&mut rig, 1), 0);
    rig.run();
    assert_eq!(
        (rig.irqs, rig.device.borrow().coalescer.event_threshold()),
        (0, 16),
        "it sleeps with a timer"
    );
    assert_eq!(rig.faults.completions_wanted.get(), 15, "one of a batch is done");
    assert!(rig.driver.next_used().is_some(), "a driver that looks sees it");
    rig.device.borrow_mut().coalescer.on_deadline();
    assert!(rig.device.borrow().has_pending_work(&rig.mem));
    assert_eq!(one_turn(&mut rig, 0), 1);
    assert!(!rig.device.borrow().coalescer.is_holding());
}

#[test]
fn a_whole_batch_is_signalled_with_its_first_request_and_only_once() {
    let mut rig = under_way(ALL, 16);
    assert_eq!(one_turn(&mut rig, 16), 1);
    assert_eq!(std::iter::from_fn(|| rig.driver.next_used()).count(), 1, "the others are still to be copied");
    rig.run();
    assert_eq!(rig.irqs, 1, "the driver has not looked since");
    assert_eq!(std::iter::from_fn(|| rig.driver.next_used()).count(), 15);
}

/// A batch of sixteen is done, and the driver was told.
fn batch_done() -> Rig {
    let mut rig = under_way(ALL, 16);
    one_turn(&mut rig, 16);
    rig.run();
    rig
}

#[test]
fn after_a_batch_the_driver_notifies_once_it_has_brought_another() {
    let mut rig = batch_done();
    rig.driver.take_interrupt();
    let (kicks, sent) = (rig.driver.kicks, rig.faults.sent.get());
    for count in 1..=16 {
        rig.driver.submit(&read_request(0, 512), &Framing::Usual);
        rig.driver.kick();
        assert_eq!(rig.driver.kicks - kicks, u32::from(count == 16));
    }
    rig.run();
    assert_eq!(rig.faults.sent.get(), sent + 1);
}

#[test]
fn a_reset_expects_nothing() {
    let mut rig = batch_done();
    assert_eq!(rig.device.borrow().coalescer.event_threshold(), 16);
    rig.driver.write(STATUS, 0);
    rig.run();
    assert_eq!(rig.device.borrow().coalescer.event_threshold(), 1);
}

#[test]
fn time_that_is_up_while_nothing_is_held_makes_no_batch_smaller() {
    let mut rig = under_way(ALL, 16);
    assert!(!rig.device.borrow().coalescer.is_holding());
    rig.device.borrow_mut().coalescer.on_deadline();
    rig.run();
    assert_eq!(rig.device.borrow().coalescer.event_threshold(), 16);
}

#[test]
fn what_is_held_is_sent_when_its_time_is_up_however_often_the_stub_wakes() {
    let mut rig = under_way(ALL, 16);
    let deadline_ns = |rig: &Rig, now_ns| rig.device.borrow_mut().hold_deadline_ns(now_ns, 1);
    assert_eq!(one_turn(&mut rig, 1), 0);
    rig.run();
    let until_ns = deadline_ns(&rig, 1_000_000).expect("a timer");
    assert!(until_ns > 1_000_000);
    // Another disk had an event.
    rig.run();
    assert_eq!(deadline_ns(&rig, until_ns - 1), Some(until_ns));
    rig.device.borrow_mut().check_deadline(until_ns - 1, 1);
    rig.run();
    assert_eq!(rig.irqs, 0);
    rig.device.borrow_mut().check_deadline(until_ns, 1);
    rig.run();
    assert_eq!(rig.irqs, 1);
    assert_ne!(deadline_ns(&rig, until_ns), Some(until_ns), "what is held next has a deadline of its own");
}

#[test]
fn what_is_held_has_its_time_also_while_the_stub_does_not_sleep() {
    let mut rig = under_way(ALL, 16);
    let check_deadline = |rig: &Rig, now_ns| rig.device.borrow_mut().check_deadline(now_ns, 1);
    check_deadline(&rig, 1);
    assert!(!rig.device.borrow().needs_clock(), "nothing is held");
    assert_eq!(one_turn(&mut rig, 1), 0);
    assert!(rig.device.borrow().is_untimed());
    check_deadline(&rig, 2);
    assert!(!rig.device.borrow().is_untimed());
    let until_ns = rig.device.borrow_mut().hold_deadline_ns(3, 1).expect("a timer");
    check_deadline(&rig, until_ns - 1);
    assert_eq!(one_turn(&mut rig, 1), 0);
    check_deadline(&rig, until_ns);
    assert_eq!(one_turn(&mut rig, 1), 1);
    assert!(!rig.device.borrow().coalescer.has_deadline(), "the time went with what was held");
}

#[test]
fn an_interrupt_that_the_driver_does_not_answer_is_raised_again_a_few_times() {
    const TIME_NS: u64 = 60_000_000_000;
    let mut rig = under_way(ALL, 1);
    assert_eq!(one_turn(&mut rig, 1), 1);
    let mut now_ns = 1_000_000;
    let mut wait = |rig: &mut Rig| {
        let (irqs, mut wakes) = (rig.irqs, 0);
        loop {
            let until_ns = rig.device.borrow_mut().hold_deadline_ns(now_ns, 1);
            let Some(until_ns) = until_ns else { break };
            // The second holds where a deadline stays what it is.
            wakes += 1;
            assert!(until_ns < TIME_NS && wakes < 100, "no stub wakes for ever for a driver that polls");
            now_ns = until_ns;
            rig.device.borrow_mut().check_deadline(now_ns, 1);
            rig.run();
        }
        rig.irqs - irqs
    };
    assert_eq!(wait(&mut rig), 6);
    assert_eq!(rig.driver.take_interrupt(), INT_USED);
    assert_eq!(wait(&mut rig), 0);
    rig.faults.hold.set(false);
    assert!(rig.driver.next_used().is_some());
    rig.driver.want_interrupt(1);
    rig.read(0, 512, &Framing::Usual);
    assert_eq!(wait(&mut rig), 6);
    rig.driver.write(STATUS, 0);
    assert_eq!(wait(&mut rig), 0, "a reset takes all back");
}

#[test]
fn an_interrupt_that_is_answered_is_not_raised_again() {
    let mut rig = under_way(ALL, 1);
    assert_eq!(one_turn(&mut rig, 1), 1);
    assert!(rig.device.borrow_mut().hold_deadline_ns(1_000_000, 1).is_some());
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), INT_USED);
    assert_eq!(rig.device.borrow_mut().hold_deadline_ns(2_000_000, 1), None);
    rig.device.borrow_mut().check_deadline(u64::MAX, 1);
    assert_eq!(one_turn(&mut rig, 0), 1);
}

#[test]
fn the_state_of_the_rings_can_be_read() {
    let mut rig = under_way(ALL, 3);
    one_turn(&mut rig, 2);
    let device = rig.device.borrow();
    let state = std::format!("{}", device.inspect(&rig.mem));
    assert_eq!(
        state,
        "status=0xf interrupt_status=1 unread=1 in_flight=1 queued=0 held=0 queue=0 avail=3 taken=3 \
         used=2 unsignalled=0 used_event=0 avail_event=3"
    );
}

#[test]
fn nothing_is_held_for_a_driver_that_gave_up() {
    let mut rig = under_way(ALL, 16);
    assert_eq!(one_turn(&mut rig, 3), 0);
    assert!(rig.device.borrow().coalescer.is_holding());
    rig.driver.write(STATUS, 0x8f);
    rig.run();
    assert!(!rig.device.borrow().coalescer.is_holding());
    assert_eq!((rests_from(&mut rig, 1), rig.irqs), (8, 0));
}

/// How often the stub wakes for its own sake, from `now_ns` on, until only an event wakes it.
fn rests_from(rig: &mut Rig, mut now_ns: u64) -> u32 {
    for rests in 0..100 {
        let until_ns = rig.device.borrow_mut().hold_deadline_ns(now_ns, 1);
        let Some(until_ns) = until_ns else { return rests };
        now_ns = until_ns;
        rig.device.borrow_mut().check_deadline(now_ns, 1);
        rig.run();
    }
    panic!("the stub wakes for ever");
}

#[test]
fn a_storage_that_does_not_answer_lets_the_stub_sleep_until_it_does() {
    let mut rig = under_way(ALL, 16);
    rig.run();
    assert_eq!(rig.faults.completions_wanted.get(), 16);
    assert_eq!(rests_from(&mut rig, 1), 8);
    assert_eq!(rig.faults.completions_wanted.get(), 1, "its next answer is an event");
    one_turn(&mut rig, 1);
    rig.run();
    assert_eq!(rig.faults.completions_wanted.get(), 15, "then it is waited for as ever");
}

#[test]
fn an_old_time_ends_no_later_wait() {
    let mut rig = under_way(ALL, 16);
    let until_ns = rig.device.borrow_mut().hold_deadline_ns(1, 1).expect("a timer");
    rig.driver.write(STATUS, 0);
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.device.borrow().coalescer.event_threshold(), 1, "so nobody asks for a time");
    rig.device.borrow_mut().check_deadline(until_ns, 1);
    assert!(!rig.device.borrow().coalescer.is_overdue());
}

#[test]
fn with_an_event_for_everything_there_is_no_timer() {
    let rig = under_way(ALL, 3);
    assert_eq!(rig.device.borrow_mut().hold_deadline_ns(1, 1), None);
}

#[test]
fn a_batch_that_does_not_come_is_soon_waited_for_no_more() {
    let mut rig = batch_done();
    // From now on the driver has one request at a time.
    let mut late = 0;
    loop {
        rig.driver.take_interrupt();
        let sent = rig.faults.sent.get();
        rig.driver.submit(&read_request(0, 512), &Framing::Usual);
        rig.driver.kick();
        rig.run();
        if rig.faults.sent.get() > sent {
            break;
        }
        late += 1;
        rig.device.borrow_mut().coalescer.on_deadline();
        rig.run();
        assert_eq!(rig.faults.sent.get(), sent + 1);
        one_turn(&mut rig, 1);
        rig.run();
    }
    assert!((1..=8).contains(&late), "{late} requests waited");
}

#[test]
fn of_many_new_requests_wait_for_a_batch_until_time_is_up() {
    let mut rig = under_way(ALL, 16);
    assert_eq!(one_turn(&mut rig, 16), 1);
    rig.run();
    rig.driver.take_interrupt();
    let submit = |rig: &mut Rig, count: u64| {
        for sector in 0..count {
            rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
        }
        rig.driver.kick();
        rig.run();
    };
    let sent = rig.faults.sent.get();
    submit(&mut rig, 16);
    assert_eq!(rig.faults.sent.get(), sent + 1, "a batch");
    submit(&mut rig, 5);
    assert_eq!(rig.faults.sent.get(), sent + 1);
    assert!(
        rig.device.borrow().coalescer.is_holding() && rig.device.borrow().coalescer.event_threshold() > 1,
        "it sleeps with a timer"
    );
    rig.device.borrow_mut().coalescer.on_deadline();
    rig.run();
    assert_eq!(rig.faults.sent.get(), sent + 2);
    // A reset must not wait for them either: new requests come after the last of the old.
    submit(&mut rig, 5);
    rig.driver.write(STATUS, 0);
    rig.run();
    assert!(rig.faults.sent.get() > sent + 2);
}

#[test]
fn events_are_asked_for_by_batches_while_much_is_under_way_and_then_singly_again() {
    for (wanted, noticed) in [(ALL, 0), (ALL & !F_EVENT_IDX, 4)] {
        let mut rig = under_way(wanted, 16);
        assert_eq!(
            (rig.faults.completions_wanted.get(), rig.device.borrow().coalescer.event_threshold()),
            (16, 16)
        );
        let kicks = rig.driver.kicks;
        for sector in 0..4 {
            rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
            rig.driver.kick();
        }
        assert_eq!(rig.driver.kicks - kicks, noticed, "one for a batch, if it can be asked for");
        rig.driver.submit(&read_request(0, 512), &Framing::Usual);
        rig.faults.hold.set(false);
        rig.run();
        assert_eq!(std::iter::from_fn(|| rig.driver.next_used()).count(), 21);
        assert_eq!(
            rig.device.borrow().coalescer.event_threshold(),
            21,
            "the driver is expected to bring as many again"
        );
        rig.device.borrow_mut().coalescer.on_deadline();
        rig.run();
        assert_eq!(rig.device.borrow().coalescer.event_threshold(), 1, "it did not: every event counts");
        let kicks = rig.driver.kicks;
        rig.read(0, 512, &Framing::Usual);
        assert_eq!(rig.driver.kicks, kicks + 1);
    }
}

#[test]
fn without_a_backend_every_event_is_asked_for() {
    let mut rig = under_way(ALL, 16);
    rig.faults.port.set(None);
    rig.run();
    assert_eq!(rig.device.borrow().coalescer.event_threshold(), 1);
}
