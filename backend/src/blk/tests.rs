//! The device against a driver that obeys, and against requests that do not.

#![expect(clippy::cast_possible_truncation, reason = "test values are small, or cut on purpose")]

use super::complete::{S_IOERR, S_OK, S_UNSUPP};
use super::config::{F_CONFIG_WCE, F_FLUSH, F_RO};
use super::request::{T_FLUSH, T_GET_ID, T_IN, T_OUT};
use super::*;
use crate::guest_mem::GuestMemory;
use crate::ioreq::{Access, Reply};
use crate::mmio::regs::*;
use crate::storage::{Faults, FaultyStorage, Geometry, RamDisk};
use crate::testkit::*;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use proptest::prelude::*;

mod cache;
mod queues;
mod ranges;
mod resize;

const DISK_BYTES: u64 = 1 << 20;
const ALL: u64 = u64::MAX;

type Dev = Device<FaultyStorage<RamDisk>>;

struct DirectBus(Rc<RefCell<Dev>>);

impl Bus for DirectBus {
    fn access(&mut self, access: Access) -> u64 {
        let Reply(value) = self.0.borrow_mut().access(access);
        value
    }
}

struct Rig {
    device: Rc<RefCell<Dev>>,
    driver: Driver<DirectBus>,
    mem: TestMemory,
    faults: Rc<Faults>,
    irqs: u32,
}

impl Rig {
    fn new(wanted: u64, size: u16) -> Rig {
        let mut rig = Rig::uninitialised(false);
        rig.driver.init(wanted, size);
        rig
    }

    fn uninitialised(read_only: bool) -> Rig {
        Rig::build(Faults::default(), read_only, 1)
    }

    /// Not initialised; the storage tells of this geometry.
    fn with_geometry(geometry: Geometry) -> Rig {
        let faults = Faults::default();
        faults.geometry.set(Some(geometry));
        Rig::build(faults, false, 1)
    }

    fn build(faults: Faults, read_only: bool, queues: u16) -> Rig {
        let faults = Rc::new(faults);
        let storage = FaultyStorage::new(RamDisk::new(DISK_BYTES, false).expect("memory"), faults.clone());
        let options = DeviceOptions { serial: String::from("pf-test"), read_only, queues };
        let device = Rc::new(RefCell::new(Device::new(storage, &options)));
        let mem = TestMemory::new(0x40_0000);
        let driver = Driver::new(DirectBus(device.clone()), mem.clone(), 0);
        Rig { device, driver, mem, faults, irqs: 0 }
    }

    /// Lets the device work until it would block.
    fn run(&mut self) {
        for _ in 0..1000 {
            let worked = self.device.borrow_mut().process(&self.mem);
            self.irqs += u32::from(self.device.borrow_mut().take_irq());
            if !worked && !self.device.borrow_mut().arm(&self.mem) {
                return;
            }
        }
        panic!("the device never comes to rest");
    }

    fn ask(&mut self, request: &BlkRequest, framing: &Framing) -> Answer {
        let head = self.driver.submit(request, framing);
        self.driver.kick();
        self.run();
        let (used, answer) = self.driver.next_used().expect("an answer");
        assert_eq!(used, head);
        answer
    }

    fn write(&mut self, sector: u64, data: &[u8], framing: &Framing) -> Answer {
        self.ask(&BlkRequest { kind: T_OUT, sector, out: data.to_vec(), in_len: 0 }, framing)
    }

    fn read(&mut self, sector: u64, len: usize, framing: &Framing) -> Answer {
        self.ask(&BlkRequest { kind: T_IN, sector, out: vec![], in_len: len }, framing)
    }

    fn status(&mut self) -> u32 {
        self.driver.read(STATUS)
    }

    fn needs_reset(&mut self) -> bool {
        self.status() & 0x40 != 0
    }
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ seed).collect()
}

fn read_request(sector: u64, in_len: usize) -> BlkRequest {
    BlkRequest { kind: T_IN, sector, out: vec![], in_len }
}

