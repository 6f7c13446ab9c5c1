//! When the stub reads the clock: seldom, since that is expensive in an emulator, but whenever a
//! deadline begins and after every sleep.

use super::common::*;
use super::event_loop::{deep, keep_ram_busy};
use backend::testkit::Framing;
use kernel::Hypervisor;

/// Busy rounds between two readings.
const CLOCK_ROUNDS: u64 = 16;

/// How often the stub reads the clock in one round of its disks. The RAM disk keeps it busy.
fn readings(machine: &mut Machine) -> u64 {
    machine.ram.submit(&read_request(0, 512), &Framing::Usual);
    let mut world = machine.world.borrow_mut();
    // The first reading here and the last are ours.
    let began_ns = world.xen.now_ns();
    assert!(world.stub().run_once());
    let readings = world.xen.now_ns() - began_ns - 1;
    drop(world);
    assert!(machine.ram.next_used().is_some());
    readings
}

/// A machine whose clock counts its readings, with a RAM disk that needs no notifications.
fn counting(mut machine: Machine) -> Machine {
    machine.ram.want_interrupt(1000);
    keep_ram_busy(&mut machine);
    machine.world.borrow().xen.set_tick_ns(1);
    machine
}

fn submit(machine: &mut Machine, requests: u64) {
    for sector in 0..requests {
        machine.pv.submit(&read_request(sector, 512), &Framing::Usual);
    }
}

#[test]
fn while_nothing_waits_for_a_time_the_clock_is_not_read() {
    let machine = Machine::ready(Setup::default());
    machine.run();
    let mut machine = counting(machine);
    assert_eq!((0..160).map(|_| readings(&mut machine)).sum::<u64>(), 0);
    let mut world = machine.world.borrow_mut();
    while world.round() {}
    assert_eq!(world.stub().hold_deadline_ns(|| panic!("read before a sleep")), None);
}

#[test]
fn while_something_is_held_the_clock_is_read_now_and_then() {
    let mut machine = counting(deep());
    submit(&mut machine, 1);
    machine.pv.kick();
    let readings: u64 = (0..10 * CLOCK_ROUNDS).map(|_| readings(&mut machine)).sum();
    assert!((9..=11).contains(&readings), "{readings} readings");
}

#[test]
fn when_something_becomes_held_its_time_begins_at_once() {
    let mut machine = counting(deep());
    submit(&mut machine, 1);
    machine.pv.kick();
    while readings(&mut machine) == 0 {}
    // The batch is complete and goes; what comes next is held anew.
    submit(&mut machine, 15);
    assert_eq!(readings(&mut machine), 0);
    submit(&mut machine, 1);
    assert_eq!(readings(&mut machine), 0);
    assert_eq!(readings(&mut machine), 1);
}

#[test]
fn after_a_sleep_what_is_due_goes_in_the_first_round() {
    let mut machine = deep();
    submit(&mut machine, 1);
    machine.pv.kick();
    let mut world = machine.world.borrow_mut();
    while world.round() {}
    world.event_loop().block(None).expect("good ports");
    world.stub().run_once();
    world.xen.run_peers(10);
    world.stub().run_once();
    drop(world);
    assert!(machine.pv.next_used().is_some());
}
