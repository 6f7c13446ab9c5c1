//! Several queues: each its own rings and events, one interrupt, and nobody starves.

use super::super::{MAX_QUEUES, config};
use super::*;

impl Rig {
    /// A rig whose driver uses all of `queues` queues.
    fn with_queues(queues: u16, size: u16) -> Rig {
        let mut rig = Rig::build(Faults::default(), false, queues);
        rig.driver.init_queues(ALL, size, queues);
        rig
    }

    fn submit_on(&mut self, queue: u16, request: &BlkRequest) {
        self.driver.queue = queue;
        self.driver.submit(request, &Framing::Usual);
    }

    /// Answers that came on a queue.
    fn answers_on(&mut self, queue: u16) -> usize {
        self.driver.queue = queue;
        core::iter::from_fn(|| self.driver.next_used()).count()
    }
}

#[test]
fn every_queue_of_a_device_with_several_is_offered() {
    for queues in [1, 2, 4, MAX_QUEUES] {
        let mut rig = Rig::build(Faults::default(), false, queues);
        assert_eq!(rig.driver.offered() & config::F_MQ != 0, queues > 1);
        let told = rig.driver.config(34, crate::access::Width::Two);
        assert_eq!(told, if queues > 1 { queues.into() } else { 0 });
        for (queue, max) in [(0, 1024), (queues - 1, 1024), (queues, 0), (u16::MAX, 0)] {
            rig.driver.write(QUEUE_SEL, queue.into());
            assert_eq!(rig.driver.read(QUEUE_SIZE_MAX), max);
        }
    }
    assert_eq!(Rig::build(Faults::default(), false, 0).device.borrow().queues.len(), 1);
    let most = Rig::build(Faults::default(), false, u16::MAX);
    assert_eq!(most.device.borrow().queues.len(), usize::from(MAX_QUEUES));
}

#[test]
fn each_queue_is_served_on_its_own_notification_with_one_shared_interrupt() {
    let mut rig = Rig::with_queues(4, 16);
    for queue in 0..4 {
        let data = bytes(512, queue as u8);
        let sector = u64::from(queue);
        rig.submit_on(queue, &BlkRequest { kind: T_OUT, sector, out: data, in_len: 0 });
        rig.driver.kick();
        let irqs = rig.irqs;
        rig.run();
        assert_eq!((rig.answers_on(queue), rig.irqs), (1, irqs + 1));
        assert_eq!(rig.driver.take_interrupt(), INT_USED);
        assert!((0..4).filter(|&other| other != queue).all(|other| rig.answers_on(other) == 0));
    }
    // All at once: one interrupt for all.
    for queue in 0..4 {
        rig.driver.queue = queue;
        rig.driver.want_interrupt(1);
        rig.submit_on(queue, &read_request(u64::from(queue), 512));
        rig.driver.kick();
    }
    let irqs = rig.irqs;
    rig.run();
    assert_eq!(rig.irqs, irqs + 1);
    for queue in 0..4 {
        rig.driver.queue = queue;
        assert_eq!(rig.driver.next_used().expect("an answer").1.data, bytes(512, queue as u8));
    }
}

#[test]
fn a_queue_that_was_not_notified_is_left_alone() {
    let mut rig = Rig::with_queues(2, 16);
    rig.run();
    rig.submit_on(1, &read_request(0, 512));
    rig.submit_on(0, &read_request(0, 512));
    rig.driver.kick();
    rig.run();
    assert_eq!((rig.answers_on(0), rig.answers_on(1)), (1, 0));
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.answers_on(1), 1);
}

#[test]
fn each_queue_has_its_own_event_index() {
    let mut rig = Rig::with_queues(2, 16);
    // Queue 1 wants no interrupt before its third answer; queue 0 wants each.
    rig.driver.queue = 1;
    rig.driver.want_interrupt(3);
    for turn in 1..=3 {
        rig.submit_on(1, &read_request(0, 512));
        rig.driver.kick();
        let irqs = rig.irqs;
        rig.run();
        assert_eq!(rig.irqs - irqs, u32::from(turn == 3), "turn {turn}");
        assert_eq!(rig.answers_on(1), 1);
    }
    rig.driver.take_interrupt();
    rig.driver.queue = 0;
    rig.driver.want_interrupt(1);
    rig.submit_on(0, &read_request(0, 512));
    rig.driver.kick();
    let irqs = rig.irqs;
    rig.run();
    assert_eq!((rig.irqs - irqs, rig.driver.kicks), (1, 4));
}

#[test]
fn a_full_queue_does_not_delay_another_by_more_than_its_share() {
    let mut rig = Rig::with_queues(3, 512);
    for _ in 0..150 {
        rig.submit_on(0, &read_request(0, 512));
    }
    rig.driver.kick();
    for queue in [1, 2] {
        rig.submit_on(queue, &read_request(0, 512));
        rig.driver.kick();
    }
    rig.device.borrow_mut().process(&rig.mem);
    assert_eq!([0, 1, 2].map(|queue| rig.answers_on(queue)), [64, 1, 1]);
}

#[test]
fn a_storage_without_room_is_shared_among_the_queues() {
    let mut rig = Rig::with_queues(3, 512);
    rig.faults.hold.set(true);
    rig.faults.depth.set(2);
    for queue in 0..3 {
        for _ in 0..60 {
            rig.submit_on(queue, &read_request(0, 512));
        }
        rig.driver.kick();
    }
    // As the storage gives room for one at a time, every queue gets its turn.
    for _ in 0..90 {
        rig.device.borrow_mut().process(&rig.mem);
        rig.faults.release.set(1);
    }
    let done = [0, 1, 2].map(|queue| rig.answers_on(queue));
    assert!(done.iter().all(|&done| (25..=35).contains(&done)), "{done:?}");
    rig.faults.hold.set(false);
    rig.run();
    let rest = [0, 1, 2].map(|queue| rig.answers_on(queue));
    assert!(done.iter().zip(rest).all(|(done, rest)| done + rest == 60));
}

