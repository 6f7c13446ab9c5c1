//! The event loop and xenstore: no event is lost, and none keeps the guest waiting.

use super::common::*;
use super::event_loop::keep_ram_busy;
use backend::event_loop::housekeeping;
use backend::stats::LoopStats;
use backend::testkit::Framing;
use drivers::Xenstore;
use kernel::fake::FakeXen;
use kernel::{DomId, Hypervisor};
use std::cell::{Cell, RefCell};

/// Longer than the stub sleeps while there is anything to do.
const HOUR_NS: u64 = 3_600_000_000_000;

/// The event loop, until the stub sleeps for an hour.
fn run_until_asleep(world: &mut World) {
    for _ in 0..1_000 {
        if world.round() {
            continue;
        }
        let until_ns = world.xen.now_ns() + HOUR_NS;
        world.event_loop().block(Some(until_ns)).expect("good ports");
        if world.xen.now_ns() >= until_ns {
            return;
        }
    }
    panic!("the stub never comes to rest");
}

const ASK: &str = "data/pilotfish/ask";
const STATS: &str = "data/pilotfish/stats";

thread_local! {
    /// What happens while the stub reads the answer to its own answer.
    static MEANWHILE: Cell<Option<Box<dyn FnOnce()>>> = Cell::new(None);
}

/// As the image answers questions: after all events.
fn answer_questions(xs: &mut Xenstore<FakeXen>, stub: &mut TestStub, _stats: &LoopStats) -> bool {
    let mut asked = false;
    let changed = housekeeping::housekeep(xs, stub, |_, event| asked |= event.token == "ask");
    if asked && let Ok(word) = xs.read_string(ASK) {
        xs.write(STATS, word.as_bytes()).expect("written");
        MEANWHILE.take().into_iter().for_each(|happens| happens());
    }
    changed
}

#[test]
fn an_event_behind_an_answer_is_seen_before_the_stub_blocks() {
    let machine = Machine::ready(Setup { housekeeping: answer_questions, ..Setup::default() });
    machine.run();
    let mut world = machine.world.borrow_mut();
    let (xen, store) = (world.xen.clone(), world.store.clone());
    let dir = format!("/local/domain/{STUB}");
    world.event_loop().xenstore().watch(ASK, "ask").expect("a watch");
    // Somebody in dom0 asks again just then. The client clears the bit, finds the answer, and leaves
    // the event behind it in the ring.
    let (xen_of_stub, peer, at) = (xen.clone(), store.clone(), dir.clone());
    let port = world.event_loop().xenstore().port();
    MEANWHILE.set(Some(Box::new(move || {
        peer.write(&format!("{at}/{ASK}"), "two");
        xen_of_stub.run_peers(100);
        assert!(xen_of_stub.evtchn_take_pending(port), "an event was sent");
    })));
    store.write(&format!("{dir}/{ASK}"), "one");
    run_until_asleep(&mut world);
    let stats = store.read(&format!("{dir}/{STATS}"));
    assert_eq!(stats.as_deref(), Some("two"), "the stub slept for an hour");
}