#[test]
fn what_was_written_is_read_back_in_any_framing() {
    let framings = [
        Framing::Usual,
        Framing::Pieces(vec![1]),
        Framing::Pieces(vec![7, 511, 3]),
        Framing::Pieces(vec![23]),
        Framing::Pieces(vec![4096]),
    ];
    for (indirect, framing) in [true, false].into_iter().flat_map(|i| framings.iter().map(move |f| (i, f))) {
        let mut rig = Rig::new(ALL, 256);
        rig.driver.indirect = indirect;
        // One byte for each descriptor: only as much as a chain can hold.
        let one_byte = *framing == Framing::Pieces(vec![1]);
        if one_byte {
            let answer = rig.ask(&BlkRequest { kind: T_GET_ID, sector: 0, out: vec![], in_len: 20 }, framing);
            assert_eq!((answer.status, answer.used_len), (S_OK, 21));
            continue;
        }
        let data = bytes(4096 + 512, 0x5a);
        assert_eq!(rig.write(3, &data, framing).status, S_OK);
        let answer = rig.read(3, data.len(), framing);
        assert_eq!(answer, Answer { status: S_OK, used_len: 4096 + 512 + 1, data: data.clone() });
        assert_eq!(rig.read(4, 512, framing).data, data[512..1024]);
        assert_eq!(rig.read(0, 512, framing).data, vec![0; 512]);
    }
}

#[test]
fn used_length_counts_what_was_written_from_the_start() {
    let mut rig = Rig::new(ALL, 8);
    assert_eq!(rig.write(0, &bytes(512, 1), &Framing::Usual).used_len, 1);
    assert_eq!(rig.read(0, 1024, &Framing::Usual).used_len, 1025);
    // Nothing at the start of the buffer was written.
    let failed = rig.read(DISK_BYTES / 512, 512, &Framing::Usual);
    assert_eq!((failed.status, failed.used_len), (S_IOERR, 0));
    assert_eq!(failed.data, vec![0xcc; 512]);
}

