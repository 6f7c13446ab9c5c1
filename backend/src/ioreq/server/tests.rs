//! The server against the in-memory Xen.

use super::*;
use crate::access::{Access, Direction, Reply, Width};
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use kernel::Order;
use kernel::fake::{Event, FakeXen, GuestAccess};

const GUEST: DomId = DomId(5);
const BASE: u64 = 0x0200_0000;

fn xen(vcpus: u32) -> FakeXen {
    let xen = FakeXen::new(DomId(7));
    xen.set_target(GUEST, vcpus);
    xen
}

fn start(xen: &FakeXen) -> Server<FakeXen> {
    Server::start(xen, GUEST, &[BASE..=BASE + 0x1ff]).expect("starts")
}

fn state(page: &SharedPage, vcpu: usize) -> u8 {
    SlotView::new(page, vcpu).state()
}

/// As Xen does when the vCPU runs again.
fn take_answer(page: &SharedPage, vcpu: usize) -> u64 {
    let base = vcpu * ioreq::SIZE;
    assert_eq!(state(page, vcpu), ioreq::STATE_RESP_READY);
    page.store(base + ioreq::STATE_BITS, 0u8, Order::AcqRel).expect("inside");
    page.load(base + ioreq::DATA, Order::Relaxed).expect("inside")
}

#[test]
fn an_access_is_taken_and_answered_for_its_vcpu_only() {
    let xen = xen(2);
    let mut server = start(&xen);
    assert_eq!(server.ports().len(), 2);
    let page = xen.guest_access(1, GuestAccess::read(BASE + 4)).expect("claimed");
    assert!(server.take(0).is_none());
    let slot = server.take(1).expect("an access");
    let access = Access { addr: BASE + 4, width: Width::Four, direction: Direction::Read };
    assert_eq!(slot.event(), Ok(crate::ioreq::Event::Mmio(access)));
    assert_eq!(state(&page, 1), ioreq::STATE_READY, "until it is answered");
    slot.answer(Reply(2));
    assert_eq!(take_answer(&page, 1), 2);
    assert!(server.take(1).is_none());
    assert_eq!(server.end(), TeardownOutcome::Clean);
    assert_eq!(xen.open_ports(), 0);
}

#[test]
fn a_dropped_slot_answers_all_ones_and_keeps_its_neighbours() {
    let xen = xen(1);
    let server = start(&xen);
    let page = xen.guest_access(0, GuestAccess::read(BASE)).expect("claimed");
    let port: u32 = page.load(ioreq::VP_EPORT, Order::Relaxed).expect("inside");
    drop(server.take(0).expect("an access"));
    let bits: u8 = page.load(ioreq::STATE_BITS, Order::Relaxed).expect("inside");
    assert_eq!(bits, ioreq::STATE_RESP_READY | ioreq::DIR_READ);
    assert_eq!(page.load(ioreq::VP_EPORT, Order::Relaxed), Ok(port));
    assert_eq!(take_answer(&page, 0), u64::MAX);
}

#[test]
fn an_access_whose_event_is_cleared_is_told_of() {
    let xen = xen(2);
    let server = start(&xen);
    assert!(!server.enable_events(), "the ports were pending from the start");
    let page = xen.guest_access(1, GuestAccess::read(BASE)).expect("claimed");
    assert!(server.enable_events());
    assert!(!xen.evtchn_take_pending(server.ports()[1]), "nothing else would wake the stub");
    server.take(1).expect("an access").answer(Reply(0));
    take_answer(&page, 1);
    assert!(!server.enable_events());
}

#[test]
fn an_access_that_comes_just_before_its_event_is_cleared_is_told_of() {
    for nth in 0..2 {
        let xen = xen(2);
        let server = start(&xen);
        assert!(!server.enable_events());
        // The vCPU traps when the stub is about to clear its own event, or that of the other one.
        let (guest, cleared) = (xen.clone(), Rc::new(Cell::new(0)));
        xen.before("evtchn_take_pending", move || {
            if cleared.replace(cleared.get() + 1) == nth {
                guest.guest_access(0, GuestAccess::read(BASE)).expect("claimed");
            }
        });
        let more = server.enable_events();
        assert!(more || xen.evtchn_take_pending(server.ports()[0]), "port {nth}");
        assert_eq!(server.next_waiting(0), Some(0));
    }
}

#[test]
fn a_vcpu_that_was_answered_and_perhaps_not_told_is_told_after_a_restart() {
    let xen = xen(2);
    let server = start(&xen);
    let page = xen.guest_access(1, GuestAccess::read(BASE)).expect("claimed");
    let state = server.state();
    // A panic between the answer and its event.
    page.store(ioreq::SIZE + ioreq::STATE_BITS, ioreq::STATE_RESP_READY, Order::AcqRel).expect("inside");
    core::mem::forget(server);
    let theirs = |vcpu: usize| Port(SlotView::new(&page, vcpu).vp_eport().expect("inside"));
    let guest = xen.domain(GUEST);
    assert!(!guest.evtchn_take_pending(theirs(1)));
    let mut server = Server::resume(&xen, &state).expect("resumes");
    assert!(guest.evtchn_take_pending(theirs(1)));
    assert!(!guest.evtchn_take_pending(theirs(0)), "it waits for nothing");
    take_answer(&page, 1);
    assert_eq!(server.end(), TeardownOutcome::Clean);
}

