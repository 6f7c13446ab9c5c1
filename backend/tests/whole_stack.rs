//! The whole stack over fakes: a guest's driver, Xen, the stub, xenstored and blkback.

#![expect(clippy::expect_used, reason = "a test fails loudly")]

#[path = "whole_stack/accesses.rs"]
mod accesses;
#[path = "whole_stack/busy_poll.rs"]
mod busy_poll;
#[path = "whole_stack/clock.rs"]
mod clock;
mod common;
#[path = "whole_stack/event_loop.rs"]
mod event_loop;
#[path = "whole_stack/failover.rs"]
mod failover;
#[path = "whole_stack/features.rs"]
mod features;
#[path = "whole_stack/lost_writes.rs"]
mod lost_writes;
#[path = "whole_stack/timeout.rs"]
mod timeout;
#[path = "whole_stack/two_disks.rs"]
mod two_disks;
#[path = "whole_stack/xenstore.rs"]
mod xenstore;

use backend::ioreq::TeardownOutcome;
use backend::mmio::regs;
use backend::storage::AnyStorage;
use backend::testkit::{BlkRequest, Framing};
use common::*;
use drivers::fake::{BlkBackConfig, Faults};
use kernel::Hypervisor;
use kernel::fake::{Event, GuestAccess};
use proptest::prelude::*;
use xen_pv_sys::dm_op::ioreq;

#[test]
fn two_disks_of_a_guest_with_two_vcpus_keep_their_data_apart() {
    let mut machine = Machine::ready(Setup::default());
    assert_eq!(machine.pv.capacity(), 8192);
    assert_eq!(machine.ram.capacity(), RAM_BYTES / 512);
    let (first, second) = (bytes(8192, 0x11), bytes(8192, 0x22));
    assert_eq!(machine.write(Disk::Pv, 8, &first).status, S_OK);
    assert_eq!(machine.write(Disk::Ram, 8, &second).status, S_OK);
    assert_eq!(machine.read(Disk::Pv, 8, 8192).data, first);
    assert_eq!(machine.read(Disk::Ram, 8, 8192).data, second);
    assert_eq!(machine.world.borrow().back.disk().cached[8 * 512..24 * 512], first);
    for (disk, serial) in [(Disk::Pv, "pf-51712"), (Disk::Ram, "pf-51728")] {
        let request = BlkRequest { kind: 8, sector: 0, out: Vec::new(), in_len: 20 };
        let id = machine.ask(disk, &request, &Framing::Usual);
        assert_eq!(id.data[..8], *serial.as_bytes());
        assert_eq!(id.used_len, 21);
    }
}

#[test]
fn a_flush_makes_completed_writes_durable() {
    let mut machine = Machine::ready(Setup::default());
    let data = bytes(4096, 7);
    assert_eq!(machine.write(Disk::Pv, 0, &data).status, S_OK);
    assert_ne!(machine.world.borrow().back.disk().durable[..4096], data);
    assert_eq!(machine.ask(Disk::Pv, &flush_request(), &Framing::Usual).status, S_OK);
    assert_eq!(machine.world.borrow().back.disk().durable[..4096], data);
}

#[test]
fn what_the_backend_cannot_do_is_not_offered() {
    let back = BlkBackConfig { flush: false, read_only: true, ..BlkBackConfig::default() };
    let mut machine = Machine::new(Setup { back, ..Setup::default() });
    let offered = machine.pv.offered();
    assert_eq!(offered & (1 << 9 | 1 << 5), 1 << 5, "read-only, no flush");
    machine.pv.init(u64::MAX, 64);
    assert_eq!(machine.write(Disk::Pv, 0, &bytes(512, 1)).status, S_IOERR);
    assert_eq!(machine.ask(Disk::Pv, &flush_request(), &Framing::Usual).status, 2);
    assert_eq!(machine.world.borrow().back.disk().counts.writes, 0);
}

#[test]
fn a_long_request_is_split_to_what_ring_and_pool_hold() {
    let setups = [
        // Direct segments only, and a pool of little more than one piece.
        (
            BlkBackConfig { max_indirect_segments: None, max_ring_page_order: None, ..Setup::default().back },
            12,
        ),
        (BlkBackConfig { max_indirect_segments: Some(32), ..Setup::default().back }, 40),
        (Setup::default().back, 600),
        (Setup::default().back, 1),
    ];
    for (back, pool_pages) in setups {
        let mut machine = Machine::ready(Setup { back, pool_pages, vcpus: 1, queues: 1, ..Setup::default() });
        let data = bytes(1 << 20, 0x77);
        for framing in [Framing::Usual, Framing::Pieces(vec![5000, 70_000, 16])] {
            machine.world.borrow().back.set_faults(Faults { reorder: true, seed: 3, ..Faults::default() });
            assert_eq!(machine.ask(Disk::Pv, &write_request(3, &data), &framing).status, S_OK);
            let answer = machine.ask(Disk::Pv, &read_request(3, data.len()), &framing);
            assert_eq!((answer.status, answer.used_len), (S_OK, (1 << 20) + 1));
            assert!(answer.data == data, "pool of {pool_pages}");
        }
        assert_eq!(machine.world.borrow().back.disk().counts.malformed, 0);
    }
}

