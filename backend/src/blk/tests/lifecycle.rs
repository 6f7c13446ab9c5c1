//! Set-up, reset and stopped queues: nothing early, nothing late.

use super::*;

#[test]
fn a_queue_set_up_wrongly_asks_for_a_reset() {
    let mut rig = Rig::uninitialised(false);
    for (register, value) in [(STATUS, 1), (STATUS, 3), (DRIVER_FEATURES_SEL, 1), (DRIVER_FEATURES, 1)] {
        rig.driver.write(register, value);
    }
    for (register, value) in [(STATUS, 0xb), (QUEUE_SIZE, 7), (QUEUE_READY, 1)] {
        rig.driver.write(register, value);
    }
    assert_eq!(rig.driver.read(QUEUE_READY), 0);
    assert!(rig.needs_reset());
    rig.driver.init(ALL, 8);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
}

#[test]
fn nothing_is_taken_before_driver_ok() {
    let mut rig = Rig::new(ALL, 8);
    // A driver that fills the queue first: as after a reset, but stop short of DRIVER_OK.
    rig.driver.init(ALL, 8);
    rig.driver.write(STATUS, 0);
    for (register, value) in
        [(STATUS, 1), (STATUS, 3), (DRIVER_FEATURES_SEL, 1), (DRIVER_FEATURES, 1), (STATUS, 0xb)]
    {
        rig.driver.write(register, value);
    }
    let parts = [
        (QUEUE_DESC_LOW, rig.driver.desc(0)),
        (QUEUE_DRIVER_LOW, rig.driver.avail(0)),
        (QUEUE_DEVICE_LOW, rig.driver.used(0)),
    ];
    for (register, addr) in parts {
        rig.driver.write(register, addr as u32);
    }
    rig.driver.write(QUEUE_SIZE, 8);
    rig.driver.write(QUEUE_READY, 1);
    rig.driver.indirect = false;
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.write(QUEUE_NOTIFY, 0);
    rig.run();
    assert_eq!((rig.driver.next_used(), rig.irqs), (None, 0));
    // And with it, without another notification.
    rig.driver.write(STATUS, 0xf);
    rig.run();
    assert_eq!(rig.driver.next_used().expect("an answer").1.status, S_OK);
}

#[test]
fn after_a_reset_nothing_of_the_old_requests_reaches_the_guest() {
    let mut rig = Rig::new(ALL, 8);
    rig.faults.hold.set(true);
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.device.borrow().in_flight(), 1);
    rig.driver.write(STATUS, 0);
    assert_eq!(rig.status(), 0, "at once");
    let (writes, irqs) = (rig.mem.device_writes(), rig.irqs);
    rig.run();
    assert_eq!((rig.mem.device_writes(), rig.irqs), (writes, irqs));
    // A new driver is served only when the old requests are over.
    rig.driver.init(ALL, 8);
    rig.driver.submit(&read_request(1, 512), &Framing::Usual);
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.driver.next_used(), None);
    assert_eq!(rig.faults.submitted.get(), 1);
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.driver.next_used().expect("an answer").1.status, S_OK);
    assert_eq!(rig.driver.next_used(), None);
    assert_eq!(rig.device.borrow().in_flight(), 0);
}

#[test]
fn a_stopped_queue_is_left_alone() {
    let mut rig = Rig::new(ALL, 8);
    rig.faults.hold.set(true);
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.kick();
    rig.run();
    rig.driver.write(QUEUE_READY, 0);
    rig.driver.write(QUEUE_NOTIFY, 0);
    let writes = rig.mem.device_writes();
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.mem.device_writes(), writes);
    assert_eq!(rig.device.borrow().in_flight(), 0);
}

#[test]
fn held_requests_are_dropped_by_a_reset() {
    let mut rig = Rig::new(ALL, 64);
    rig.faults.hold.set(true);
    rig.faults.depth.set(1);
    for sector in 0..5 {
        rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
    }
    rig.driver.kick();
    rig.run();
    rig.driver.init(ALL, 64);
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.faults.submitted.get(), 1);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
    assert_eq!(rig.driver.next_used(), None);
}
