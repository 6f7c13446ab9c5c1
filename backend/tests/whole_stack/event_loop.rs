//! The event loop: it blocks whenever nothing can be done, and forgets nothing when it does.

use super::busy_poll::loop_stats;
use super::common::*;
use backend::mmio::regs;
use backend::testkit::{Driver, Framing};
use drivers::fake::{Faults, Misdeed};
use kernel::fake::GuestAccess;
use kernel::{DomId, Errno, GrantRef, Hypervisor, Order};
use std::cell::RefCell;
use xen_pv_sys::io::ring::RSP_PROD;

/// More rounds than any state here needs until it is dealt with.
const MANY_ROUNDS: u32 = 5_000;
/// A time at which nothing is held back any longer, in milliseconds.
const LONG_MS: u32 = 100;

/// `FAILED` beside all that a driver that is set up has written.
const STATUS_FAILED: u32 = 0x8f;

/// How long a stub here polls before it blocks, unless the test says otherwise.
pub const BUDGET_NS: u64 = 60_000;

pub fn patient() -> Setup {
    Setup { busy_poll_ns: BUDGET_NS, ..Setup::default() }
}

/// A machine whose clock moves by a microsecond each time that it is read: its stub can poll.
pub fn polling(setup: Setup) -> Machine {
    let machine = Machine::ready(setup);
    machine.world.borrow().xen.set_tick_ns(1_000);
    machine
}

/// A machine whose guest has a request at a storage backend that never answers.
pub fn waiting_for_a_silent_backend() -> Machine {
    let mut machine = polling(patient());
    machine
        .world
        .borrow()
        .back
        .set_faults(Faults { misdeed_at: Some((0, Misdeed::Silence)), ..Faults::default() });
    machine.pv.submit(&read_request(0, 512), &Framing::Usual);
    machine.pv.kick();
    machine
}

fn must_block(machine: &Machine) {
    let mut world = machine.world.borrow_mut();
    let rounds = (0..MANY_ROUNDS).position(|_| !world.round());
    assert!(rounds.is_some(), "the stub never blocks");
}

/// Changes the storage backend's `rsp_prod` by so much.
fn move_responses(machine: &Machine, by: u32) {
    let world = machine.world.borrow();
    let dir = format!("/local/domain/{STUB}/device/vbd/{VDEV}");
    let read = |key: &str| world.store.read(&format!("{dir}/{key}"));
    let gref = read("ring-ref0").or_else(|| read("ring-ref")).expect("a ring").parse().expect("a number");
    let back = world.xen.domain(DomId(0));
    let page = back.map_grant(STUB, GrantRef(gref), true).expect("granted");
    let rsp_prod: u32 = page.load(RSP_PROD, Order::AcqRel).expect("inside");
    page.store(RSP_PROD, rsp_prod.wrapping_add(by), Order::AcqRel).expect("inside");
    back.unmap_grant(STUB, GrantRef(gref)).expect("mapped");
}

#[test]
fn a_guest_that_broke_its_queue_lets_the_stub_block() {
    let mut machine = polling(patient());
    machine.run();
    machine.pv.offer(4096); // A head outside the table.
    machine.pv.write(regs::QUEUE_NOTIFY, 0);
    machine.run();
    machine.pv.take_interrupt();
    machine.pv.write(regs::QUEUE_NOTIFY, 0);
    must_block(&machine);
}

#[test]
fn a_driver_that_gave_up_lets_the_stub_block() {
    let mut machine = polling(patient());
    machine.pv.submit(&read_request(0, 512), &Framing::Usual);
    machine.pv.write(regs::STATUS, STATUS_FAILED);
    machine.pv.write(regs::QUEUE_NOTIFY, 0);
    must_block(&machine);
}

#[test]
fn a_notification_of_a_queue_that_is_not_set_up_lets_the_stub_block() {
    let mut machine = polling(Setup { queues: 2, ..patient() });
    machine.pv.write(regs::QUEUE_NOTIFY, 1);
    must_block(&machine);
    assert_eq!(machine.read(Disk::Pv, 0, 512).status, S_OK, "the other queue is served");
}

#[test]
fn an_idle_backend_that_moves_its_index_lets_the_stub_block() {
    let mut machine = polling(patient());
    assert_eq!(machine.write(Disk::Pv, 0, &bytes(512, 1)).status, S_OK);
    machine.run();
    move_responses(&machine, 1);
    must_block(&machine);
}

