//! The guest's accesses: whatever the stub does, a vCPU does not wait for it.

use super::common::*;
use super::event_loop::keep_ram_busy;
use backend::mmio::regs;
use backend::testkit::Framing;
use kernel::Hypervisor;
use kernel::fake::GuestAccess;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use xen_pv_sys::dm_op::ioreq;

/// A vCPU makes an access, and the next one as soon as it is answered: `times` in all.
fn access_on_end(machine: &Machine, vcpu: usize, write: Option<u64>, times: u32) -> Rc<Cell<u32>> {
    let xen = machine.world.borrow().xen.clone();
    let (guest, answered) = (xen.clone(), Rc::new(Cell::new(0)));
    // Until the server ends.
    let access = GuestAccess { write, ..GuestAccess::read(PV_MMIO + regs::QUEUE_SEL) };
    let begin = move || guest.guest_access(vcpu, access);
    let (page, count) = (begin().expect("claimed"), answered.clone());
    xen.before("evtchn_send", move || {
        if slot_state(&page, vcpu) == ioreq::STATE_RESP_READY {
            take_answer(&page, vcpu);
            count.set(count.get() + 1);
            if count.get() < times {
                drop(begin());
            }
        }
    });
    answered
}

#[test]
fn a_driver_that_reads_several_registers_gets_them_in_one_poll() {
    let machine = Machine::ready(Setup::default());
    machine.run();
    let answered = access_on_end(&machine, 0, None, 4);
    let before = machine.world.borrow_mut().stub().answers();
    assert!(machine.world.borrow_mut().stub().poll());
    assert_eq!(answered.get(), 4);
    assert_eq!(machine.world.borrow_mut().stub().answers().get() - before.get(), 4, "all are counted");
}

#[test]
fn after_a_write_its_work_is_looked_for_first() {
    let machine = Machine::ready(Setup::default());
    machine.run();
    let answered = access_on_end(&machine, 0, Some(0), 4);
    assert!(machine.world.borrow_mut().stub().poll());
    assert_eq!(answered.get(), 1);
}

#[test]
fn a_write_of_one_vcpu_counts_among_reads_of_others() {
    let machine = Machine::ready(Setup::default());
    machine.run();
    let written = access_on_end(&machine, 0, Some(0), 1);
    let read = access_on_end(&machine, 1, None, 4);
    assert!(machine.world.borrow_mut().stub().poll());
    assert_eq!((written.get(), read.get()), (1, 1));
}

#[test]
fn an_invalidate_that_comes_while_the_stub_polls_leaves_work() {
    let machine = Machine::ready(Setup::default());
    machine.run();
    let mut world = machine.world.borrow_mut();
    let page = world.xen.guest_access(0, GuestAccess::invalidate()).expect("enabled");
    assert!(world.stub().poll(), "pages have become stale");
    take_answer(&page, 0);
    assert!(!world.stub().poll());
}

#[test]
fn a_guest_that_reads_on_end_does_not_keep_the_stub_from_its_disks() {
    let machine = Machine::ready(Setup::default());
    machine.run();
    let answered = access_on_end(&machine, 0, None, 1000);
    assert!(machine.world.borrow_mut().stub().poll());
    assert_eq!(answered.get(), 65);
}

#[test]
fn an_access_that_comes_in_a_disks_turn_is_answered_before_the_next_disks() {
    let mut machine = Machine::ready(Setup::default());
    machine.run();
    keep_ram_busy(&mut machine);
    machine.pv.want_interrupt(1);
    machine.pv.submit(&read_request(0, 512), &Framing::Usual);
    machine.pv.kick();
    let xen = machine.world.borrow().xen.clone();
    xen.run_peers(10);
    // No notification is needed: its queue is polled.
    machine.ram.submit(&read_request(0, 512), &Framing::Usual);
    // The PV disk interrupts the guest, whose vCPU comes to ask why.
    let (guest, asked) = (xen.clone(), Rc::new(RefCell::new(None)));
    let asks = asked.clone();
    xen.before("set_irq_level", move || {
        let addr = PV_MMIO + regs::INTERRUPT_STATUS;
        let access = || guest.guest_access(0, GuestAccess::read(addr)).expect("claimed");
        asks.borrow_mut().get_or_insert_with(access);
    });
    // The guest's memory fails the test if it is touched while a vCPU waits.
    assert!(machine.world.borrow_mut().stub().run_once());
    let page = asked.take().expect("the PV disk was first");
    assert_eq!(take_answer(&page, 0), u64::from(regs::INT_USED));
    assert!(machine.ram.next_used().is_some(), "the RAM disk had its turn, too");
}

#[test]
fn an_answer_of_the_storage_that_comes_just_before_its_event_is_cleared_is_told_of() {
    let mut machine = Machine::ready(Setup::default());
    machine.run();
    machine.pv.submit(&read_request(0, 512), &Framing::Usual);
    machine.pv.kick();
    let (xen, port) = {
        let world = &mut *machine.world.borrow_mut();
        (world.xen.clone(), world.stub().ports().last().expect("the PV disk's"))
    };
    xen.evtchn_take_pending(port);
    // Those of the two vCPUs are cleared first.
    let (blkback, mut cleared) = (xen.clone(), 0);
    xen.before("evtchn_take_pending", move || {
        cleared += 1;
        if cleared == 3 {
            blkback.run_peers(10);
        }
    });
    let more = machine.world.borrow_mut().stub().enable_events();
    assert!(more || xen.evtchn_take_pending(port), "nothing would wake the stub");
}
