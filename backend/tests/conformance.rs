//! Clauses of virtio 1.3 that no other test proves; `docs/conformance.md` names them all.

#![expect(clippy::cast_possible_truncation, reason = "test values are small, or cut on purpose")]

#[path = "conformance/rings.rs"]
mod rings;

use backend::GuestMemory;
use backend::access::{Access, Direction, Width};
use backend::blk::{Device, DeviceOptions};
use backend::mmio::regs::*;
use backend::storage::RamDisk;
use backend::testkit::{Answer, BlkRequest, Bus, Driver, Framing, Observed, Observer, TestMemory, Touch};
use std::cell::RefCell;
use std::rc::Rc;

const DISK_BYTES: u64 = 1 << 20;
const ALL: u64 = u64::MAX;
const RAM_BYTES: usize = 0x6_0000;
// Numbers as the specification has them, not as the device does.
const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;
const T_SECURE_ERASE: u32 = 14;
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;
const F_FLUSH: u64 = 1 << 9;
const F_CONFIG_WCE: u64 = 1 << 11;
const F_MQ: u64 = 1 << 12;
const F_WRITE_ZEROES: u64 = 1 << 14;

type Dev = Device<RamDisk>;

struct Direct(Rc<RefCell<Dev>>);

impl Bus for Direct {
    fn access(&mut self, access: Access) -> u64 {
        self.0.borrow_mut().access(access).0
    }
}

/// What the device did to the memory, in order.
#[derive(Default)]
struct Log(RefCell<Vec<Touch>>);

impl Observer for Log {
    fn touch(&self, touch: Touch) {
        self.0.borrow_mut().push(touch);
    }
}

struct Rig {
    device: Rc<RefCell<Dev>>,
    driver: Driver<Direct>,
    mem: TestMemory,
    irqs: u32,
}

impl Rig {
    fn uninitialised(queues: u16) -> Rig {
        let storage = RamDisk::new(DISK_BYTES, false).expect("memory");
        let options = DeviceOptions { serial: "pf-test".into(), queues, ..DeviceOptions::default() };
        let device = Rc::new(RefCell::new(Device::new(storage, &options)));
        let mem = TestMemory::new(RAM_BYTES);
        let driver = Driver::new(Direct(device.clone()), mem.clone(), 0);
        Rig { device, driver, mem, irqs: 0 }
    }

    fn new(wanted: u64, size: u16) -> Rig {
        let mut rig = Rig::uninitialised(1);
        rig.driver.init(wanted, size);
        rig
    }

    fn run(&mut self) {
        self.run_on(&self.mem.clone());
    }

    fn run_on(&mut self, mem: &dyn GuestMemory) {
        for _ in 0..1000 {
            let mut device = self.device.borrow_mut();
            let worked = device.process(mem);
            self.irqs += u32::from(device.take_irq());
            if !worked && !device.enable_notifications(mem) {
                return;
            }
        }
        panic!("the device never comes to rest");
    }

    /// As [`Rig::run`]; tells what the device did to the memory, in order.
    fn run_traced(&mut self) -> Vec<Touch> {
        let traced = Observed { inner: self.mem.clone(), observer: Log::default() };
        self.run_on(&traced);
        traced.observer.0.into_inner()
    }

    fn ask(&mut self, kind: u32, sector: u64, out: Vec<u8>, in_len: usize) -> Answer {
        self.driver.submit(&BlkRequest { kind, sector, out, in_len }, &Framing::Usual);
        self.driver.kick();
        self.run();
        self.driver.next_used().expect("an answer").1
    }

    fn config(&mut self, offset: u64, width: Width) -> u64 {
        let access = Access { addr: CONFIG + offset, width, direction: Direction::Read };
        self.driver.bus.access(access)
    }

    fn all(&self) -> Vec<u8> {
        self.mem.peek(TestMemory::BASE, RAM_BYTES)
    }
}

/// A segment of a discard, write-zeroes or secure-erase request.
fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

// 2.2.2

#[test]
fn no_offered_feature_lacks_one_that_it_needs() {
    for queues in [1, 4] {
        let offered = Rig::uninitialised(queues).driver.offered();
        let has = |bit: u64| offered & bit != 0;
        assert!(!has(F_CONFIG_WCE) || has(F_FLUSH), "CONFIG_WCE needs FLUSH (5.2.5.2)");
        assert!(!has(1 << 40) || has(F_VERSION_1), "RING_RESET needs VERSION_1");
        assert!(has(F_VERSION_1), "everything since 1.0 needs it");
    }
}