#[test]
fn a_busy_backend_that_moves_its_index_is_left_at_once() {
    let mut machine = waiting_for_a_silent_backend();
    must_block(&machine);
    move_responses(&machine, 7);
    must_block(&machine);
    machine.world.borrow().back.set_faults(Faults::default());
    // Longer than the pause before the next connection.
    machine.world.borrow_mut().run_for(5_000_000_000);
    assert!(machine.pv.next_used().is_some(), "the request was submitted again");
}

#[test]
fn without_a_backend_the_stub_blocks_however_much_the_guest_brings() {
    let mut machine = polling(patient());
    machine.run();
    machine.world.borrow().back.unbind();
    machine.world.borrow().back.set_node("state", "6");
    machine.run();
    for turn in 0..32u64 {
        machine.pv.submit(&write_request(turn * 128, &bytes(65536, 7)), &Framing::Pieces(vec![512]));
    }
    machine.pv.kick();
    must_block(&machine);
}

#[test]
fn a_dead_xenstore_lets_the_stub_block() {
    let machine = polling(patient());
    machine.run();
    machine.world.borrow().store.knobs(|knobs| knobs.rsp_prod_jump = 5000);
    machine.world.borrow().xen.run_peers(10);
    must_block(&machine);
}

/// One disk keeps the stub busy without a pause, a millisecond to the round, until the other one has
/// what it waits for. Returns how many rounds that took.
fn busy_until(machine: &mut Machine, mut done: impl FnMut(&mut Machine) -> bool) -> u32 {
    for round in 0..LONG_MS {
        if done(machine) {
            return round;
        }
        machine.ram.submit(&read_request(u64::from(round % 64), 512), &Framing::Usual);
        let mut world = machine.world.borrow_mut();
        assert!(world.round(), "the stub is busy");
        let now_ns = world.xen.now_ns();
        world.xen.poll(&[], Some(now_ns + 1_000_000)).expect("time");
        world.xen.run_peers(10);
        drop(world);
        while machine.ram.next_used().is_some() {}
    }
    panic!("nothing came of it in {LONG_MS} ms");
}

/// The PV disk has had sixteen requests outstanding, whose answers were taken.
pub fn deep() -> Machine {
    let mut machine = Machine::ready(Setup::default());
    make_deep(&machine.world, &mut machine.pv, 16);
    machine.pv.take_interrupt();
    machine
}

/// A driver has sixteen requests outstanding and takes their answers; it wants an interrupt after so
/// many.
pub fn make_deep(world: &RefCell<World>, driver: &mut Driver<GuestBus>, interrupt_after: u16) {
    for sector in 0..16 {
        driver.submit(&read_request(sector, 512), &Framing::Usual);
    }
    driver.want_interrupt(interrupt_after);
    driver.kick();
    for _ in 0..20 {
        let mut world = world.borrow_mut();
        world.xen.run_peers(10);
        if !world.round() {
            break;
        }
    }
    assert_eq!(core::iter::from_fn(|| driver.next_used()).count(), 16);
}

#[test]
fn a_busy_disk_does_not_keep_anothers_requests_back() {
    let mut machine = deep();
    machine.ram.submit(&read_request(0, 512), &Framing::Usual);
    machine.ram.kick();
    machine.pv.submit(&read_request(100, 512), &Framing::Usual);
    machine.pv.kick();
    busy_until(&mut machine, |machine| machine.pv.next_used().is_some());
}

#[test]
fn a_busy_disk_does_not_keep_anothers_answers_back() {
    let mut machine = Machine::ready(Setup::default());
    // Fifteen of sixteen are done, the last one never.
    machine
        .world
        .borrow()
        .back
        .set_faults(Faults { misdeed_at: Some((15, Misdeed::Silence)), ..Faults::default() });
    for sector in 0..16 {
        machine.pv.submit(&read_request(sector, 512), &Framing::Usual);
    }
    machine.pv.want_interrupt(1);
    machine.pv.kick();
    machine.ram.submit(&read_request(0, 512), &Framing::Usual);
    machine.ram.kick();
    machine.world.borrow_mut().irqs(PV_IRQ);
    busy_until(&mut machine, |machine| machine.world.borrow_mut().irqs(PV_IRQ) > 0);
    assert_eq!(core::iter::from_fn(|| machine.pv.next_used()).count(), 15);
}

