//! A whole machine on the host: Xen, xenstored, blkback, the stub and its guest.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails loudly")]

use backend::access::{Access, Direction};
use backend::blk::{Device, DeviceOptions};
use backend::event_loop::{EventLoop, Housekeeping, housekeeping};
use backend::mmio::regs;
use backend::stats::LoopStats;
use backend::storage::{AnyStorage, PvDisk, RamDisk};
use backend::stub::{Attached, Stub};
use backend::testkit::{Answer, BlkRequest, Bus, Driver, Framing, Observed, Observer, TestMemory, Touch};
use drivers::fake::{BlkBack, BlkBackConfig, XenStored};
use drivers::{BlkFront, Xenstore};
use kernel::fake::{Event, FakeXen, GuestAccess};
use kernel::{DomId, Hypervisor, Order, SharedPage};
use std::cell::RefCell;
use std::rc::Rc;
use xen_pv_sys::dm_op::ioreq;

pub const GUEST: DomId = DomId(5);
pub const STUB: DomId = DomId(7);
pub const VDEV: u32 = 51712;
pub const SECOND_VDEV: u32 = 51728;
pub const PV_MMIO: u64 = 0x0200_0000;
pub const RAM_MMIO: u64 = 0x0200_0200;
pub const PV_IRQ: u32 = 33;
pub const RAM_IRQ: u32 = 34;
/// Without a storage backend for so long, requests fail.
pub const TIMEOUT_NS: u64 = 60_000_000_000;
pub const RAM_BYTES: u64 = 1 << 20;

pub type TestStub = Stub<FakeXen, WatchfulMemory, AnyStorage<FakeXen>>;
pub type TestLoop = EventLoop<FakeXen, WatchfulMemory>;

/// Guest memory that fails the test if it is touched while a vCPU waits for an answer.
pub type WatchfulMemory = Observed<Slots>;

/// The ioreq page, once there is one.
pub struct Slots(Rc<RefCell<Option<SharedPage>>>);

impl Observer for Slots {
    fn touch(&self, _touch: Touch) {
        if let Some(page) = &*self.0.borrow() {
            for vcpu in 0..ioreq::PER_PAGE {
                let waits = slot_state(page, vcpu) == ioreq::STATE_READY;
                assert!(!waits, "guest memory is touched while vCPU {vcpu} waits");
            }
        }
    }
}

pub fn slot_state(page: &SharedPage, vcpu: usize) -> u8 {
    let bits: u8 = page.load(vcpu * ioreq::SIZE + ioreq::STATE_BITS, Order::AcqRel).expect("inside");
    bits & ioreq::STATE_MASK
}

/// As Xen does when the vCPU runs again.
pub fn take_answer(page: &SharedPage, vcpu: usize) -> u64 {
    assert_eq!(slot_state(page, vcpu), ioreq::STATE_RESP_READY, "vCPU {vcpu} was answered");
    page.store(vcpu * ioreq::SIZE + ioreq::STATE_BITS, 0u8, Order::AcqRel).expect("inside");
    page.load(vcpu * ioreq::SIZE + ioreq::DATA, Order::Relaxed).expect("inside")
}

/// The machine without the guest's drivers.
pub struct World {
    pub xen: FakeXen,
    pub back: BlkBack,
    /// The second disk's, if that is a PV disk.
    pub second_back: Option<BlkBack>,
    pub store: XenStored,
    pub event_loop: Option<TestLoop>,
    pub mem: TestMemory,
    slots: Rc<RefCell<Option<SharedPage>>>,
    events: Vec<Event>,
}

impl World {
    /// One access of a vCPU, from trap to answer.
    pub fn access(&mut self, vcpu: usize, access: GuestAccess) -> u64 {
        let page = self.xen.guest_access(vcpu, access).expect("a claimed address");
        *self.slots.borrow_mut() = Some(page.clone());
        self.stub().run_once();
        take_answer(&page, vcpu)
    }

    /// The event loop, which has not ended.
    pub fn event_loop(&mut self) -> &mut TestLoop {
        self.event_loop.as_mut().expect("running")
    }

    /// The stub in it.
    pub fn stub(&mut self) -> &mut TestStub {
        self.event_loop().stub()
    }