#[test]
fn only_features_that_the_device_supports_are_offered() {
    // SIZE_MAX, SEG_MAX, RO, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, MQ, DISCARD,
    // WRITE_ZEROES, SECURE_ERASE; INDIRECT_DESC, EVENT_IDX, VERSION_1.
    let known = [1, 2, 5, 6, 9, 10, 11, 12, 13, 14, 16, 28, 29, 32];
    let known = known.into_iter().fold(0u64, |bits, bit| bits | 1 << bit);
    for queues in [1, 4] {
        assert_eq!(Rig::uninitialised(queues).driver.offered() & !known, 0);
    }
    // Reserved for other transports and formats: legacy (0, 4, 7), packed, SR-IOV,
    // notification data, configuration over notifications, admin queue.
    for bit in [0, 4, 7, 33, 34, 35, 36, 37, 38, 39, 40, 41] {
        assert_eq!(Rig::uninitialised(1).driver.offered() >> bit & 1, 0, "bit {bit}");
    }
}

#[test]
fn any_subset_of_the_offer_is_served() {
    let offered = Rig::uninitialised(1).driver.offered();
    let bits: Vec<u64> = (0..64).map(|bit| 1 << bit).filter(|bit| offered & bit != 0).collect();
    // A prime step: every bit is seen set and clear, beside each other bit.
    for mask in (0..1u32 << bits.len()).step_by(29) {
        let subset =
            (0..).zip(&bits).filter(|(at, _)| mask >> at & 1 == 1).fold(0, |all, (_, bit)| all | bit);
        if subset & F_CONFIG_WCE != 0 && subset & F_FLUSH == 0 {
            continue;
        }
        // `init` asserts that FEATURES_OK stays set.
        let mut rig = Rig::new(subset, 8);
        assert_eq!(rig.ask(T_IN, 0, vec![], 512).status, S_OK, "{subset:#x}");
    }
}

// 2.4.1

#[test]
fn the_device_is_silent_between_reset_and_the_next_driver() {
    let mut rig = Rig::new(ALL, 8);
    rig.driver.submit(&BlkRequest { kind: T_IN, sector: 0, out: vec![], in_len: 512 }, &Framing::Usual);
    rig.driver.kick();
    rig.driver.write(STATUS, 0);
    assert_eq!(rig.driver.read(STATUS), 0);
    rig.driver.write(QUEUE_NOTIFY, 0);
    assert_eq!(rig.run_traced(), [], "the queue is not even read");
    assert_eq!((rig.irqs, rig.driver.read(INTERRUPT_STATUS)), (0, 0));
}

// 2.5.2

#[test]
fn every_configuration_field_is_readable_before_features_ok() {
    let mut early = Rig::uninitialised(4);
    let mut late = Rig::uninitialised(4);
    late.driver.init(ALL, 8);
    assert_eq!(early.driver.capacity(), DISK_BYTES / 512);
    assert_ne!(early.config(12, Width::Four), 0, "seg_max");
    assert_eq!(early.config(20, Width::Four), 512, "blk_size");
    let queues = early.config(34, Width::Two);
    assert_eq!(queues != 0, early.driver.offered() & F_MQ != 0, "num_queues");
    for offset in 0..96 {
        assert_eq!(early.config(offset, Width::One), late.config(offset, Width::One), "byte {offset}");
    }
}

// 4.2.2.1

#[test]
fn the_configuration_is_the_same_whenever_its_generation_is() {
    const WRITEBACK: u64 = 32;
    let mut rig = Rig::new(ALL, 8);
    let mut seen: Vec<(u32, Vec<u64>)> = Vec::new();
    for writeback in [1, 0, 0, 1, 0] {
        rig.driver.set_config(WRITEBACK, Width::One, writeback);
        let before = rig.driver.read(CONFIG_GENERATION);
        let bytes: Vec<u64> = (0..96).map(|at| rig.config(at, Width::One)).collect();
        assert_eq!(rig.driver.read(CONFIG_GENERATION), before);
        for (generation, old) in &seen {
            assert!(*generation != before || *old == bytes);
        }
        seen.push((before, bytes));
        rig.ask(T_OUT, writeback, vec![1; 512], 0);
    }
    assert_ne!(seen[0].1, seen[1].1, "it did change on the way");
    // A new driver's negotiation sets the field again.
    rig.driver.init(ALL, 8);
    let generation = rig.driver.read(CONFIG_GENERATION);
    assert_eq!(rig.config(WRITEBACK, Width::One), 1);
    assert!(seen.iter().all(|(old, bytes)| *old != generation || bytes[WRITEBACK as usize] == 1));
}

#[test]
fn a_reset_clears_queue_ready_of_every_queue_and_the_interrupts() {
    let mut rig = Rig::uninitialised(4);
    rig.driver.init_queues(ALL, 8, 4);
    rig.driver.want_interrupt(1);
    rig.ask(T_IN, 0, vec![], 512);
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), INT_USED);
    for (status, ready) in [(0xf, 1), (0, 0)] {
        rig.driver.write(STATUS, status);
        for queue in 0..4 {
            rig.driver.write(QUEUE_SEL, queue);
            assert_eq!(rig.driver.read(QUEUE_READY), ready, "queue {queue}");
        }
    }
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), 0);
}