#[test]
fn the_end_answers_every_slot_and_waits_before_it_destroys() {
    let xen = xen(2);
    let mut server = start(&xen);
    let page = xen.guest_access(1, GuestAccess::write(BASE, 1)).expect("claimed");
    let (guest_page, log) = (page.clone(), xen.clone());
    let mut waited = 0;
    xen.on_idle(move || {
        // The vCPU is slow to run again.
        waited += 1;
        if waited == 3 {
            assert_eq!(take_answer(&guest_page, 1), u64::MAX);
            log.shutdown(kernel::ShutdownReason::Poweroff);
        }
        false
    });
    let id = server.parts.id;
    drop(xen.take_events());
    assert_eq!(server.end(), TeardownOutcome::Clean);
    let taken = Event::Shutdown(DomId(7), kernel::ShutdownReason::Poweroff);
    assert_eq!(xen.take_events(), [Event::ServerState(id, false), taken, Event::ServerDestroyed(id)]);
}

#[test]
fn a_vcpu_that_never_runs_again_keeps_the_server_from_being_destroyed() {
    let xen = xen(1);
    let mut server = start(&xen);
    let page = xen.guest_access(0, GuestAccess::read(BASE)).expect("claimed");
    let id = server.parts.id;
    drop(xen.take_events());
    let yields = Rc::new(Cell::new(0));
    let count = yields.clone();
    xen.on_idle(move || {
        count.set(count.get() + 1);
        false
    });
    assert_eq!(server.end(), TeardownOutcome::Undrained(1));
    assert_eq!(state(&page, 0), ioreq::STATE_RESP_READY);
    assert_eq!(xen.take_events(), [Event::ServerState(id, false)]);
    assert_eq!(yields.take(), 20_000, "where the clock stands still");
    drop(server);
    assert_eq!(xen.take_events(), [], "it ends with the guest");
    // Where it does not.
    xen.set_tick_ns(1_000_000);
    let mut server = start(&xen);
    xen.guest_access(0, GuestAccess::read(BASE)).expect("claimed");
    assert_eq!(server.end(), TeardownOutcome::Undrained(1));
    assert!((190..=210).contains(&yields.get()), "200 ms at most: {} yields", yields.get());
}

#[test]
fn the_windows_are_claimed_before_the_server_is_enabled() {
    let xen = xen(1);
    let calls: Rc<RefCell<Vec<&str>>> = Rc::default();
    for name in ["ioreq_server_page", "ioreq_server_map_mmio", "ioreq_server_set_state"] {
        let log = calls.clone();
        xen.before(name, move || log.borrow_mut().push(name));
    }
    let _server = start(&xen);
    let expected = ["ioreq_server_page", "ioreq_server_map_mmio", "ioreq_server_set_state"];
    assert_eq!(*calls.borrow(), expected, "nobody answers an access before");
}

/// vCPU 0 takes its answer when it is told, not before.
fn run_when_told(xen: &FakeXen, page: &SharedPage) {
    let (guest, page) = (xen.domain(GUEST), page.clone());
    let port = Port(SlotView::new(&page, 0).vp_eport().expect("inside"));
    xen.on_idle(move || {
        if guest.evtchn_take_pending(port) {
            take_answer(&page, 0);
        }
        false
    });
}

#[test]
fn a_rescue_releases_the_guest_while_the_server_still_stands() {
    let xen = xen(1);
    let server = start(&xen);
    let panic_teardown = server.panic_teardown();
    let page = xen.guest_access(0, GuestAccess::read(BASE)).expect("claimed");
    let stuck = server.take(0).expect("an access");
    run_when_told(&xen, &page);
    assert_eq!(panic_teardown.run(), TeardownOutcome::Clean);
    assert_eq!(state(&page, 0), ioreq::STATE_NONE);
    core::mem::forget(stuck);
}

#[test]
fn a_failed_start_leaves_nothing_behind() {
    let steps = [
        "nr_vcpus",
        "ioreq_server_create",
        "ioreq_server_page",
        "ioreq_server_map_mmio",
        "ioreq_server_set_state",
        "evtchn_bind_interdomain",
    ];
    for step in steps {
        let xen = xen(2);
        xen.fail_next(step, Errno::ENOMEM);
        assert!(Server::start(&xen, GUEST, &[BASE..=BASE + 0x1ff]).is_err(), "{step}");
        assert!(xen.guest_access(0, GuestAccess::read(BASE)).is_none(), "{step}");
        assert_eq!(xen.open_ports(), 0, "{step}");
        let created = !["nr_vcpus", "ioreq_server_create"].contains(&step);
        let destroyed = |event: &Event| matches!(event, Event::ServerDestroyed(_));
        assert_eq!(xen.take_events().iter().any(destroyed), created, "{step}");
    }
    let stranger = FakeXen::new(DomId(7));
    assert!(matches!(Server::start(&stranger, GUEST, &[]), Err(StartError::Vcpus(Errno::EPERM))));
    let crowd = Server::start(&xen(MAX_VCPUS + 1), GUEST, &[]);
    assert!(matches!(crowd, Err(StartError::TooManyVcpus(113))));
    assert_eq!(Server::start(&xen(MAX_VCPUS), GUEST, &[]).expect("starts").ports().len(), 112);
}

#[test]
fn the_end_tells_a_vcpu_that_was_answered_and_not_told() {
    let xen = xen(1);
    let server = start(&xen);
    let teardown = server.panic_teardown();
    let page = xen.guest_access(0, GuestAccess::read(BASE)).expect("claimed");
    // A panic between the answer and its event.
    page.store(ioreq::STATE_BITS, ioreq::STATE_RESP_READY, Order::AcqRel).expect("inside");
    core::mem::forget(server);
    run_when_told(&xen, &page);
    assert_eq!(teardown.run(), TeardownOutcome::Clean);
}
