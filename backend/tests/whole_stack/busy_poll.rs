//! Busy polling: for how long, and when not at all.

use super::common::*;
use super::event_loop::{
    BUDGET_NS, deep, keep_ram_busy, make_deep, patient, polling, waiting_for_a_silent_backend,
};
use backend::mmio::regs;
use backend::stats::LoopStats;
use backend::testkit::{Driver, Framing};
use kernel::fake::GuestAccess;
use kernel::{Hypervisor, SharedPage};
use std::cell::RefCell;
use std::rc::Rc;

/// Less than any poll in vain takes.
const SOON_NS: u64 = 10_000;

pub fn loop_stats(machine: &Machine) -> LoopStats {
    *machine.world.borrow_mut().event_loop().stats()
}

/// An access of vCPU 0 that begins now and is answered by whatever the stub does next.
fn begin_access(machine: &Machine) -> SharedPage {
    let world = machine.world.borrow();
    world.xen.guest_access(0, GuestAccess::read(PV_MMIO)).expect("a claimed address")
}

#[test]
fn an_idle_stub_polls_for_its_budget_and_then_blocks() {
    let machine = polling(patient());
    let mut world = machine.world.borrow_mut();
    while world.round() {}
    let (began_ns, polls) = (world.xen.now_ns(), world.event_loop().stats().polls.get());
    assert!(!world.round(), "nothing is left to do");
    let spent_ns = world.xen.now_ns() - began_ns;
    assert!((BUDGET_NS..BUDGET_NS + 20_000).contains(&spent_ns), "{spent_ns} ns");
    let polls = world.event_loop().stats().polls.get() - polls;
    assert!((16 * 50..16 * 70).contains(&polls), "{polls} polls: the clock is read at each 16th only");
}

#[test]
fn without_a_budget_the_stub_does_not_poll() {
    let machine = polling(Setup { busy_poll_ns: 0, ..Setup::default() });
    machine.run();
    let before = loop_stats(&machine);
    machine.world.borrow_mut().round();
    assert_eq!(loop_stats(&machine).polls.get() - before.polls.get(), 1, "the round's own");
}

#[test]
fn an_access_that_comes_while_the_stub_polls_is_answered_without_a_block() {
    let machine = polling(patient());
    machine.run();
    let before = loop_stats(&machine);
    // The vCPU traps when the CPU is given away for the first time.
    let (xen, page) = (machine.world.borrow().xen.clone(), Rc::new(RefCell::new(None)));
    let (guest, seen) = (xen.clone(), page.clone());
    xen.on_idle(move || {
        if seen.borrow().is_some() {
            return false;
        }
        let access = guest.guest_access(0, GuestAccess::read(PV_MMIO));
        *seen.borrow_mut() = Some(access.expect("a claimed address"));
        true
    });
    assert!(machine.world.borrow_mut().round(), "there was an access");
    let page = page.borrow().clone().expect("it came");
    assert_eq!(take_answer(&page, 0), u64::from(regs::MAGIC));
    assert_eq!(loop_stats(&machine).blocks, before.blocks);
}

#[test]
fn polling_that_does_not_pay_is_cut_short_and_taken_up_again_when_it_does() {
    const LONG_NS: u64 = 1_000_000;
    let machine = polling(Setup { busy_poll_ns: LONG_NS, ..Setup::default() });
    machine.run();
    // Long sleeps: nothing ever comes in time.
    machine.world.borrow_mut().run_for(20_000_000_000);
    let spent_ns = |machine: &Machine| {
        let mut world = machine.world.borrow_mut();
        let began_ns = world.xen.now_ns();
        let busy = world.round();
        (busy, world.xen.now_ns() - began_ns)
    };
    for _ in 0..4 {
        let mut world = machine.world.borrow_mut();
        while world.round() {}
        let wake_ns = world.xen.now_ns() + 50_000_000;
        world.event_loop().block(Some(wake_ns)).expect("good ports");
    }
    let (busy, short_ns) = spent_ns(&machine);
    assert!(!busy && short_ns < LONG_NS / 10, "{short_ns} ns");
    // Now accesses come soon after each other.
    for _ in 0..4 {
        let mut world = machine.world.borrow_mut();
        while world.round() {}
        drop(world);
        let page = begin_access(&machine);
        let mut world = machine.world.borrow_mut();
        world.event_loop().block(None).expect("good ports");
        while world.round() {}
        take_answer(&page, 0);
    }
    let (busy, long_ns) = spent_ns(&machine);
    assert!(!busy && long_ns >= LONG_NS, "{long_ns} ns");
}

