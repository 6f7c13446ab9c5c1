//! The virtqueue's indices against the suppression of notifications and interrupts.

use backend::virtq::queue::RingFeatures;
use backend::virtq::{Queue, SegmentPool};
use loom::sync::Notify;
use loom::thread;
use proofs::rings::driver::{Driver, Page};
use proofs::weak::{Flaws, Weak, check};
use std::rc::Rc;

/// Interruptions tried. One more takes several times as long.
const BOUND: usize = 3;

/// The device of the stub, as far as one queue goes: [`backend::blk::Device`] does the same by turns.
struct Device {
    queue: Queue,
    pool: SegmentPool,
    page: Page,
    threshold: u16,
}

impl Device {
    fn new(driver: &Driver, event_idx: bool, threshold: u16) -> Device {
        let features = RingFeatures { event_idx, indirect: false };
        let queue = Queue::new(driver.layout, features);
        Device { queue, pool: SegmentPool::new(1024), page: driver.page.clone(), threshold }
    }

    /// Serves until there is nothing more; how many requests.
    fn serve(&mut self, interrupts: &Notify) -> u32 {
        let mut served = 0;
        loop {
            self.queue.disable_notification(&self.page).expect("the ring is there");
            let chain = self.queue.pop(&self.page, &mut self.pool).expect("a good ring");
            let Some(chain) = chain else { return served };
            self.queue.add_used(&self.page, &mut self.pool, chain, 0).expect("the ring is there");
            self.queue.publish_used(&self.page).expect("the ring is there");
            if self.queue.needs_notification(&self.page).expect("the ring is there") {
                interrupts.notify();
            }
            served += 1;
        }
    }

    /// Serves `total` requests and sleeps in between.
    fn run(mut self, total: u32, kicks: &Notify, interrupts: &Notify) {
        let mut left = total;
        loop {
            left -= self.serve(interrupts);
            if left == 0 {
                return;
            }
            // What is fewer than the threshold comes without a notification: there must be as many.
            let threshold = self.threshold.min(u16::try_from(left).expect("few"));
            let more = self.queue.enable_notification(&self.page, threshold).expect("a good ring");
            if !more {
                kicks.wait();
            }
        }
    }
}

/// The driver offers `total` requests and waits for no answer.
fn offer_all(mut driver: Driver, total: u32, kicks: &Notify) -> Driver {
    for _ in 0..total {
        if driver.offer() {
            kicks.notify();
        }
    }
    driver
}

/// No request stays in the ring while the device sleeps.
fn notifications(weak: &Rc<Weak>, event_idx: bool, total: u32, threshold: u16) {
    let driver = Driver::new(weak, 2, event_idx);
    let device = Device::new(&driver, event_idx, threshold);
    let (kicks, none) = (Rc::new(Notify::new()), Notify::new());
    let to_device = kicks.clone();
    let other = thread::spawn(move || offer_all(driver, total, &to_device));
    device.run(total, &kicks, &none);
    other.join().expect("the driver ends");
}

/// The driver learns of each answer.
fn interrupts(weak: &Rc<Weak>, event_idx: bool, total: u16) {
    let driver = Driver::new(weak, 2, event_idx);
    let device = Device::new(&driver, event_idx, 1);
    let none = Notify::new();
    let mut driver = offer_all(driver, total.into(), &none);
    let bell = Rc::new(Notify::new());
    let to_driver = bell.clone();
    let other = thread::spawn(move || device.run(total.into(), &Notify::new(), &to_driver));
    let mut answered = 0;
    loop {
        driver.disable_interrupts();
        answered += driver.take_used();
        if answered == total {
            break;
        }
        if driver.enable_interrupts() {
            bell.wait();
        }
    }
    other.join().expect("the device ends");
}

#[test]
fn no_request_is_left_to_a_device_that_sleeps_with_event_indices() {
    check(BOUND, Flaws::NONE, |weak| notifications(weak, true, 2, 1));
}

#[test]
fn no_request_is_left_to_a_device_that_sleeps_with_flags() {
    check(BOUND, Flaws::NONE, |weak| notifications(weak, false, 2, 1));
}

#[test]
fn a_device_that_waits_for_two_requests_is_woken_by_the_second() {
    check(BOUND, Flaws::NONE, |weak| notifications(weak, true, 2, 2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_barrier_a_request_is_left_with_event_indices() {
    check(BOUND, Flaws::NO_BARRIERS, |weak| notifications(weak, true, 2, 1));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_barrier_a_request_is_left_with_flags() {
    check(BOUND, Flaws::NO_BARRIERS, |weak| notifications(weak, false, 2, 1));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_acquire_a_descriptor_is_read_before_it_is_written() {
    check(BOUND, Flaws::NO_ORDER, |weak| notifications(weak, true, 1, 1));
}

#[test]
fn the_driver_learns_of_each_answer_with_event_indices() {
    check(BOUND, Flaws::NONE, |weak| interrupts(weak, true, 2));
}

#[test]
fn the_driver_learns_of_each_answer_with_flags() {
    check(BOUND, Flaws::NONE, |weak| interrupts(weak, false, 2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_barrier_an_answer_is_not_told_with_event_indices() {
    check(BOUND, Flaws::NO_BARRIERS, |weak| interrupts(weak, true, 2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_barrier_an_answer_is_not_told_with_flags() {
    check(BOUND, Flaws::NO_BARRIERS, |weak| interrupts(weak, false, 2));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_an_answer_is_read_before_it_is_written() {
    check(BOUND, Flaws::NO_ORDER, |weak| interrupts(weak, true, 1));
}