#[test]
fn a_queue_that_is_not_ready_is_not_even_read() {
    for ready in [true, false] {
        let mut rig = Rig::new(ALL, 8);
        rig.driver.submit(&BlkRequest { kind: T_IN, sector: 0, out: vec![], in_len: 512 }, &Framing::Usual);
        if !ready {
            rig.driver.write(QUEUE_READY, 0);
        }
        rig.driver.write(QUEUE_NOTIFY, 0);
        assert_eq!(rig.run_traced().is_empty(), !ready);
    }
}

#[test]
fn interrupt_status_shows_used_buffers_and_nothing_else() {
    let mut rig = Rig::new(ALL, 8);
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), 0);
    rig.driver.want_interrupt(1);
    rig.ask(T_IN, 0, vec![], 512);
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), INT_USED);
    rig.driver.write(INTERRUPT_ACK, INT_CONFIG);
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), INT_USED, "only what is acknowledged goes");
    rig.driver.write(INTERRUPT_ACK, INT_USED);
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), 0);
}

// 5.2.5.2

#[test]
fn padding_of_the_configuration_is_zero() {
    let mut rig = Rig::uninitialised(4);
    assert_eq!(rig.config(33, Width::One), 0, "unused0");
    for offset in 57..60 {
        assert_eq!(rig.config(offset, Width::One), 0, "unused1");
    }
    for offset in 72..96 {
        assert_eq!(rig.config(offset, Width::One), 0, "zoned and unused2");
    }
}

// 5.2.6.2

#[test]
fn a_range_command_with_an_unknown_flag_is_unsupported() {
    let mut rig = Rig::new(ALL, 16);
    for kind in [T_DISCARD, T_WRITE_ZEROES, T_SECURE_ERASE] {
        for flags in [2, 4, 0x8000_0000, u32::MAX] {
            assert_eq!(rig.ask(kind, 0, range(0, 8, flags), 0).status, S_UNSUPP, "{kind} {flags:#x}");
        }
    }
}

/// Whatever else is wrong with the request: the flag decides.
#[test]
fn an_unknown_flag_of_any_range_is_unsupported() {
    let mut rig = Rig::new(ALL, 16);
    let beyond = DISK_BYTES / 512;
    for kind in [T_DISCARD, T_WRITE_ZEROES, T_SECURE_ERASE] {
        for bad in [range(beyond, 8, 0), range(0, u32::MAX, 0), range(0, 0, 0)] {
            assert_eq!(rig.ask(kind, 0, bad.clone(), 0).status, S_IOERR);
            let unknown = range(0, 8, 0x10);
            assert_eq!(rig.ask(kind, 0, [bad.clone(), unknown.clone()].concat(), 0).status, S_UNSUPP);
            assert_eq!(rig.ask(kind, 0, [unknown, bad].concat(), 0).status, S_UNSUPP);
        }
    }
}

#[test]
fn a_discard_with_unmap_is_unsupported() {
    let mut rig = Rig::new(ALL, 16);
    assert_eq!(rig.ask(T_DISCARD, 0, range(0, 8, 1), 0).status, S_UNSUPP);
}

#[test]
fn zeroed_sectors_read_as_zeroes() {
    for flags in [0, 1] {
        let mut rig = Rig::new(ALL, 16);
        assert_ne!(rig.driver.offered() & F_WRITE_ZEROES, 0);
        assert_eq!(rig.ask(T_OUT, 0, vec![7; 4096], 0).status, S_OK);
        assert_eq!(rig.ask(T_WRITE_ZEROES, 0, range(0, 4, flags), 0).status, S_OK);
        assert_eq!(rig.ask(T_IN, 0, vec![], 4096).data, [vec![0; 2048], vec![7; 2048]].concat());
    }
}

#[test]
fn zone_commands_and_lifetime_are_unsupported() {
    let mut rig = Rig::new(ALL, 16);
    assert_eq!(rig.driver.offered() & (1 << 17 | 1 << 15), 0, "ZONED, LIFETIME");
    // APPEND, REPORT, OPEN, CLOSE, FINISH, RESET, RESET_ALL; GET_LIFETIME.
    for kind in [15, 16, 18, 20, 22, 24, 26, 10] {
        assert_eq!(rig.ask(kind, 0, vec![], 512).status, S_UNSUPP, "{kind}");
        assert_eq!(rig.ask(kind, 0, vec![0; 512], 0).status, S_UNSUPP, "{kind}");
    }
}

// 6.2

#[test]
fn version_1_is_offered() {
    let mut rig = Rig::uninitialised(1);
    assert_ne!(rig.driver.offered() & F_VERSION_1, 0);
}