#[test]
fn a_stub_whose_storage_works_does_not_poll() {
    let machine = waiting_for_a_silent_backend();
    while machine.world.borrow_mut().round() {}
    let before = loop_stats(&machine);
    assert!(!machine.world.borrow_mut().round());
    assert_eq!(loop_stats(&machine).polls.get() - before.polls.get(), 1, "the CPU is the storage's");
}

/// A round of a stub that has nothing to do at its beginning: it must find something while it polls.
fn must_find_work(world: &RefCell<World>, disk: Disk) {
    let mut world = world.borrow_mut();
    let (before, began_ns) = (*world.event_loop().stats(), world.xen.now_ns());
    assert!(world.round(), "{disk:?}");
    let spent_ns = world.xen.now_ns() - began_ns;
    assert!(spent_ns < SOON_NS, "{disk:?}: found after {spent_ns} ns");
    let after = *world.event_loop().stats();
    assert_eq!(after.worked, before.worked, "{disk:?}: not before the stub polled");
    assert!(after.polls.get() > before.polls.get() + 1, "{disk:?}");
}

#[test]
fn a_request_of_any_disk_ends_the_polling() {
    for disk in [Disk::Pv, Disk::Ram] {
        let mut machine = polling(patient());
        machine.run();
        // Each disk has just been served, so that its driver need not notify.
        keep_ram_busy(&mut machine);
        machine.ram.take_interrupt();
        machine.pv.want_interrupt(1);
        machine.pv.submit(&read_request(0, 512), &Framing::Usual);
        machine.pv.kick();
        machine.world.borrow().xen.run_peers(10);
        machine.pv.take_interrupt();
        assert!(machine.pv.next_used().is_some());
        machine.pv.take_interrupt();
        let Machine { world, pv, ram } = machine;
        let xen = world.borrow().xen.clone();
        let driver = match disk {
            Disk::Pv => pv,
            Disk::Ram => ram,
        };
        // It queues something when the CPU is given away for the first time.
        let mut idle = Some(driver);
        xen.on_idle(move || {
            let submit = |mut driver: Driver<GuestBus>| driver.submit(&read_request(0, 512), &Framing::Usual);
            idle.take().map(submit).is_some()
        });
        must_find_work(&world, disk);
    }
}

#[test]
fn an_answer_of_the_storage_ends_the_polling() {
    let mut machine = polling(patient());
    machine.run();
    // The RAM disk's driver is about to acknowledge an interrupt, so the stub polls.
    machine.ram.want_interrupt(1);
    keep_ram_busy(&mut machine);
    machine.pv.submit(&read_request(0, 512), &Framing::Usual);
    machine.pv.kick();
    // Blkback runs when the CPU is given away.
    must_find_work(&machine.world, Disk::Pv);
}

#[test]
fn while_an_interrupt_waits_for_its_acknowledgement_the_stub_polls_whatever_the_storage_does() {
    let mut machine = waiting_for_a_silent_backend();
    let polls = |machine: &Machine| machine.world.borrow_mut().stub().should_busy_poll();
    assert!(!polls(&machine), "the CPU is the storage's");
    machine.ram.want_interrupt(1);
    keep_ram_busy(&mut machine);
    assert!(polls(&machine));
    machine.ram.take_interrupt();
    assert!(!polls(&machine));
}

#[test]
fn while_requests_go_in_batches_the_stub_does_not_poll() {
    let machine = deep();
    assert!(!machine.world.borrow_mut().stub().should_busy_poll(), "an event comes for the next batch");
}

#[test]
fn between_the_batches_of_a_driver_that_polls_the_stub_polls() {
    let mut machine = Machine::ready(Setup::default());
    // It wants no interrupt, so nothing tells when its next batch comes.
    make_deep(&machine.world, &mut machine.pv, 1000);
    assert!(machine.world.borrow_mut().stub().should_busy_poll());
}