#[test]
fn the_identification_is_the_serial_number_padded_with_zeros() {
    let mut rig = Rig::new(ALL, 8);
    let id = |in_len| BlkRequest { kind: T_GET_ID, sector: 0, out: vec![], in_len };
    let answer = rig.ask(&id(20), &Framing::Usual);
    assert_eq!(answer.data, *b"pf-test\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!((answer.status, answer.used_len), (S_OK, 21));
    let short = rig.ask(&id(4), &Framing::Usual);
    assert_eq!((short.data.as_slice(), short.used_len), (&b"pf-t"[..], 5));
    let long = rig.ask(&id(30), &Framing::Usual);
    assert_eq!((long.status, long.used_len), (S_OK, 20), "ten bytes before the status stay untouched");
}

#[test]
fn a_read_only_disk_says_so_and_writes_nothing() {
    let mut rig = Rig::uninitialised(true);
    assert_ne!(rig.driver.offered() & F_RO, 0);
    rig.driver.init(ALL, 8);
    assert_eq!(rig.write(0, &bytes(512, 9), &Framing::Usual).status, S_IOERR);
    assert_eq!(rig.faults.submitted.get(), 0);
    assert_eq!(rig.read(0, 512, &Framing::Usual).data, vec![0; 512]);
}

#[test]
fn what_the_request_breaks_decides_its_status() {
    let mut rig = Rig::new(ALL, 32);
    let end = DISK_BYTES / 512;
    let request = |kind, sector, out: usize, in_len| BlkRequest { kind, sector, out: vec![7; out], in_len };
    let cases = [
        (request(T_IN, end, 0, 512), S_IOERR, "beyond the end"),
        (request(T_IN, end - 1, 0, 1024), S_IOERR, "across the end"),
        (request(T_IN, u64::MAX, 0, 512), S_IOERR, "wraps"),
        (request(T_IN, u64::MAX / 512, 0, 512), S_IOERR, "wraps in bytes"),
        (request(T_OUT, end - 1, 1024, 0), S_IOERR, "write across the end"),
        (request(T_IN, 0, 0, 511), S_IOERR, "no whole sector"),
        (request(T_IN, 0, 0, 0), S_IOERR, "no data"),
        (request(T_OUT, 0, 0, 0), S_IOERR, "no data to write"),
        (request(T_OUT, 0, 512, 512), S_IOERR, "both directions"),
        (request(T_IN, 0, 512, 512), S_IOERR, "both directions"),
        (request(10, 0, 0, 16), S_UNSUPP, "lifetime is not offered"),
        (request(16, 0, 0, 512), S_UNSUPP, "zones are not offered"),
        (request(0x8000_0000, 0, 0, 512), S_UNSUPP, "no known type"),
        (request(T_FLUSH, 0, 0, 0), S_OK, "flush"),
    ];
    for (request, status, what) in cases {
        assert_eq!(rig.ask(&request, &Framing::Usual).status, status, "{what}");
    }
    assert!(!rig.needs_reset());
    assert_eq!(rig.read(0, 512, &Framing::Usual).data, vec![0; 512], "nothing was written");
}

#[test]
fn a_short_header_is_an_error_of_the_request_only() {
    let mut rig = Rig::new(ALL, 8);
    let (out, status) = (rig.driver.alloc(15), rig.driver.alloc(1));
    for readable in [vec![], vec![(out, 15)]] {
        rig.driver.add(readable, vec![(status, 1)]);
        rig.driver.kick();
        rig.run();
        assert_eq!(rig.driver.next_used().expect("an answer").1.status, S_IOERR);
    }
    assert!(!rig.needs_reset());
}

#[test]
fn a_request_without_a_status_byte_stops_the_device_until_it_is_reset() {
    let mut rig = Rig::new(ALL, 8);
    let out = rig.driver.alloc(16);
    rig.driver.add(vec![(out, 16)], vec![]);
    rig.driver.kick();
    rig.run();
    assert!(rig.needs_reset());
    assert_eq!(rig.irqs, 1);
    assert_eq!(rig.driver.take_interrupt(), INT_CONFIG);
    assert_eq!(rig.driver.next_used(), None);
    // Nothing is served any more, not even a good request.
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.write(QUEUE_NOTIFY, 0);
    rig.run();
    assert_eq!(rig.driver.next_used(), None);
    rig.driver.init(ALL, 8);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
}

#[test]
fn unreachable_buffers_fail_their_own_request() {
    let mut rig = Rig::new(ALL, 8);
    let far = 0x10;
    let ram = rig.driver.alloc(64);
    rig.mem.poke(ram, &[0; 64]);
    rig.driver.add(vec![(ram, 16)], vec![(far, 512), (ram + 16, 1)]);
    rig.driver.add(vec![(far, 16)], vec![(ram + 17, 1)]);
    rig.driver.add(vec![(ram, 16)], vec![(ram + 1024, 512), (far, 1)]);
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.mem.peek(ram + 16, 2), [S_IOERR, S_IOERR]);
    assert_eq!(rig.mem.peek_u16(rig.driver.used(2)), 3, "all came back");
    assert!(!rig.needs_reset());
}

#[test]
fn a_queue_set_up_wrongly_asks_for_a_reset() {
    let mut rig = Rig::uninitialised(false);
    for (register, value) in [(STATUS, 1), (STATUS, 3), (DRIVER_FEATURES_SEL, 1), (DRIVER_FEATURES, 1)] {
        rig.driver.write(register, value);
    }
    for (register, value) in [(STATUS, 0xb), (QUEUE_SIZE, 7), (QUEUE_READY, 1)] {
        rig.driver.write(register, value);
    }
    assert_eq!(rig.driver.read(QUEUE_READY), 0);
    assert!(rig.needs_reset());
    rig.driver.init(ALL, 8);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
}

