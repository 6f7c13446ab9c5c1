//! The block ring's indices against its event indices, both ways.

use drivers::ring::FrontRing;
use kernel::SharedPage;
use loom::sync::Notify;
use loom::thread;
use proofs::rings::blkback::Blkback;
use proofs::weak::{Flaws, Weak, check};
use std::rc::Rc;
use xen_pv_sys::io::blkif::RING_ENTRY_SIZE;

/// Interruptions tried. One more takes several times as long.
const BOUND: usize = 3;

fn ring(weak: &Rc<Weak>, used: usize) -> (FrontRing, Blkback) {
    let page = SharedPage::alloc().expect("memory");
    let front = FrontRing::new(vec![page.clone()], RING_ENTRY_SIZE).expect("a ring");
    let back = Blkback::new(weak, &page, front.entries(), used);
    (front, back)
}

/// No request is left to a blkback that sleeps.
fn requests(weak: &Rc<Weak>, total: u32) {
    let (mut front, mut back) = ring(weak, 2);
    let bell = Rc::new(Notify::new());
    let to_back = bell.clone();
    let other = thread::spawn(move || {
        let mut taken = 0;
        while taken < total {
            taken += back.take();
            if taken < total && !back.final_check() {
                bell.wait();
            }
        }
    });
    for number in 0..total {
        front.queue(&number.to_le_bytes()).expect("room");
        if front.publish() {
            to_back.notify();
        }
    }
    other.join().expect("blkback ends");
}

/// The stub learns of each response, in batches of `batch`.
fn responses(weak: &Rc<Weak>, total: u32, batch: u32) {
    let (mut front, mut back) = ring(weak, 2);
    for number in 0..total {
        front.queue(&number.to_le_bytes()).expect("room");
    }
    let _nobody_sleeps = front.publish();
    let bell = Rc::new(Notify::new());
    let to_front = bell.clone();
    let other = thread::spawn(move || {
        assert_eq!(back.take(), total);
        for _ in 0..total {
            if back.respond(1) {
                to_front.notify();
            }
        }
    });
    let mut taken = 0;
    while taken < total {
        let mut response = [0; 4];
        while front.next_response(&mut response).expect("a good ring") {
            assert_eq!(u32::from_le_bytes(response), !taken, "the response to this request");
            taken += 1;
        }
        if taken < total && !front.final_check(batch).expect("a good ring") {
            bell.wait();
        }
    }
    other.join().expect("blkback ends");
}

#[test]
fn no_request_is_left_to_a_blkback_that_sleeps() {
    check(BOUND, Flaws::NONE, |weak| requests(weak, 2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_barrier_a_request_is_left() {
    check(BOUND, Flaws::NO_BARRIERS, |weak| requests(weak, 2));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_a_request_is_read_before_it_is_written() {
    check(BOUND, Flaws::NO_ORDER, |weak| requests(weak, 1));
}

#[test]
fn the_stub_learns_of_each_response() {
    check(BOUND, Flaws::NONE, |weak| responses(weak, 2, 1));
}

#[test]
fn the_stub_learns_of_a_batch_of_responses() {
    check(BOUND, Flaws::NONE, |weak| responses(weak, 2, 2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_barrier_a_response_is_left() {
    check(BOUND, Flaws::NO_BARRIERS, |weak| responses(weak, 2, 1));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_barrier_a_batch_of_responses_is_left() {
    check(BOUND, Flaws::NO_BARRIERS, |weak| responses(weak, 2, 2));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_acquire_a_response_is_read_before_it_is_written() {
    check(BOUND, Flaws::NO_ORDER, |weak| responses(weak, 1, 1));
}
