//! Before the stub sleeps: what came at the last moment is served, and nothing held is forgotten.

use super::signals::{one_turn, under_way};
use super::*;

#[test]
fn a_request_that_comes_just_before_notifications_are_asked_for_is_served() {
    for wanted in [ALL, ALL & !F_EVENT_IDX] {
        let mut rig = Rig::new(wanted, 8);
        rig.read(0, 512, &Framing::Usual);
        rig.driver.submit(&read_request(1, 512), &Framing::Usual);
        rig.driver.kick();
        while rig.device.borrow_mut().process(&rig.mem) {}
        assert!(rig.driver.next_used().is_some());
        // The stub has seen an empty ring and has not asked yet: the driver need not notify.
        let kicks = rig.driver.kicks;
        rig.driver.submit(&read_request(2, 512), &Framing::Usual);
        rig.driver.kick();
        assert_eq!(rig.driver.kicks, kicks, "no notification comes for it");
        assert!(rig.device.borrow_mut().enable_notifications(&rig.mem));
        rig.run();
        assert!(rig.driver.next_used().is_some(), "forgotten");
    }
}

#[test]
fn no_sleep_without_an_end_while_something_is_held() {
    let mut rig = under_way(ALL, 4);
    let mut held = 0;
    for _ in 0..40 {
        one_turn(&mut rig, 4);
        rig.run();
        while rig.driver.next_used().is_some() {}
        rig.driver.take_interrupt();
        rig.driver.want_interrupt(1);
        for requests in [1, 1, 2] {
            for _ in 0..requests {
                rig.driver.submit(&read_request(0, 512), &Framing::Usual);
            }
            rig.driver.kick();
            rig.run();
            if rig.faults.unsent.get() {
                held += 1;
                assert!(rig.device.borrow().needs_timer(), "held {held}: nobody wakes the stub");
            }
        }
    }
    assert!(held > 0);
}
