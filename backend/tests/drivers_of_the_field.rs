//! How drivers in the field start a virtio-mmio disk: the registers that they touch, in their
//! order and width, and what they require of what they read. Facts taken from each driver's
//! source, which is named; of the configuration space, what its block driver reads. Each must
//! come up on our device and read a sector. `docs/conformance.md` tells what they do beside the
//! specification, and which drivers cannot work with any device of version 2.
//!
//! Which of a disk's features a driver accepts is left out where it is not to the point: any
//! subset of the offer is served (`conformance.rs`).

#![expect(clippy::cast_possible_truncation, reason = "registers take halves of addresses and features")]

#[path = "drivers_of_the_field/start_ups.rs"]
mod start_ups;

use Expect::{Any, AtLeast, Has, Is};
use Step::{Read, Write};
use Value::{Accepted, Add, Address, Size, This};
use backend::access::{Access, Direction, Width};
use backend::blk::{Device, DeviceOptions};
use backend::mmio::regs::*;
use backend::storage::RamDisk;
use backend::testkit::TestMemory;
use start_ups::{DRIVERS, OF_VERSION_1};
use std::collections::BTreeMap;

/// What a driver does with a register.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read(u64, Width, Expect),
    Write(u64, Width, Value),
}

/// What it requires of a value read.
#[derive(Clone, Copy, Debug)]
enum Expect {
    Any,
    Is(u64),
    Has(u64),
    AtLeast(u64),
}

/// What it writes.
#[derive(Clone, Copy, Debug)]
enum Value {
    This(u64),
    /// The status that it read last, and these bits.
    Add(u64),
    /// A half of what was offered, as far as it read that, and it accepts.
    Accepted(u32),
    /// The size of its queue.
    Size,
    /// A half of the address of a part of the queue.
    Address(Part, u32),
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Desc,
    Avail,
    Used,
}

const fn r(at: u64, expect: Expect) -> Step {
    Read(at, Width::Four, expect)
}

const fn w(at: u64, value: Value) -> Step {
    Write(at, Width::Four, value)
}

/// A byte of the configuration space.
const fn c1(at: u64) -> Step {
    Read(CONFIG + at, Width::One, Any)
}

const fn c2(at: u64) -> Step {
    Read(CONFIG + at, Width::Two, Any)
}

const fn c4(at: u64) -> Step {
    Read(CONFIG + at, Width::Four, Any)
}

struct Driver {
    name: &'static str,
    /// Repository, path and version.
    source: &'static str,
    /// Features that it accepts if they are offered.
    accepts: u64,
    /// The largest queue that it makes.
    queue: u16,
    start: &'static [&'static [Step]],
    notify: Step,
    /// What it does in its interrupt handler, if it does not poll.
    interrupt: &'static [Step],
}

const NOTIFY: Step = w(QUEUE_NOTIFY, This(0));
const ALL: u64 = u64::MAX;
const F_RO: u64 = 1 << 5;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_TOPOLOGY: u64 = 1 << 10;
const F_WRITE_ZEROES: u64 = 1 << 14;
/// The bits that belong to the transport.
const TRANSPORT: u64 = 0x3f << 28 | F_VERSION_1;
const NO_RING_FEATURES: u64 = !(F_EVENT_IDX | F_INDIRECT_DESC);

// What many have in common.

const PROBE: &[Step] =
    &[r(MAGIC_VALUE, Is(0x7472_6976)), r(VERSION_REG, Is(2)), r(DEVICE_ID, Is(2)), r(VENDOR_ID, Any)];