#[test]
fn many_requests_are_under_way_at_once_and_all_come_back() {
    let mut machine = Machine::ready(Setup { pool_pages: 64, ..Setup::default() });
    machine.world.borrow().back.set_faults(Faults {
        reorder: true,
        delay_steps: 2,
        seed: 9,
        ..Faults::default()
    });
    let mut heads = Vec::new();
    for turn in 0..80u8 {
        let request = write_request(u64::from(turn) * 8, &bytes(4096, turn));
        heads.push(machine.pv.submit(&request, &Framing::Usual));
    }
    machine.pv.kick();
    machine.run();
    let mut used: Vec<u16> = core::iter::from_fn(|| machine.pv.next_used())
        .map(|(head, answer)| {
            assert_eq!(answer.status, S_OK);
            head
        })
        .collect();
    used.sort_unstable();
    heads.sort_unstable();
    assert_eq!(used, heads);
    assert!(machine.world.borrow().back.most_held() > 32);
    assert_eq!(machine.pv.kicks, 1);
    machine.world.borrow_mut().irqs(PV_IRQ);
    machine.pv.take_interrupt();
    for turn in 0..80u8 {
        assert_eq!(machine.read(Disk::Pv, u64::from(turn) * 8, 4096).data, bytes(4096, turn));
    }
}

#[test]
fn backend_errors_fail_just_their_requests() {
    let mut machine = Machine::ready(Setup::default());
    machine.world.borrow().back.set_faults(Faults { fail_every: Some(3), ..Faults::default() });
    let statuses: Vec<u8> = (0..6).map(|sector| machine.read(Disk::Pv, sector, 512).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == S_IOERR).count(), 2);
    assert_eq!(statuses.iter().filter(|status| **status == S_OK).count(), 4);
    assert_eq!(machine.pv.read(regs::STATUS), 0xf);
}

#[test]
fn an_invalidate_drops_every_mapping_and_is_answered() {
    let mut machine = Machine::ready(Setup::default());
    let before = machine.world.borrow().mem.invalidations();
    machine.world.borrow_mut().access(1, GuestAccess::invalidate());
    assert_eq!(machine.world.borrow().mem.invalidations(), before + 1);
    assert_eq!(machine.read(Disk::Pv, 0, 512).status, S_OK);
}

#[test]
fn odd_ioreqs_are_answered_as_an_absent_device_would() {
    let machine = Machine::ready(Setup::default());
    let mut world = machine.world.borrow_mut();
    let mut access =
        |kind, addr, size_bytes| world.access(0, GuestAccess { kind, size_bytes, ..GuestAccess::read(addr) });
    assert_eq!(access(ioreq::TYPE_COPY, PV_MMIO, 3), u64::MAX, "no width");
    assert_eq!(access(ioreq::TYPE_COPY, RAM_MMIO + 0x1fe, 4), u64::MAX, "across the end");
    assert_eq!(access(0, PV_MMIO, 4), u64::MAX, "port I/O");
    assert_eq!(access(ioreq::TYPE_COPY, PV_MMIO, 4), u64::from(regs::MAGIC));
    assert_eq!(access(ioreq::TYPE_COPY, PV_MMIO + regs::CONFIG, 8), 8192);
}

#[test]
fn a_reset_with_requests_at_the_backend_is_clean() {
    let mut machine = Machine::ready(Setup::default());
    machine.world.borrow().back.set_faults(Faults { delay_steps: 5, ..Faults::default() });
    let old = bytes(64 * 1024, 0x0d);
    machine.pv.submit(&write_request(0, &old), &Framing::Usual);
    machine.pv.submit(&read_request(0, 64 * 1024), &Framing::Usual);
    machine.pv.kick();
    // Taken from the ring, on the way at the storage backend.
    machine.world.borrow_mut().stub().run_once();
    machine.pv.init(u64::MAX, 256);
    let writes = machine.world.borrow().mem.device_writes();
    // The new driver's write waits for the old one: it cannot be overtaken.
    let new = bytes(64 * 1024, 0x3e);
    machine.world.borrow_mut().irqs(PV_IRQ);
    assert_eq!(machine.write(Disk::Pv, 0, &new).status, S_OK);
    assert!(machine.world.borrow().back.disk().cached[..new.len()] == new);
    // Its status byte, used element and used.idx (and avail_event), but no data of the read.
    assert!(machine.world.borrow().mem.device_writes() - writes < 10);
    assert_eq!(machine.pv.next_used(), None);
}

