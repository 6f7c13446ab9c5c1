//! Interrupts and notifications: none lost, none too many.

use super::*;

#[test]
fn a_batch_needs_one_interrupt_and_one_notification() {
    let mut rig = Rig::new(ALL, 256);
    rig.driver.want_interrupt(1);
    for sector in 0..50 {
        rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
        rig.driver.kick();
    }
    rig.run();
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
            assert!(rig.driver.next_used().is_some(), "turn {turn}");
        }
        assert_eq!(rig.driver.kicks, 66_000, "the device slept each time");
    }
}

#[test]
fn what_a_device_does_is_counted() {
    let mut rig = Rig::new(ALL, 256);
    rig.driver.want_interrupt(1);
    for sector in 0..50 {
        rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
        rig.driver.kick();
    }
    rig.run();
    let stats = rig.device.borrow().stats();
    let counts = [stats.requests, stats.used, stats.notifications, stats.interrupts].map(|count| count.get());
    assert_eq!(counts, [50, 50, 1, 1]);
    assert_eq!(stats.data_bytes.get(), 50 * 512);
}
