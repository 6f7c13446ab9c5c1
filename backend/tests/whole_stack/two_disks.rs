//! Two PV disks of one stub: housekeeping forgets neither.

use super::common::*;
use super::event_loop::make_deep;
use backend::event_loop::housekeeping;
use backend::stats::LoopStats;
use backend::storage::Storage;
use backend::testkit::{Driver, Framing};
use drivers::Xenstore;
use drivers::fake::{BlkBack, Faults, Misdeed};
use kernel::fake::FakeXen;
use kernel::{DomId, Hypervisor};

const PAUSE_MAX_NS: u64 = 10_000_000_000;
/// Longer than any pause of ours, shorter than the timeout.
const A_WHILE_NS: u64 = PAUSE_MAX_NS + 5_000_000_000;

const DISKS: [Disk; 2] = [Disk::Pv, Disk::Ram];

/// As any stub does. What has changed of a connection must be told: no event comes for what was held.
fn housekeep(xs: &mut Xenstore<FakeXen>, stub: &mut TestStub, _stats: &LoopStats) -> bool {
    let ports = |stub: &mut TestStub| stub.storages().map(|storage| storage.port()).collect::<Vec<_>>();
    let before = ports(stub);
    let changed = housekeeping::housekeep(xs, stub, |_, _| ());
    assert!(changed || ports(stub) == before, "a connection has come or gone");
    changed
}

fn two_pv_disks() -> Machine {
    let second_back = Some(Setup::default().back);
    let machine = Machine::ready(Setup { second_back, housekeeping: housekeep, ..Setup::default() });
    machine.run();
    machine
}

/// The driver of a disk, and what is behind it.
fn parts(machine: &mut Machine, disk: Disk) -> (&mut Driver<GuestBus>, BlkBack) {
    let world = machine.world.borrow();
    match disk {
        Disk::Pv => (&mut machine.pv, world.back.clone()),
        Disk::Ram => (&mut machine.ram, world.second_back.clone().expect("a PV disk")),
    }
}

fn submit(machine: &mut Machine, disk: Disk) {
    let (driver, _) = parts(machine, disk);
    driver.submit(&read_request(0, 512), &Framing::Usual);
    driver.kick();
}

/// The status of the request that was submitted, if it was answered.
fn status(machine: &mut Machine, disk: Disk) -> Option<u8> {
    parts(machine, disk).0.next_used().map(|(_, answer)| answer.status)
}

#[test]
fn each_is_resized_with_its_storage() {
    for disk in DISKS {
        let mut machine = two_pv_disks();
        let (_, back) = parts(&mut machine, disk);
        back.set_node("sectors", "4096");
        back.set_node("state", "4");
        machine.run();
        let sectors = [machine.pv.capacity(), machine.ram.capacity()];
        assert_eq!(
            sectors,
            DISKS.map(|other| if other as u8 == disk as u8 { 4096 } else { 8192 }),
            "{disk:?}"
        );
    }
}

#[test]
fn each_reads_its_state_again_when_events_were_lost() {
    let mut machine = two_pv_disks();
    for disk in DISKS {
        let (_, back) = parts(&mut machine, disk);
        back.set_node("sectors", "4096");
        back.set_node("state", "4");
    }
    {
        let mut world = machine.world.borrow_mut();
        let xs = world.event_loop().xenstore();
        xs.watch("data/pilotfish/ask", "ask").expect("a watch");
        for number in 0..40 {
            world.store.write(&format!("/local/domain/{STUB}/data/pilotfish/ask/{number}"), "");
        }
        // Whoever waits for an answer takes in all events before it: more than are kept.
        world.event_loop().xenstore().read_string("domid").expect_err("no such node");
    }
    machine.run();
    assert_eq!([machine.pv.capacity(), machine.ram.capacity()], [4096, 4096]);
}