#[test]
fn the_end_is_disable_answer_drain_destroy_and_leaves_nothing() {
    let machine = Machine::ready(Setup::default());
    let mut world = machine.world.borrow_mut();
    // vCPU 1 waits for an answer when the end comes.
    let page = world.xen.guest_access(1, GuestAccess::read(PV_MMIO)).expect("claimed");
    let guest_page = page.clone();
    world.xen.on_idle(move || {
        let answered = slot_state(&guest_page, 1) == ioreq::STATE_RESP_READY;
        if answered {
            assert_eq!(take_answer(&guest_page, 1), u64::MAX);
        }
        answered
    });
    drop(world.xen.take_events());
    let (stub, mut xs) = world.event_loop.take().expect("running").into_parts();
    let (teardown, storages) = stub.stop();
    assert_eq!(teardown, TeardownOutcome::Clean);
    let events = world.xen.take_events();
    assert!(
        matches!(events[..], [Event::ServerState(a, false), Event::ServerDestroyed(b)] if a == b),
        "{events:?}"
    );
    assert_eq!(slot_state(&page, 1), ioreq::STATE_NONE);
    for storage in storages {
        if let AnyStorage::Pv(disk) = storage {
            let mut front = disk.into_front().expect("connected");
            front.close(&mut xs).expect("closes");
            let report = front.disconnect();
            assert_eq!((report.busy_pages, report.unfinished.len()), (0, 0));
        }
    }
    assert_eq!(world.xen.live_grants(), 0);
}

#[test]
fn a_rescue_frees_the_guest_while_the_stub_is_stuck() {
    let machine = Machine::ready(Setup { vcpus: 4, ..Setup::default() });
    let mut world = machine.world.borrow_mut();
    let panic_teardown = world.stub().panic_teardown();
    let pages: Vec<_> = (0..4)
        .map(|vcpu| world.xen.guest_access(vcpu, GuestAccess::read(RAM_MMIO)).expect("claimed"))
        .collect();
    let guest_page = pages[0].clone();
    world.xen.on_idle(move || {
        for vcpu in 0..4 {
            if slot_state(&guest_page, vcpu) == ioreq::STATE_RESP_READY {
                assert_eq!(take_answer(&guest_page, vcpu), u64::MAX);
            }
        }
        false
    });
    assert_eq!(panic_teardown.run(), TeardownOutcome::Clean);
    assert!((0..4).all(|vcpu| slot_state(&pages[0], vcpu) == ioreq::STATE_NONE));
    assert!(world.xen.guest_access(0, GuestAccess::read(RAM_MMIO)).is_none(), "nobody claims it");
}

#[test]
fn ports_are_those_of_the_vcpus_and_of_the_backend() {
    let machine = Machine::new(Setup { vcpus: 3, ..Setup::default() });
    let mut world = machine.world.borrow_mut();
    let ports = world.stub().ports().collect::<Vec<_>>();
    assert_eq!(ports.len(), 4);
    assert_eq!(world.xen.poll(&ports, None), Ok(()), "all are open, and pending from the start");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the storage backend's order and delays, a disk is an array of sectors: batches of
    /// requests on disjoint places, several times over.
    #[test]
    fn a_pv_disk_is_an_array_of_sectors(
        seed in any::<u64>(),
        delay_steps in 0u32..4,
        pool_pages in 1u16..64,
        indirect in prop_oneof![Just(None), Just(Some(8)), Just(Some(64))],
        batches in prop::collection::vec(prop::collection::vec((any::<bool>(), 1usize..200, 16usize..9000), 1..12), 1..5),
    ) {
        let back = BlkBackConfig { max_indirect_segments: indirect, ..Setup::default().back };
        let mut machine = Machine::ready(Setup { back, pool_pages, vcpus: 1, queues: 1, ..Setup::default() });
        machine.world.borrow().back.set_faults(Faults { seed, reorder: true, delay_steps, ..Faults::default() });
        let mut model = vec![0u8; 8192 * 512];
        for (round, batch) in batches.iter().enumerate() {
            let mut expected = std::collections::BTreeMap::new();
            for (place, &(is_write, sectors, cut)) in batch.iter().enumerate() {
                let sector = place * 600 + round * 7;
                let range = sector * 512..(sector + sectors) * 512;
                let framing = Framing::Pieces(vec![cut.max(sectors * 4), 1000]);
                let head = if is_write {
                    let data = bytes(sectors * 512, u8::try_from(round * 16 + place).expect("small"));
                    model[range].copy_from_slice(&data);
                    let head = machine.pv.submit(&write_request(sector as u64, &data), &framing);
                    expected.insert(head, Vec::new());
                    head
                } else {
                    let head = machine.pv.submit(&read_request(sector as u64, sectors * 512), &framing);
                    expected.insert(head, model[range].to_vec());
                    head
                };
                prop_assert!(expected.contains_key(&head));
            }
            machine.pv.kick();
            machine.run();
            while let Some((head, answer)) = machine.pv.next_used() {
                prop_assert_eq!(answer.status, S_OK);
                let data = expected.remove(&head).expect("in flight");
                prop_assert!(answer.data == data);
            }
            prop_assert!(expected.is_empty());
        }
        prop_assert!(machine.world.borrow().back.disk().cached == model);
    }
}
