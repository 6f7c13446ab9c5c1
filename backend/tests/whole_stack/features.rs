//! What a guest can use beyond reads and writes, on a PV disk.

use super::common::*;
use backend::access::Width;
use backend::mmio::regs;
use backend::testkit::{BlkRequest, Framing};
use drivers::fake::{BlkBackConfig, Faults};
use kernel::Hypervisor;

const S_UNSUPP: u8 = 2;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;
const T_SECURE_ERASE: u32 = 14;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;
const F_SECURE_ERASE: u64 = 1 << 16;

fn ranges(kind: u32, ranges: &[(u64, u32, u32)]) -> BlkRequest {
    let mut out = Vec::new();
    for (sector, sectors, flags) in ranges {
        out.extend(sector.to_le_bytes());
        out.extend(sectors.to_le_bytes());
        out.extend(flags.to_le_bytes());
    }
    BlkRequest { kind, sector: 0, out, in_len: 0 }
}

/// A change of what the storage backend offers.
type Change = fn(&mut BlkBackConfig);

fn backend(change: impl FnOnce(&mut BlkBackConfig)) -> Machine {
    let mut setup = Setup::default();
    change(&mut setup.back);
    Machine::ready(setup)
}

#[test]
fn a_driver_that_declines_flush_gets_durable_writes() {
    let mut machine = Machine::new(Setup::default());
    machine.pv.init(!(1 << 9), 64);
    let data = bytes(4096, 7);
    assert_eq!(machine.write(Disk::Pv, 0, &data).status, S_OK);
    assert_eq!(machine.world.borrow().back.disk().durable[..4096], data);
}

#[test]
fn write_through_can_be_chosen_and_left_again() {
    let mut machine = Machine::ready(Setup::default());
    for (turn, writeback) in [(1, 1), (2, 0), (3, 1)] {
        machine.pv.set_config(32, Width::One, writeback);
        assert_eq!(machine.pv.config(32, Width::One), writeback);
        let data = bytes(4096, turn);
        assert_eq!(machine.write(Disk::Pv, 0, &data).status, S_OK);
        let durable = machine.world.borrow().back.disk().durable[..4096] == data;
        assert_eq!(durable, writeback == 0);
    }
}

#[test]
fn discards_reach_the_backend_range_by_range() {
    let mut machine = Machine::ready(Setup::default());
    let data = bytes(32 * 512, 0x33);
    assert_eq!(machine.write(Disk::Pv, 0, &data).status, S_OK);
    let request = ranges(T_DISCARD, &[(0, 8, 0), (16, 8, 0)]);
    assert_eq!(machine.ask(Disk::Pv, &request, &Framing::Usual).status, S_OK);
    let request = ranges(T_SECURE_ERASE, &[(24, 1, 0)]);
    assert_eq!(machine.ask(Disk::Pv, &request, &Framing::Usual).status, S_OK);
    let world = machine.world.borrow();
    let disk = world.back.disk();
    assert_eq!((disk.counts.discards, disk.counts.secure_discards), (3, 1));
    let sector = |at: usize| &disk.cached[at * 512..(at + 1) * 512];
    for at in 0..32 {
        let gone = (0..8).contains(&at) || (16..25).contains(&at);
        assert_eq!(sector(at) == [0; 512], gone, "sector {at}");
    }
}

#[test]
fn a_backend_that_does_not_discard_gets_no_discards() {
    let cases: [(Change, u64); 3] = [
        (|back| back.discard = false, F_WRITE_ZEROES),
        (|back| back.secure_discard = false, F_DISCARD | F_WRITE_ZEROES),
        (|back| back.read_only = true, 0),
    ];
    for (change, offered) in cases {
        let mut machine = backend(change);
        assert_eq!(machine.pv.offered() & (F_DISCARD | F_WRITE_ZEROES | F_SECURE_ERASE), offered);
        let answer = machine.ask(Disk::Pv, &ranges(T_SECURE_ERASE, &[(0, 8, 0)]), &Framing::Usual);
        assert_eq!(answer.status, if offered == 0 { S_IOERR } else { S_UNSUPP });
        assert_eq!(machine.world.borrow().back.disk().counts.discards, 0);
    }
}

#[test]
fn a_discard_that_the_backend_refuses_is_unsupported() {
    let mut machine = Machine::ready(Setup::default());
    let faults = Faults { fail_every: Some(1), fail_as_unsupported: true, ..Faults::default() };
    machine.world.borrow().back.set_faults(faults);
    let answer = machine.ask(Disk::Pv, &ranges(T_DISCARD, &[(0, 8, 0)]), &Framing::Usual);
    assert_eq!(answer.status, S_UNSUPP);
    assert_eq!(machine.pv.read(regs::STATUS), 0xf);
}