#[test]
fn nothing_is_taken_before_driver_ok() {
    let mut rig = Rig::new(ALL, 8);
    // A driver that fills the queue first: as after a reset, but stop short of DRIVER_OK.
    rig.driver.init(ALL, 8);
    rig.driver.write(STATUS, 0);
    for (register, value) in
        [(STATUS, 1), (STATUS, 3), (DRIVER_FEATURES_SEL, 1), (DRIVER_FEATURES, 1), (STATUS, 0xb)]
    {
        rig.driver.write(register, value);
    }
    let parts = [
        (QUEUE_DESC_LOW, rig.driver.desc(0)),
        (QUEUE_DRIVER_LOW, rig.driver.avail(0)),
        (QUEUE_DEVICE_LOW, rig.driver.used(0)),
    ];
    for (register, addr) in parts {
        rig.driver.write(register, addr as u32);
    }
    rig.driver.write(QUEUE_SIZE, 8);
    rig.driver.write(QUEUE_READY, 1);
    rig.driver.indirect = false;
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.write(QUEUE_NOTIFY, 0);
    rig.run();
    assert_eq!((rig.driver.next_used(), rig.irqs), (None, 0));
    // And with it, without another notification.
    rig.driver.write(STATUS, 0xf);
    rig.run();
    assert_eq!(rig.driver.next_used().expect("an answer").1.status, S_OK);
}

#[test]
fn a_driver_without_flush_gets_durable_writes() {
    let mut rig = Rig::new(ALL & !F_FLUSH & !F_CONFIG_WCE, 8);
    rig.write(0, &bytes(512, 3), &Framing::Usual);
    rig.read(0, 512, &Framing::Usual);
    assert_eq!((rig.faults.submitted.get(), rig.faults.flushes.get()), (3, 1));
    let mut rig = Rig::new(ALL, 8);
    rig.write(0, &bytes(512, 3), &Framing::Usual);
    assert_eq!(rig.faults.flushes.get(), 0);
    // A write through is answered only after its flush.
    let mut rig = Rig::new(ALL & !F_FLUSH & !F_CONFIG_WCE, 8);
    rig.faults.hold.set(true);
    rig.driver.submit(&BlkRequest { kind: T_OUT, sector: 0, out: bytes(512, 3), in_len: 0 }, &Framing::Usual);
    rig.driver.kick();
    rig.run();
    assert_eq!((rig.faults.submitted.get(), rig.driver.next_used()), (1, None));
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.faults.flushes.get(), 1);
    assert_eq!(rig.driver.next_used().expect("an answer").1.status, S_OK);
}

#[test]
fn storage_errors_reach_just_their_requests() {
    let mut rig = Rig::new(ALL, 8);
    rig.faults.fail_next.set(1);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_IOERR);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
    rig.faults.fail_next.set(1);
    assert_eq!(rig.write(0, &bytes(512, 1), &Framing::Usual).status, S_IOERR);
    assert!(!rig.needs_reset());
}

#[test]
fn a_full_storage_delays_requests_and_loses_none() {
    let mut rig = Rig::new(ALL, 256);
    rig.faults.hold.set(true);
    rig.faults.depth.set(3);
    for sector in 0..40 {
        rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
    }
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.device.borrow().in_flight(), 3);
    assert_eq!(rig.driver.next_used(), None);
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(core::iter::from_fn(|| rig.driver.next_used()).count(), 40);
    assert_eq!(rig.driver.in_flight(), 0);
}