#[test]
fn stale_pages_are_swept_before_the_stub_polls_or_blocks() {
    let machine = polling(patient());
    machine.run();
    machine.world.borrow().mem.set_stale(40);
    let before = loop_stats(&machine);
    let mut rounds = 0;
    while machine.world.borrow_mut().round() {
        rounds += 1;
        let polls = loop_stats(&machine).polls.get() - before.polls.get();
        assert!(polls <= rounds || machine.world.borrow().mem.stale() == 0, "it polls with pages to sweep");
    }
    assert_eq!(machine.world.borrow().mem.stale(), 0);
    assert!((35..=41).contains(&rounds), "one by one, and no round without: {rounds} rounds");
    assert_eq!(loop_stats(&machine).blocks, before.blocks);
}

/// The RAM disk has had a request, so that the next ones need no notification.
pub fn keep_ram_busy(machine: &mut Machine) {
    machine.ram.submit(&read_request(0, 512), &Framing::Usual);
    machine.ram.kick();
    assert!(machine.ram.next_used().is_some());
}

#[test]
fn a_busy_stub_sweeps_now_and_then() {
    let mut machine = polling(Setup { busy_poll_ns: 0, ..Setup::default() });
    machine.run();
    machine.world.borrow().mem.set_stale(1000);
    keep_ram_busy(&mut machine);
    for _ in 0..96 {
        // No notification is needed: the queue is polled while there is work.
        machine.ram.submit(&read_request(0, 512), &Framing::Usual);
        assert!(machine.world.borrow_mut().round(), "busy");
        while machine.ram.next_used().is_some() {}
    }
    assert_eq!(machine.world.borrow().mem.stale(), 997, "once in 32 rounds");
}

#[test]
fn a_busy_stub_does_not_block_nor_ask_for_events() {
    let mut machine = Machine::ready(Setup::default());
    machine.run();
    keep_ram_busy(&mut machine);
    for turn in 0..600 {
        machine.ram.submit(&read_request(0, 512), &Framing::Usual);
        assert!(machine.world.borrow_mut().round(), "round {turn}");
        while machine.ram.next_used().is_some() {}
        let kicks = machine.ram.kicks;
        machine.ram.kick();
        assert_eq!(machine.ram.kicks, kicks, "round {turn}: no notification is wanted");
    }
}

#[test]
fn a_busy_stub_reads_the_clock_every_sixteenth_round() {
    let mut machine = deep();
    keep_ram_busy(&mut machine);
    // Less than a batch is held, so the time matters.
    machine.pv.submit(&read_request(100, 512), &Framing::Usual);
    machine.pv.kick();
    machine.world.borrow().xen.set_tick_ns(1);
    let mut readings = Vec::new();
    for round in 0..64 {
        machine.ram.submit(&read_request(0, 512), &Framing::Usual);
        let mut world = machine.world.borrow_mut();
        let before_ns = world.xen.now_ns();
        assert!(world.round(), "busy");
        // One of the two readings is this test's.
        if world.xen.now_ns() - before_ns > 1 {
            readings.push(round);
        }
        drop(world);
        while machine.ram.next_used().is_some() {}
    }
    assert!(readings.len() >= 3, "{readings:?}");
    assert!(readings.windows(2).all(|pair| pair[1] - pair[0] == 16), "{readings:?}");
}

#[test]
fn the_loop_counts_its_rounds_and_blocks() {
    let mut machine = Machine::ready(Setup::default());
    machine.run();
    let before = loop_stats(&machine);
    keep_ram_busy(&mut machine);
    machine.ram.submit(&read_request(0, 512), &Framing::Usual);
    let mut world = machine.world.borrow_mut();
    assert!(world.round());
    while world.round() {}
    let wake_ns = world.xen.now_ns() + 1;
    world.event_loop().block(Some(wake_ns)).expect("good ports");
    drop(world);
    let after = loop_stats(&machine);
    assert_eq!(after.worked.get() - before.worked.get(), 1);
    assert_eq!(after.blocks.get() - before.blocks.get(), 1);
}

#[test]
fn after_an_access_the_stub_does_not_block() {
    let machine = Machine::ready(Setup::default());
    machine.run();
    let mut world = machine.world.borrow_mut();
    let page = world.xen.guest_access(0, GuestAccess::read(PV_MMIO)).expect("claimed");
    assert!(world.round(), "the next register is read at once");
    take_answer(&page, 0);
    assert!(!world.round());
}

#[test]
fn a_port_that_cannot_be_waited_for_ends_the_loop() {
    let machine = Machine::ready(Setup::default());
    machine.run();
    let mut world = machine.world.borrow_mut();
    world.xen.fail_next("poll", Errno::EINVAL);
    assert_eq!(world.event_loop().run(), Errno::EINVAL);
}