    /// One round of the event loop. False: it would block now.
    pub fn round(&mut self) -> bool {
        self.event_loop().round()
    }

    /// The event loop, until nothing is left to do.
    pub fn run(&mut self) {
        // Longer than anything is held back.
        self.events_until(|now_ns| now_ns + 25_000_000);
    }

    /// The event loop, for so long. Returns how often it went round.
    pub fn run_for(&mut self, time_ns: u64) -> u32 {
        let end_ns = self.xen.now_ns() + time_ns;
        self.events_until(|_| end_ns)
    }

    /// The event loop, until an end that may move with the last round that did something.
    fn events_until(&mut self, end: impl Fn(u64) -> u64) -> u32 {
        let World { event_loop, xen, .. } = self;
        let event_loop = event_loop.as_mut().expect("running");
        let mut end_ns = end(xen.now_ns());
        for round in 0..100_000 {
            if event_loop.round() {
                end_ns = end(xen.now_ns());
                continue;
            }
            event_loop.block(Some(end_ns)).expect("good ports");
            // The fake's clock moves only if nothing became pending.
            if xen.now_ns() >= end_ns {
                return round;
            }
        }
        panic!("the stub never comes to rest");
    }

    /// How often the guest was interrupted on `irq` since the last call.
    pub fn irqs(&mut self, irq: u32) -> usize {
        self.events.extend(self.xen.take_events());
        let wanted = Event::Irq(GUEST, irq, true);
        let before = self.events.len();
        self.events.retain(|event| *event != wanted);
        before - self.events.len()
    }
}

/// A guest vCPU's way to one device.
pub struct GuestBus {
    world: Rc<RefCell<World>>,
    mmio: u64,
    pub vcpu: usize,
}

impl Bus for GuestBus {
    fn access(&mut self, access: Access) -> u64 {
        let size_bytes = u32::try_from(access.width.bytes()).expect("small");
        let write = match access.direction {
            Direction::Read => None,
            // Xen 4.17 passes whole registers: the device masks.
            Direction::Write(value) => Some(value | 0xdead_0000_0000_0000),
        };
        let access = GuestAccess { size_bytes, write, ..GuestAccess::read(self.mmio + access.addr) };
        self.world.borrow_mut().access(self.vcpu, access)
    }
}

/// The machine with a driver for each disk.
pub struct Machine {
    pub world: Rc<RefCell<World>>,
    pub pv: Driver<GuestBus>,
    pub ram: Driver<GuestBus>,
}

/// What a machine is made of.
pub struct Setup {
    pub back: BlkBackConfig,
    /// The second disk is a PV disk as well, not a RAM disk.
    pub second_back: Option<BlkBackConfig>,
    pub pool_pages: u16,
    pub vcpus: u32,
    pub queues: u16,
    pub backend_timeout_ns: Option<u64>,
    /// How long the stub polls before it blocks. The machine's clock has to move by itself then.
    pub busy_poll_ns: u64,
    /// What it does beside serving.
    pub housekeeping: Housekeeping<FakeXen, WatchfulMemory>,
}

/// All that a stub does beside serving, but for what an image adds.
fn housekeep(xs: &mut Xenstore<FakeXen>, stub: &mut TestStub, _stats: &LoopStats) -> bool {
    housekeeping::housekeep(xs, stub, |_, _| ())
}

impl Default for Setup {
    fn default() -> Setup {
        let back = BlkBackConfig { sectors: 8192, ..BlkBackConfig::default() };
        Setup {
            back,
            second_back: None,
            pool_pages: 128,
            vcpus: 2,
            queues: 1,
            backend_timeout_ns: Some(TIMEOUT_NS),
            busy_poll_ns: 0,
            housekeeping: housekeep,
        }
    }
}