#[test]
fn a_batch_needs_one_interrupt_and_one_notification() {
    let mut rig = Rig::new(ALL, 256);
    rig.driver.want_interrupt(1);
    for sector in 0..50 {
        rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
        rig.driver.kick();
    }
    rig.run();
    assert_eq!((rig.driver.kicks, rig.irqs), (1, 1));
    assert_eq!(rig.driver.take_interrupt(), INT_USED);
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), 0);
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    let mut rig = Rig::new(ALL & !F_EVENT_IDX, 8);
    rig.driver.set_no_interrupt(true);
    rig.read(0, 512, &Framing::Usual);
    assert_eq!((rig.irqs, rig.driver.read(INTERRUPT_STATUS)), (0, 0));
    rig.driver.set_no_interrupt(false);
    rig.read(0, 512, &Framing::Usual);
    assert_eq!((rig.irqs, rig.driver.read(INTERRUPT_STATUS)), (1, INT_USED));
}

#[test]
fn no_notification_and_no_interrupt_is_lost_across_65535() {
    for wanted in [ALL, ALL & !F_EVENT_IDX] {
        let mut rig = Rig::new(wanted, 4);
        rig.driver.indirect = false;
        let (header, status) = (rig.driver.alloc(16), rig.driver.alloc(2));
        rig.mem.poke(header, &T_GET_ID.to_le_bytes());
        for turn in 0..66_000u32 {
            rig.driver.want_interrupt(1);
            rig.driver.add(vec![(header, 16)], vec![(status, 2)]);
            rig.driver.kick();
            let irqs = rig.irqs;
            rig.run();
            assert_eq!(rig.irqs, irqs + 1, "turn {turn}");
            assert!(rig.driver.next_used().is_some(), "turn {turn}");
        }
        assert_eq!(rig.driver.kicks, 66_000, "the device slept each time");
    }
}

#[test]
fn after_a_reset_nothing_of_the_old_requests_reaches_the_guest() {
    let mut rig = Rig::new(ALL, 8);
    rig.faults.hold.set(true);
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.device.borrow().in_flight(), 1);
    rig.driver.write(STATUS, 0);
    assert_eq!(rig.status(), 0, "at once");
    let (writes, irqs) = (rig.mem.device_writes(), rig.irqs);
    rig.run();
    assert_eq!((rig.mem.device_writes(), rig.irqs), (writes, irqs));
    // A new driver is served only when the old requests are over.
    rig.driver.init(ALL, 8);
    rig.driver.submit(&read_request(1, 512), &Framing::Usual);
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.driver.next_used(), None);
    assert_eq!(rig.faults.submitted.get(), 1);
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.driver.next_used().expect("an answer").1.status, S_OK);
    assert_eq!(rig.driver.next_used(), None);
    assert_eq!(rig.device.borrow().in_flight(), 0);
}

#[test]
fn a_stopped_queue_is_left_alone() {
    let mut rig = Rig::new(ALL, 8);
    rig.faults.hold.set(true);
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.kick();
    rig.run();
    rig.driver.write(QUEUE_READY, 0);
    rig.driver.write(QUEUE_NOTIFY, 0);
    let writes = rig.mem.device_writes();
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.mem.device_writes(), writes);
    assert_eq!(rig.device.borrow().in_flight(), 0);
}