#[test]
fn stopping_one_queue_leaves_the_requests_of_the_others() {
    let mut rig = Rig::with_queues(2, 16);
    rig.faults.hold.set(true);
    for queue in 0..2 {
        rig.submit_on(queue, &read_request(0, 512));
        rig.driver.kick();
    }
    rig.run();
    rig.driver.write(QUEUE_SEL, 1);
    rig.driver.write(QUEUE_READY, 0);
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!((rig.answers_on(0), rig.answers_on(1)), (1, 0));
    assert_eq!(rig.device.borrow().in_flight(), 0);
}

#[test]
fn a_queue_of_1024_takes_as_many_requests_at_once() {
    let mut rig = Rig::with_queues(1, 1024);
    for _ in 0..1024 {
        rig.submit_on(0, &read_request(3, 512));
    }
    assert_eq!(rig.driver.free_descs(), 0);
    rig.driver.kick();
    rig.run();
    assert_eq!((rig.answers_on(0), rig.driver.kicks), (1024, 1));
}

#[test]
fn each_queue_may_bring_its_part_of_a_batch() {
    let mut rig = Rig::with_queues(2, 16);
    rig.faults.hold.set(true);
    rig.faults.port.set(Some(kernel::Port(9)));
    for sector in 0..16 {
        rig.submit_on(sector % 2, &read_request(sector.into(), 512));
        rig.driver.kick();
    }
    rig.run();
    let device = rig.device.borrow();
    let asked =
        |slot: usize| device.queues[slot].queue.as_ref().map(crate::virtq::Queue::notification_threshold);
    assert_eq!((device.coalescer.event_threshold(), asked(0), asked(1)), (16, Some(8), Some(8)));
}

#[test]
fn a_queue_that_is_not_in_use_takes_no_part_of_a_batch_and_is_heard_at_once() {
    let mut rig = Rig::with_queues(2, 32);
    rig.faults.hold.set(true);
    rig.faults.port.set(Some(kernel::Port(9)));
    let bring = |rig: &mut Rig| {
        for sector in 0..16 {
            rig.submit_on(0, &read_request(sector, 512));
            rig.driver.kick();
        }
        rig.run();
    };
    bring(&mut rig);
    let asked = |rig: &Rig, slot: usize| {
        rig.device.borrow().queues[slot].queue.as_ref().map(crate::virtq::Queue::notification_threshold)
    };
    assert_eq!((asked(&rig, 0), asked(&rig, 1)), (Some(16), Some(1)));
    rig.faults.release.set(16);
    rig.run();
    assert_eq!((asked(&rig, 0), asked(&rig, 1)), (Some(16), Some(1)), "the driver has all of them");
    let kicks = rig.driver.kicks;
    bring(&mut rig);
    assert_eq!(rig.driver.kicks, kicks + 1, "one for the whole batch");
}

/// Eight requests of each of two queues are done at the storage, and the device has looked once.
fn two_queues_back() -> Rig {
    let mut rig = Rig::with_queues(2, 32);
    rig.faults.hold.set(true);
    rig.faults.port.set(Some(kernel::Port(9)));
    for queue in 0..2 {
        rig.driver.queue = queue;
        rig.driver.want_interrupt(1);
    }
    for sector in 0..16 {
        rig.submit_on(sector % 2, &read_request(sector.into(), 512));
        rig.driver.kick();
    }
    rig.run();
    rig.faults.release.set(16);
    rig.device.borrow_mut().process(&rig.mem);
    rig.irqs += u32::from(rig.device.borrow_mut().take_irq());
    assert_eq!((rig.irqs, rig.answers_on(0), rig.answers_on(1)), (1, 1, 0));
    rig
}

#[test]
fn a_driver_that_has_still_to_ask_why_is_not_interrupted_for_another_queue() {
    let mut rig = two_queues_back();
    rig.run();
    assert_eq!((rig.irqs, rig.answers_on(0), rig.answers_on(1)), (1, 7, 8));
    assert_eq!(rig.driver.take_interrupt(), INT_USED);
}

#[test]
fn a_driver_that_has_asked_why_is_interrupted_for_what_came_after() {
    let mut rig = two_queues_back();
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), INT_USED);
    rig.run();
    assert_eq!(rig.irqs, 2, "it may have looked at the other queue already");
}

#[test]
fn of_several_queues_the_last_part_of_a_batch_is_not_waited_for() {
    let mut rig = two_queues_back();
    rig.run();
    rig.driver.take_interrupt();
    let sent = rig.faults.sent.get();
    for count in 1..=12 {
        rig.submit_on(u16::from(count > 8), &read_request(0, 512));
        rig.run();
        assert_eq!(rig.faults.sent.get() - sent, u32::from(count == 12), "{count}");
    }
}

#[test]
fn a_reset_of_one_queue_keeps_what_waits_of_the_others() {
    let mut rig = Rig::with_queues(2, 16);
    rig.faults.hold.set(true);
    rig.faults.depth.set(1);
    rig.submit_on(0, &read_request(0, 512));
    rig.driver.kick();
    rig.run();
    // The storage is full: it waits.
    rig.submit_on(1, &read_request(1, 512));
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.device.borrow().waiting.len(), 1);
    rig.driver.write(QUEUE_SEL, 0);
    rig.driver.write(QUEUE_READY, 0);
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.answers_on(1), 1, "nobody reset this one");
}