const RESET: &[Step] = &[w(STATUS, This(0))];
const RESET_AND_WAIT: &[Step] = &[w(STATUS, This(0)), r(STATUS, Is(0))];
const ADD_ACKNOWLEDGE: &[Step] = &[r(STATUS, Any), w(STATUS, Add(1))];
const ADD_DRIVER: &[Step] = &[r(STATUS, Any), w(STATUS, Add(2))];
const ADD_FEATURES_OK: &[Step] = &[r(STATUS, Any), w(STATUS, Add(8)), r(STATUS, Has(8))];
const ADD_DRIVER_OK: &[Step] = &[r(STATUS, Any), w(STATUS, Add(4))];
const OFFER_HIGH_FIRST: &[Step] = &[
    w(DEVICE_FEATURES_SEL, This(1)),
    r(DEVICE_FEATURES, Has(1)),
    w(DEVICE_FEATURES_SEL, This(0)),
    r(DEVICE_FEATURES, Any),
];
const OFFER_LOW_FIRST: &[Step] = &[
    w(DEVICE_FEATURES_SEL, This(0)),
    r(DEVICE_FEATURES, Any),
    w(DEVICE_FEATURES_SEL, This(1)),
    r(DEVICE_FEATURES, Has(1)),
];
const ACCEPT_HIGH_FIRST: &[Step] = &[
    w(DRIVER_FEATURES_SEL, This(1)),
    w(DRIVER_FEATURES, Accepted(1)),
    w(DRIVER_FEATURES_SEL, This(0)),
    w(DRIVER_FEATURES, Accepted(0)),
];
const ACCEPT_LOW_FIRST: &[Step] = &[
    w(DRIVER_FEATURES_SEL, This(0)),
    w(DRIVER_FEATURES, Accepted(0)),
    w(DRIVER_FEATURES_SEL, This(1)),
    w(DRIVER_FEATURES, Accepted(1)),
];
const SELECT_NOT_READY: &[Step] =
    &[w(QUEUE_SEL, This(0)), r(QUEUE_READY, Is(0)), r(QUEUE_SIZE_MAX, AtLeast(1))];
const SELECT: &[Step] = &[w(QUEUE_SEL, This(0)), r(QUEUE_SIZE_MAX, AtLeast(1))];
const SET_UP_QUEUE: &[Step] = &[
    w(QUEUE_SIZE, Size),
    w(QUEUE_DESC_LOW, Address(Part::Desc, 0)),
    w(QUEUE_DESC_HIGH, Address(Part::Desc, 1)),
    w(QUEUE_DRIVER_LOW, Address(Part::Avail, 0)),
    w(QUEUE_DRIVER_HIGH, Address(Part::Avail, 1)),
    w(QUEUE_DEVICE_LOW, Address(Part::Used, 0)),
    w(QUEUE_DEVICE_HIGH, Address(Part::Used, 1)),
    w(QUEUE_READY, This(1)),
];
const CAPACITY: &[Step] = &[c4(0), c4(4)];
const CAPACITY_IN_ONE_GENERATION: &[Step] =
    &[r(CONFIG_GENERATION, Any), c4(0), c4(4), r(CONFIG_GENERATION, Any)];
const READ_AND_ACKNOWLEDGE: &[Step] = &[r(INTERRUPT_STATUS, Is(1)), w(INTERRUPT_ACK, This(1))];

const SECTOR: u64 = 5;

/// The device, a driver's memory, and what the driver has learnt.
struct Guest<'a> {
    driver: &'a Driver,
    device: Device<RamDisk>,
    mem: TestMemory,
    selected: u64,
    offered: BTreeMap<u64, u64>,
    status: u64,
}

impl<'a> Guest<'a> {
    fn new(driver: &'a Driver) -> Guest<'a> {
        let storage = RamDisk::new(1 << 16, false).expect("memory");
        let device = Device::new(storage, &DeviceOptions::default());
        let mem = TestMemory::new(0x1_0000);
        Guest { driver, device, mem, selected: 0, offered: BTreeMap::new(), status: 0 }
    }

    /// The queue as `vring_init` lays it out: one piece, the used ring on a page of its own.
    fn address(&self, part: Part) -> u64 {
        let size = u64::from(self.driver.queue);
        match part {
            Part::Desc => TestMemory::BASE,
            Part::Avail => TestMemory::BASE + size * 16,
            Part::Used => (TestMemory::BASE + size * 18 + 6).next_multiple_of(4096),
        }
    }

    fn access(&mut self, addr: u64, width: Width, direction: Direction) -> u64 {
        self.device.access(Access { addr, width, direction }).0
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Read(at, width, expect) => {
                let value = self.access(at, width, Direction::Read);
                match at {
                    DEVICE_FEATURES => drop(self.offered.insert(self.selected, value)),
                    STATUS => self.status = value,
                    _ => {}
                }
                let good = match expect {
                    Any => true,
                    Is(wanted) => value == wanted,
                    Has(bits) => value & bits == bits,
                    AtLeast(least) => value >= least,
                };
                if good { Ok(()) } else { Err(format!("{step:x?}: {value:#x}")) }
            }
            Write(at, width, value) => {
                let half = |value: u64, select: u32| u64::from((value >> (32 * select)) as u32);
                let value = match value {
                    This(value) => value,
                    Add(bits) => self.status | bits,
                    Accepted(select) => {
                        let offered = self.offered.get(&select.into()).copied().unwrap_or(0);
                        half(self.driver.accepts, select) & offered
                    }
                    Size => self.driver.queue.into(),
                    Address(part, select) => half(self.address(part), select),
                };
                if at == DEVICE_FEATURES_SEL {
                    self.selected = value;
                }
                self.access(at, width, Direction::Write(value));
                Ok(())
            }
        }
    }

