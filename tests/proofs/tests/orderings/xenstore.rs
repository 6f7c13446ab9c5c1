//! The indices of the xenstore ring against its event.

use drivers::Xenstore;
use kernel::{Hypervisor, SharedPage};
use loom::thread;
use proofs::rings::xenstored::{UNIT, Xenstored};
use proofs::weak::{Flaws, Weak, check};
use proofs::weak_xen::{PORT, WeakXen};
use std::rc::Rc;
use xen_pv_sys::io::xs_wire::{RING_SIZE, XS_READ, XS_WATCH_EVENT, XS_WRITE, XsdSockmsg};
use zerocopy::{FromBytes, IntoBytes};

/// Interruptions tried. One more takes several times as long.
const BOUND: usize = 2;

/// A path of 15 characters: with its end a unit.
const PATH: &str = "/local/domain/1";

fn message(msg_type: u32, req_id: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short");
    let header = XsdSockmsg { msg_type, req_id, tx_id: 0, len };
    header.as_bytes().iter().chain(payload).copied().collect()
}

fn world(weak: &Rc<Weak>, units: usize) -> (Xenstore<WeakXen>, WeakXen, Xenstored) {
    let page = SharedPage::alloc().expect("memory");
    let xen = WeakXen::new(weak, page.clone());
    let front = Xenstore::new(&xen).expect("a ring");
    let back = Xenstored::new(weak, &page, &xen, units);
    (front, xen, back)
}

/// Takes a request for [`PATH`]; its number.
fn take_request(back: &Xenstored) -> u32 {
    let request = back.take(2 * UNIT);
    let header = XsdSockmsg::read_from_bytes(&request[..UNIT]).expect("a header");
    assert_eq!((header.msg_type, &request[UNIT..]), (XS_READ, &b"/local/domain/1\0"[..]));
    header.req_id
}

/// A request is answered, in two parts.
fn request(weak: &Rc<Weak>) {
    let (mut front, _xen, back) = world(weak, 2);
    let other = thread::spawn(move || {
        let answer = message(XS_READ, take_request(&back), &[7; UNIT]);
        back.put(&answer[..UNIT]);
        back.put(&answer[UNIT..]);
    });
    assert_eq!(front.read(PATH), Ok(vec![7; UNIT]));
    other.join().expect("xenstored ends");
}

/// A watch event that comes during a request or after it is not slept through.
fn event(weak: &Rc<Weak>) {
    let (mut front, xen, back) = world(weak, 4);
    let other = thread::spawn(move || {
        let id = take_request(&back);
        back.put(&message(XS_READ, id, &[7; UNIT]));
        back.put(&message(XS_WATCH_EVENT, 0, b"/local/dom\0tokn\0"));
    });
    assert_eq!(front.read(PATH), Ok(vec![7; UNIT]));
    // As `backend::event_loop` does between serving and blocking.
    let event = loop {
        front.poll_events().expect("a good ring");
        if let Some(event) = front.next_event() {
            break event;
        }
        if !front.has_pending() {
            xen.poll(&[PORT], None).expect("a good port");
        }
    };
    assert_eq!(event.token, "tokn");
    other.join().expect("xenstored ends");
}

/// An answer longer than the ring: xenstored waits for room.
fn long_answer(weak: &Rc<Weak>) {
    let (mut front, _xen, back) = world(weak, 0);
    let other = thread::spawn(move || {
        let id = take_request(&back);
        let answer = message(XS_READ, id, &[7; RING_SIZE]);
        // The stub may take the first part while the ring is being filled.
        back.put(&answer[..UNIT]);
        back.put(&answer[UNIT..]);
    });
    assert_eq!(front.read(PATH), Ok(vec![7; RING_SIZE]));
    other.join().expect("xenstored ends");
}

/// A request longer than the ring: the stub waits for room.
fn long_request(weak: &Rc<Weak>) {
    let (mut front, _xen, back) = world(weak, 0);
    let other = thread::spawn(move || {
        let request = back.take(2 * UNIT + RING_SIZE);
        let header = XsdSockmsg::read_from_bytes(&request[..UNIT]).expect("a header");
        back.put(&message(XS_WRITE, header.req_id, b"OK\0"));
    });
    assert_eq!(front.write(PATH, &[7; RING_SIZE]), Ok(()));
    other.join().expect("xenstored ends");
}

#[test]
fn an_answer_longer_than_the_ring_comes_through() {
    check(1, Flaws::NONE, long_answer);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_barrier_xenstored_waits_for_room_without_end() {
    check(1, Flaws::NO_BARRIERS, long_answer);
}

#[test]
fn a_request_longer_than_the_ring_goes_through() {
    check(1, Flaws::NONE, long_request);
}

#[test]
fn a_request_is_answered() {
    check(BOUND, Flaws::NONE, request);
}

#[test]
fn an_event_is_not_slept_through() {
    check(BOUND, Flaws::NONE, event);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_a_message_is_read_before_it_is_written() {
    check(BOUND, Flaws::NO_ORDER, request);
}