#[test]
fn zeros_are_written_in_pieces_whatever_ring_and_pool_hold() {
    let direct = |back: &mut BlkBackConfig| {
        back.max_indirect_segments = None;
        back.max_ring_page_order = None;
    };
    let setups: [(Change, u16); 3] = [(|_| {}, 300), (direct, 12), (|_| {}, 1)];
    for (change, pool_pages) in setups {
        for unmap in [0, 1] {
            let mut setup = Setup { pool_pages, vcpus: 1, ..Setup::default() };
            change(&mut setup.back);
            let mut machine = Machine::ready(setup);
            machine.world.borrow().back.disk_mut().cached.fill(0x77);
            let request = ranges(T_WRITE_ZEROES, &[(3, 4100, unmap), (8191, 1, unmap)]);
            assert_eq!(machine.ask(Disk::Pv, &request, &Framing::Usual).status, S_OK);
            let world = machine.world.borrow();
            let disk = world.back.disk();
            assert_eq!((disk.counts.discards, disk.counts.malformed), (0, 0), "a discard promises no zeros");
            for (at, sector) in disk.cached.chunks(512).enumerate() {
                let zero = (3..4103).contains(&at) || at == 8191;
                assert!(sector.iter().all(|&byte| byte == if zero { 0 } else { 0x77 }), "sector {at}");
            }
        }
    }
}

#[test]
fn zeros_that_the_backend_fails_to_write_are_an_error() {
    let mut machine = Machine::ready(Setup { pool_pages: 4, ..Setup::default() });
    machine.world.borrow().back.set_faults(Faults { fail_every: Some(5), ..Faults::default() });
    let request = ranges(T_WRITE_ZEROES, &[(0, 800, 0)]);
    assert_eq!(machine.ask(Disk::Pv, &request, &Framing::Usual).status, S_IOERR);
    machine.world.borrow().back.set_faults(Faults::default());
    assert_eq!(machine.ask(Disk::Pv, &request, &Framing::Usual).status, S_OK);
}

#[test]
fn every_vcpu_has_a_queue_of_its_own_and_all_share_one_interrupt() {
    let mut machine = Machine::new(Setup { vcpus: 4, queues: 4, ..Setup::default() });
    machine.pv.init_queues(u64::MAX, 256, 4);
    machine.world.borrow().back.set_faults(Faults { reorder: true, delay_steps: 2, ..Faults::default() });
    for round in 0..10u8 {
        for queue in 0..4u16 {
            machine.pv.bus.vcpu = usize::from(queue);
            machine.pv.queue = queue;
            for turn in 0..5u8 {
                let data = bytes(4096, round ^ (turn << 4));
                let sector = u64::from(queue) * 1000 + u64::from(turn) * 8;
                machine.pv.submit(&write_request(sector, &data), &Framing::Usual);
            }
            machine.pv.want_interrupt(5);
            machine.pv.kick();
        }
        machine.run();
        let irqs = machine.world.borrow_mut().irqs(PV_IRQ);
        assert!((1..=4).contains(&irqs), "{irqs} interrupts for four queues");
        assert_eq!(machine.pv.take_interrupt(), regs::INT_USED);
        for queue in 0..4 {
            machine.pv.queue = queue;
            let answers: Vec<_> = core::iter::from_fn(|| machine.pv.next_used()).collect();
            assert_eq!(answers.len(), 5);
            assert!(answers.iter().all(|(_, answer)| answer.status == S_OK));
        }
    }
    for queue in 0..4usize {
        for turn in 0..5u8 {
            let start = (queue * 1000 + usize::from(turn) * 8) * 512;
            let world = machine.world.borrow();
            assert!(world.back.disk().cached[start..start + 4096] == bytes(4096, 9 ^ (turn << 4)));
        }
    }
}

/// The storage backend's disk has another length, and the stub learns of it.
fn resize(machine: &Machine, sectors: u64) {
    let mut world = machine.world.borrow_mut();
    world.back.set_node("sectors", &sectors.to_string());
    world.back.set_node("state", "4");
    // xenstored gets a moment to send its events.
    let (xen, port) = (world.xen.clone(), world.event_loop().xenstore().port());
    xen.poll(&[port], Some(xen.now_ns() + 1_000_000)).expect("a good port");
    // Before blocking: the interrupt does not wait for the next event.
    while world.round() {}
}