#[test]
fn each_is_connected_again_when_its_storage_backend_returns() {
    for disk in DISKS {
        let mut machine = two_pv_disks();
        let (_, back) = parts(&mut machine, disk);
        back.die();
        machine.run();
        submit(&mut machine, disk);
        machine.run();
        assert_eq!(status(&mut machine, disk), None, "{disk:?}");
        back.reattach(DomId(0));
        machine.world.borrow_mut().run_for(A_WHILE_NS);
        assert_eq!(status(&mut machine, disk), Some(S_OK), "{disk:?}");
    }
}

#[test]
fn each_fails_its_requests_after_its_timeout() {
    for disk in DISKS {
        let mut machine = two_pv_disks();
        let (_, back) = parts(&mut machine, disk);
        // The driver is gone, its state is not: only time tells.
        back.unbind();
        submit(&mut machine, disk);
        machine.world.borrow_mut().run_for(TIMEOUT_NS - 1_000_000_000);
        assert_eq!(status(&mut machine, disk), None, "{disk:?}");
        machine.world.borrow_mut().run_for(2_000_000_000);
        assert_eq!(status(&mut machine, disk), Some(S_IOERR), "{disk:?}");
    }
}

#[test]
fn the_first_timeout_to_pass_is_not_missed_for_the_second() {
    for (first, second) in [(Disk::Pv, Disk::Ram), (Disk::Ram, Disk::Pv)] {
        let mut machine = two_pv_disks();
        for disk in DISKS {
            parts(&mut machine, disk).1.unbind();
        }
        submit(&mut machine, first);
        machine.world.borrow_mut().run_for(TIMEOUT_NS / 2);
        submit(&mut machine, second);
        machine.world.borrow_mut().run_for(TIMEOUT_NS / 2 + 1_000_000_000);
        assert_eq!((status(&mut machine, first), status(&mut machine, second)), (Some(S_IOERR), None));
    }
}

/// For how long the stub would sleep now, without an event.
fn sleep_ns(world: &mut World) -> u64 {
    let now_ns = world.xen.now_ns();
    assert!(!world.stub().enable_events());
    world.stub().hold_deadline_ns(|| now_ns).expect("a batch is waited for") - now_ns
}

#[test]
fn each_has_a_deadline_for_what_it_holds_which_is_later_when_both_are_busy() {
    for (disk, other) in [(Disk::Pv, Disk::Ram), (Disk::Ram, Disk::Pv)] {
        let held_ns = |other_is_busy: bool| {
            let mut machine = two_pv_disks();
            let world = machine.world.clone();
            // Batches that come so seldom that the longest wait is the limit.
            for _ in 0..30 {
                make_deep(&world, parts(&mut machine, disk).0, 16);
                parts(&mut machine, disk).0.take_interrupt();
                world.borrow().xen.advance_ns(100_000_000);
                sleep_ns(&mut world.borrow_mut());
            }
            if other_is_busy {
                let faults = Faults { misdeed_at: Some((0, Misdeed::Silence)), ..Faults::default() };
                parts(&mut machine, other).1.set_faults(faults);
                submit(&mut machine, other);
            }
            submit(&mut machine, disk);
            world.borrow_mut().stub().run_once();
            sleep_ns(&mut world.borrow_mut())
        };
        assert_eq!((held_ns(false), held_ns(true)), (10_000_000, 20_000_000), "{disk:?}");
    }
}

#[test]
fn each_is_served_while_the_other_is_busy() {
    for (busy, disk) in [(Disk::Pv, Disk::Ram), (Disk::Ram, Disk::Pv)] {
        let mut machine = two_pv_disks();
        let (driver, _) = parts(&mut machine, busy);
        for sector in 0..100 {
            driver.submit(&read_request(sector, 512), &Framing::Usual);
        }
        driver.kick();
        submit(&mut machine, disk);
        machine.run();
        assert_eq!(status(&mut machine, disk), Some(S_OK), "{disk:?}");
        assert_eq!(core::iter::from_fn(|| status(&mut machine, busy)).count(), 100, "{busy:?}");
    }
}