thread_local! {
    /// Events that one turn of housekeeping handed out, the most, and all.
    static HANDED_OUT: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

fn count_events(xs: &mut Xenstore<FakeXen>, stub: &mut TestStub, _stats: &LoopStats) -> bool {
    let mut events = 0;
    let changed = housekeeping::housekeep(xs, stub, |_, _| events += 1);
    let (most, all) = HANDED_OUT.get();
    HANDED_OUT.set((most.max(events), all + events));
    changed
}

#[test]
fn a_backend_that_writes_its_state_all_the_time_keeps_no_vcpu_waiting() {
    let machine = Machine::ready(Setup { housekeeping: count_events, ..Setup::default() });
    machine.run();
    let mut world = machine.world.borrow_mut();
    let (xen, store) = (world.xen.clone(), world.store.clone());
    let node = format!("/local/domain/0/backend/vbd/{STUB}/{VDEV}/state");
    let (peer, mut left) = (store.clone(), 200_000u32);
    xen.domain(DomId(0)).on_idle(move || {
        if let Some(less) = left.checked_sub(1) {
            left = less;
            peer.write(&node, "4");
        }
        false
    });
    HANDED_OUT.set((0, 0));
    for _ in 0..20 {
        xen.run_peers(10);
        world.round();
    }
    let (most, all) = HANDED_OUT.get();
    assert!(most <= 8, "{most} events between two polls of the guest's accesses");
    assert!(all >= 10, "{all} events of a backend that makes some all the time");
}

#[test]
fn load_does_not_keep_xenstore_out() {
    let mut machine = Machine::ready(Setup { housekeeping: count_events, ..Setup::default() });
    machine.run();
    machine.world.borrow().back.set_node("sectors", "4096");
    machine.world.borrow().back.set_node("state", "4");
    HANDED_OUT.set((0, 0));
    keep_ram_busy(&mut machine);
    let busy = (0..600).position(|_| {
        machine.ram.submit(&read_request(0, 512), &Framing::Usual);
        let mut world = machine.world.borrow_mut();
        world.xen.run_peers(10);
        assert!(world.round(), "busy");
        drop(world);
        while machine.ram.next_used().is_some() {}
        HANDED_OUT.get().1 > 0
    });
    assert!(busy.is_some_and(|rounds| rounds <= 256), "{busy:?} rounds");
}

thread_local! {
    /// The paths of all events that were handed out.
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note_events(xs: &mut Xenstore<FakeXen>, stub: &mut TestStub, _stats: &LoopStats) -> bool {
    housekeeping::housekeep(xs, stub, |_, event| {
        SEEN.with_borrow_mut(|seen| seen.push(event.path.clone()));
    })
}

#[test]
fn many_events_at_once_are_all_seen_before_the_stub_blocks() {
    let machine = Machine::ready(Setup { housekeeping: note_events, ..Setup::default() });
    machine.run();
    let mut world = machine.world.borrow_mut();
    world.event_loop().xenstore().watch(ASK, "ask").expect("a watch");
    run_until_asleep(&mut world);
    SEEN.take();
    for number in 0..10 {
        world.store.write(&format!("/local/domain/{STUB}/{ASK}/{number}"), "");
    }
    run_until_asleep(&mut world);
    let wanted: Vec<String> = (0..10).map(|number| format!("{ASK}/{number}")).collect();
    assert_eq!(SEEN.take(), wanted, "the stub slept for an hour");
}

#[test]
fn what_lost_events_were_about_is_read_again() {
    let mut machine = Machine::ready(Setup { housekeeping: note_events, ..Setup::default() });
    machine.run();
    let mut world = machine.world.borrow_mut();
    world.event_loop().xenstore().watch(ASK, "ask").expect("a watch");
    run_until_asleep(&mut world);
    SEEN.take();
    world.back.set_node("sectors", "4096");
    world.back.set_node("state", "4");
    for number in 0..40 {
        world.store.write(&format!("/local/domain/{STUB}/{ASK}/{number}"), "");
    }
    // Whoever waits for an answer takes in all events before it: more than are kept.
    world.event_loop().xenstore().read_string("domid").expect_err("no such node");
    run_until_asleep(&mut world);
    let seen = SEEN.take();
    assert!(seen.iter().all(|path| path.starts_with(ASK)), "the disk's own event was dropped: {seen:?}");
    drop(world);
    assert_eq!(machine.pv.capacity(), 4096);
}

thread_local! {
    /// What the next turn of housekeeping says of itself.
    static CHANGED: Cell<bool> = const { Cell::new(false) };
}

fn change_something(xs: &mut Xenstore<FakeXen>, stub: &mut TestStub, _stats: &LoopStats) -> bool {
    housekeeping::housekeep(xs, stub, |_, _| ()) | CHANGED.take()
}

#[test]
fn after_a_change_by_housekeeping_the_stub_does_not_block() {
    let machine = Machine::ready(Setup { housekeeping: change_something, ..Setup::default() });
    machine.run();
    let mut world = machine.world.borrow_mut();
    assert!(!world.round());
    CHANGED.set(true);
    assert!(world.round(), "it may have left work that nobody sends an event for");
    assert!(!world.round());
}