#[test]
fn a_resized_backend_resizes_the_guests_disk() {
    let mut machine = Machine::ready(Setup::default());
    let generation = machine.pv.read(regs::CONFIG_GENERATION);
    for (turn, sectors) in [(1, 4096u64), (2, 8192), (3, 16)] {
        resize(&machine, sectors);
        assert_eq!(machine.world.borrow_mut().irqs(PV_IRQ), 1);
        assert_eq!(machine.pv.take_interrupt(), regs::INT_CONFIG);
        assert_eq!(machine.pv.capacity(), sectors);
        assert_eq!(machine.pv.read(regs::CONFIG_GENERATION), generation + turn);
        assert_eq!(machine.read(Disk::Pv, sectors - 1, 512).status, S_OK);
        assert_eq!(machine.read(Disk::Pv, sectors, 512).status, S_IOERR);
        assert_eq!(machine.write(Disk::Pv, sectors - 1, &bytes(1024, 1)).status, S_IOERR);
    }
    // What makes no sense changes nothing.
    resize(&machine, 0);
    assert_eq!(machine.world.borrow_mut().irqs(PV_IRQ), 0);
    assert_eq!(machine.pv.capacity(), 16);
    assert_eq!(machine.ram.capacity(), RAM_BYTES / 512);
}

#[test]
fn a_request_that_is_half_under_way_when_the_disk_shrinks_is_an_error() {
    let mut machine = Machine::ready(Setup { pool_pages: 8, ..Setup::default() });
    machine.world.borrow().back.set_faults(Faults { delay_steps: 3, ..Faults::default() });
    machine.pv.submit(&write_request(0, &bytes(512 * 512, 5)), &Framing::Usual);
    machine.pv.kick();
    machine.world.borrow_mut().stub().run_once();
    resize(&machine, 128);
    machine.run();
    assert_eq!(machine.pv.next_used().expect("an answer").1.status, S_IOERR);
    assert_eq!(machine.pv.in_flight(), 0);
    let world = machine.world.borrow();
    assert!(world.back.disk().cached[128 * 512..].iter().all(|&byte| byte == 0), "nothing beyond the end");
}

#[test]
fn a_disk_of_4096_byte_blocks_is_served_in_whole_blocks() {
    let mut machine = backend(|back| back.sector_size_bytes = 4096);
    assert_eq!(machine.pv.config(20, Width::Four), 4096);
    assert_eq!(machine.pv.config(24, Width::One), 0, "physical blocks are no larger");
    assert_eq!(machine.pv.capacity(), 8192, "in sectors of 512 bytes all the same");
    let data = bytes(4096, 0x44);
    for sector in [0, 8, 8184] {
        assert_eq!(machine.write(Disk::Pv, sector, &data).status, S_OK);
        assert_eq!(machine.read(Disk::Pv, sector, 4096).data, data);
    }
    let counts = machine.world.borrow().back.disk().counts;
    for (sector, len) in [(1, 4096), (8, 512), (7, 512), (8, 4096 + 512), (8188, 4096)] {
        assert_eq!(machine.read(Disk::Pv, sector, len).status, S_IOERR, "{len} bytes at {sector}");
        assert_eq!(machine.write(Disk::Pv, sector, &bytes(len, 1)).status, S_IOERR);
    }
    assert_eq!(machine.world.borrow().back.disk().counts, counts, "the backend saw none of it");
    // Long requests are cut at whole blocks.
    let long = bytes(1 << 20, 0x21);
    assert_eq!(machine.write(Disk::Pv, 16, &long).status, S_OK);
    assert!(machine.read(Disk::Pv, 16, long.len()).data == long);
}

#[test]
fn a_disk_of_512_byte_blocks_is_served_sector_by_sector() {
    let mut machine = Machine::ready(Setup::default());
    assert_eq!(machine.pv.config(20, Width::Four), 512);
    assert_eq!(machine.pv.config(24, Width::One), 3, "eight in a physical block");
    for sector in [1, 7, 8191] {
        let data = bytes(512, 0x15);
        assert_eq!(machine.write(Disk::Pv, sector, &data).status, S_OK);
        assert_eq!(machine.read(Disk::Pv, sector, 512).data, data);
    }
}

#[test]
fn limits_follow_ring_and_pool_and_can_be_used_to_the_full() {
    let cases: [(Change, u16, u64, u64); 3] = [
        (|_| {}, 600, 1 << 20, 254),
        (|_| {}, 160, 160 << 12, 160),
        (|back| back.max_indirect_segments = None, 64, 1 << 16, 126),
    ];
    for (change, pool_pages, size_max, seg_max) in cases {
        let mut setup = Setup { pool_pages, ..Setup::default() };
        change(&mut setup.back);
        let mut machine = Machine::ready(setup);
        assert_eq!(machine.pv.config(8, Width::Four), size_max);
        assert_eq!(machine.pv.config(12, Width::Four), seg_max);
        // As many segments as may be: of pages, and a long one.
        let scattered = bytes(usize::try_from(seg_max).expect("small") * 4096, 0x62);
        let framing = Framing::Pieces(vec![16].into_iter().chain(vec![4096; 254]).collect());
        assert_eq!(machine.ask(Disk::Pv, &write_request(0, &scattered), &framing).status, S_OK);
        assert!(machine.read(Disk::Pv, 0, scattered.len()).data == scattered);
    }
}