impl Machine {
    pub fn new(setup: Setup) -> Machine {
        let xen = FakeXen::new(STUB);
        xen.set_target(GUEST, setup.vcpus);
        let store = XenStored::start(&xen);
        let back = BlkBack::attach(&xen, &store, VDEV, setup.back);
        let mut xs = Xenstore::new(&xen).expect("a xenstore");
        let second_back = setup.second_back.map(|back| BlkBack::attach(&xen, &store, SECOND_VDEV, back));
        let mut pv_disk = |vdev| {
            let front = BlkFront::connect(&xen, &mut xs, vdev, setup.pool_pages).expect("connects");
            AnyStorage::Pv(Box::new(PvDisk::new(front, setup.backend_timeout_ns)))
        };
        let first = pv_disk(VDEV);
        let second = match second_back {
            Some(_) => pv_disk(SECOND_VDEV),
            None => AnyStorage::Ram(RamDisk::new(RAM_BYTES, false).expect("memory")),
        };
        let mem = TestMemory::new(0xc0_0000);
        let slots: Rc<RefCell<Option<SharedPage>>> = Rc::default();
        let watchful = WatchfulMemory { inner: mem.clone(), observer: Slots(slots.clone()) };
        let queues = setup.queues;
        let options =
            |serial: &str| DeviceOptions { serial: serial.into(), queues, ..DeviceOptions::default() };
        let devices = vec![
            Attached { mmio: PV_MMIO, irq: PV_IRQ, device: Device::new(first, &options("pf-51712")) },
            Attached { mmio: RAM_MMIO, irq: RAM_IRQ, device: Device::new(second, &options("pf-51728")) },
        ];
        let stub = Stub::start(&xen, GUEST, watchful, devices).expect("starts");
        let event_loop = EventLoop::new(&xen, xs, stub, setup.housekeeping, setup.busy_poll_ns);
        let event_loop = Some(event_loop);
        let (events, mem_of_guest) = (Vec::new(), mem.clone());
        let world = World { xen, back, second_back, store, event_loop, mem, slots, events };
        let world = Rc::new(RefCell::new(world));
        let driver = |mmio, vcpu, place| {
            Driver::new(GuestBus { world: world.clone(), mmio, vcpu }, mem_of_guest.clone(), place)
        };
        let last = usize::try_from(setup.vcpus).expect("few") - 1;
        Machine { pv: driver(PV_MMIO, 0, 0), ram: driver(RAM_MMIO, last, 2), world }
    }

    /// A machine whose drivers are set up with all features.
    pub fn ready(setup: Setup) -> Machine {
        let mut machine = Machine::new(setup);
        machine.pv.init(u64::MAX, 256);
        machine.ram.init(u64::MAX, 256);
        machine
    }

    pub fn run(&self) {
        self.world.borrow_mut().run();
    }

    /// One request from start to interrupt.
    pub fn ask(&mut self, disk: Disk, request: &BlkRequest, framing: &Framing) -> Answer {
        let (driver, irq) = match disk {
            Disk::Pv => (&mut self.pv, PV_IRQ),
            Disk::Ram => (&mut self.ram, RAM_IRQ),
        };
        driver.want_interrupt(1);
        let head = driver.submit(request, framing);
        driver.kick();
        self.world.borrow_mut().run();
        assert_eq!(self.world.borrow_mut().irqs(irq), 1, "one interrupt");
        assert_eq!(driver.take_interrupt(), regs::INT_USED);
        let (used, answer) = driver.next_used().expect("an answer");
        assert_eq!(used, head);
        answer
    }

    pub fn write(&mut self, disk: Disk, sector: u64, data: &[u8]) -> Answer {
        self.ask(disk, &write_request(sector, data), &Framing::Usual)
    }

    pub fn read(&mut self, disk: Disk, sector: u64, len: usize) -> Answer {
        self.ask(disk, &read_request(sector, len), &Framing::Usual)
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Disk {
    Pv,
    Ram,
}

pub const S_OK: u8 = 0;
pub const S_IOERR: u8 = 1;

pub fn write_request(sector: u64, data: &[u8]) -> BlkRequest {
    BlkRequest { kind: 1, sector, out: data.to_vec(), in_len: 0 }
}

pub fn read_request(sector: u64, in_len: usize) -> BlkRequest {
    BlkRequest { kind: 0, sector, out: Vec::new(), in_len }
}

pub fn flush_request() -> BlkRequest {
    BlkRequest { kind: 4, sector: 0, out: Vec::new(), in_len: 0 }
}

pub fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).expect("small") ^ seed).collect()
}