    fn start(&mut self) -> Result<(), String> {
        for step in self.driver.start.iter().copied().flatten() {
            self.take(*step)?;
        }
        Ok(())
    }

    /// Reads a sector by the three descriptors that all of them use. None: it is not answered.
    fn read_sector(&mut self) -> Option<(u8, Vec<u8>)> {
        const HEADER: u64 = TestMemory::BASE + 0xe000;
        const DATA: u64 = HEADER + 0x200;
        const STATUS_BYTE: u64 = HEADER + 0x400;
        self.mem.poke(HEADER, &[[0; 8], SECTOR.to_le_bytes()].concat());
        self.mem.poke(STATUS_BYTE, &[0xff]);
        let chain = [(HEADER, 16_u32, 1_u16, 1_u16), (DATA, 512, 3, 2), (STATUS_BYTE, 1, 2, 0)];
        for (at, (addr, len, flags, next)) in (0..).step_by(16).zip(chain) {
            let rest =
                [len.to_le_bytes().to_vec(), flags.to_le_bytes().to_vec(), next.to_le_bytes().to_vec()];
            self.mem
                .poke(self.address(Part::Desc) + at, &[addr.to_le_bytes().to_vec(), rest.concat()].concat());
        }
        let (avail, used) = (self.address(Part::Avail), self.address(Part::Used));
        self.mem.poke_u16(avail + 4, 0);
        self.mem.poke_u16(avail + 2, 1);
        self.take(self.driver.notify).expect("a write");
        for _ in 0..100 {
            if !self.device.process(&self.mem) && !self.device.enable_notifications(&self.mem) {
                break;
            }
        }
        (self.mem.peek_u16(used + 2) == 1)
            .then(|| (self.mem.peek(STATUS_BYTE, 1)[0], self.mem.peek(DATA, 512)))
    }
}

/// What the disk holds at [`SECTOR`].
fn content() -> Vec<u8> {
    (0..512).map(|at: u16| (at % 251) as u8).collect()
}

/// Puts [`content`] there, as a driver that keeps to the specification.
fn fill(guest: &mut Guest<'_>) {
    use backend::testkit::{BlkRequest, Bus, Driver, Framing};
    struct Through<'a>(&'a mut Device<RamDisk>);
    impl Bus for Through<'_> {
        fn access(&mut self, access: Access) -> u64 {
            self.0.access(access).0
        }
    }
    let mem = TestMemory::new(0x8_0000);
    let mut driver = Driver::new(Through(&mut guest.device), mem.clone(), 0);
    driver.init(F_VERSION_1, 8);
    driver.submit(&BlkRequest { kind: 1, sector: SECTOR, out: content(), in_len: 0 }, &Framing::Usual);
    driver.kick();
    let device = &mut driver.bus.0;
    while device.process(&mem) || device.enable_notifications(&mem) {}
    assert_eq!(driver.next_used().expect("an answer").1.status, 0);
}

/// From reset to the interrupt of a request, on a disk that was in use before.
fn life(guest: &mut Guest<'_>) -> Result<(), String> {
    guest.mem.poke(TestMemory::BASE, &[0; 0x1_0000]);
    guest.start()?;
    match guest.read_sector() {
        Some((0, data)) if data == content() => {}
        other => return Err(format!("the sector: {:?}", other.map(|(status, _)| status))),
    }
    guest.driver.interrupt.iter().try_for_each(|step| guest.take(*step))
}

#[test]
fn every_driver_of_version_2_comes_up_and_reads_a_sector() {
    let mut failures = Vec::new();
    for driver in DRIVERS {
        let mut guest = Guest::new(driver);
        fill(&mut guest);
        if let Err(why) = life(&mut guest).and_then(|()| life(&mut guest)) {
            failures.push(format!("{} ({}): {why}", driver.name, driver.source));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_driver_of_version_1_that_does_not_look_is_not_served_and_harms_nothing() {
    for driver in OF_VERSION_1 {
        let mut guest = Guest::new(driver);
        guest.start().unwrap_or_else(|why| panic!("{}: {why}", driver.name));
        assert_eq!(guest.read_sector(), None, "{} ({})", driver.name, driver.source);
        assert_eq!(guest.mem.device_writes(), 0, "{}", driver.name);
    }
}