#[test]
fn held_requests_are_dropped_by_a_reset() {
    let mut rig = Rig::new(ALL, 64);
    rig.faults.hold.set(true);
    rig.faults.depth.set(1);
    for sector in 0..5 {
        rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
    }
    rig.driver.kick();
    rig.run();
    rig.driver.init(ALL, 64);
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.faults.submitted.get(), 1);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
    assert_eq!(rig.driver.next_used(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A disk behaves like an array of sectors, whatever the sizes and framings.
    #[test]
    fn a_disk_is_an_array_of_sectors(
        steps in prop::collection::vec((0u64..60, 1usize..6, any::<bool>(), 1usize..3000, any::<u8>()), 1..40),
        wanted in prop_oneof![Just(ALL), Just(ALL & !F_EVENT_IDX), Just(ALL & !F_INDIRECT_DESC), Just(ALL & !F_FLUSH & !F_CONFIG_WCE)],
    ) {
        let mut rig = Rig::new(wanted, 256);
        let mut model = vec![0u8; 70 * 512];
        for (sector, sectors, is_write, cut, seed) in steps {
            let framing = Framing::Pieces(vec![cut.max(16), 100]);
            let range = sector as usize * 512..(sector as usize + sectors) * 512;
            if is_write {
                let data = bytes(sectors * 512, seed);
                prop_assert_eq!(rig.write(sector, &data, &framing).status, S_OK);
                model[range].copy_from_slice(&data);
            } else {
                let answer = rig.read(sector, sectors * 512, &framing);
                prop_assert_eq!(&answer.data, &model[range]);
            }
        }
    }

    /// A guest that scribbles over its rings and buffers all the time, from several vCPUs:
    /// no panic, no endless loop, and after a reset the device serves again.
    #[test]
    fn a_hostile_guest_hurts_only_itself(seed in any::<u64>(), rounds in 1u32..40) {
        let mut rig = Rig::new(ALL, 8);
        let base = TestMemory::BASE;
        // The rings and a little more, not the descriptors of other tests.
        let hostile = HostileMemory::new(rig.mem.clone(), base..base + RINGS_BYTES, seed);
        for round in 0..rounds {
            if rig.driver.free_descs() > 2 {
                rig.driver.submit(&read_request(u64::from(round), 512), &Framing::Usual);
            }
            rig.driver.write(QUEUE_NOTIFY, 0);
            let mut device = rig.device.borrow_mut();
            for _ in 0..20 {
                if !device.process(&hostile) && !device.arm(&hostile) {
                    break;
                }
            }
        }
        let (mem, device) = (&rig.mem, &rig.device);
        for _ in 0..1000 {
            if !device.borrow_mut().process(mem) {
                break;
            }
        }
        rig.driver.init(ALL, 8);
        prop_assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
    }
}

/// What a careless or hostile driver might write where.
fn any_write() -> impl Strategy<Value = (u64, u32)> {
    let register = prop_oneof![
        Just(STATUS),
        Just(QUEUE_READY),
        Just(QUEUE_NOTIFY),
        Just(QUEUE_SIZE),
        Just(QUEUE_SEL),
        Just(QUEUE_DESC_LOW),
        Just(QUEUE_DRIVER_LOW),
        Just(QUEUE_DEVICE_LOW),
        (0u64..0x80).prop_map(|word| word * 4),
    ];
    let ram = TestMemory::BASE as u32;
    let value = prop_oneof![
        0u32..17,
        Just(0xf),
        (0u32..0x800).prop_map(move |at| ram + at * 16),
        Just(F_EVENT_IDX as u32 | F_INDIRECT_DESC as u32),
        any::<u32>(),
    ];
    (register, value)
}

proptest! {
    /// Any order of register writes, with work in between, over any memory: no panic, no
    /// endless loop, and initialisation still works afterwards.
    #[test]
    fn any_driver_is_survived(
        writes in prop::collection::vec((any_write(), any::<bool>()), 0..150),
        negotiated in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut rig = Rig::uninitialised(false);
        let base = TestMemory::BASE;
        let hostile = HostileMemory::new(rig.mem.clone(), base..base + RINGS_BYTES, seed);
        if negotiated {
            rig.driver.init(ALL, 8);
        }
        for ((register, value), work) in writes {
            rig.driver.write(register, value);
            for _ in 0..if work { 5 } else { 0 } {
                rig.device.borrow_mut().process(&hostile);
                rig.device.borrow_mut().arm(&hostile);
            }
        }
        rig.driver.init(ALL, 8);
        prop_assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
    }
}

#[test]
fn memory_faults_of_the_rings_ask_for_a_reset() {
    let mut rig = Rig::new(ALL, 8);
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.kick();
    rig.mem.punch(rig.driver.avail(0)..rig.driver.avail(0) + 0x1000);
    rig.run();
    assert!(rig.needs_reset());
    let mem: &dyn GuestMemory = &rig.mem;
    mem.invalidate();
    rig.mem.punch(0..0);
    rig.driver.init(ALL, 8);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
}
