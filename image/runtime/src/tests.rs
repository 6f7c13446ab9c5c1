//! A stub begins, panics, recovers and ends, on a whole machine of fakes: Xen, xenstored, blkback
//! and the guest. A panic is what forgets everything and drops nothing.

mod disks;
mod failures;
mod memory;
mod nbd_restart;
mod network;
mod order;

use crate::platform::{Host, Step, host};
use crate::{ImageStub, Running, begin, housekeep};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use backend::access::{Access, Direction};
use backend::event_loop::EventLoop;
use backend::testkit::{BlkRequest, Bus, Driver, Framing, TestMemory};
use core::cell::RefCell;
use drivers::fake::{BlkBack, BlkBackConfig, XenStored};
use kernel::fake::{CountedHeap, FakeXen, GuestAccess};
use kernel::{BootInfo, DomId, Hypervisor, Order, SharedPage};
use xen_pv_sys::dm_op::ioreq;

/// Counts for `memory`.
#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

const GUEST: DomId = DomId(5);
const STUB: DomId = DomId(7);
const VDEV: u32 = 51712;
const MMIO: u64 = 0x0200_0000;
const MAGIC: u64 = 0x7472_6976;
const CMDLINE: &str =
    "target=5 restarts=3 poll-us=0 disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=pv:51712";
/// Longer than anything is held back.
const A_WHILE_NS: u64 = 25_000_000;

/// The machine, with or without a stub that runs.
struct World {
    xen: FakeXen,
    store: XenStored,
    back: BlkBack,
    mem: TestMemory,
    event_loop: Option<EventLoop<FakeXen, TestMemory>>,
}

impl World {
    fn new() -> Rc<RefCell<World>> {
        let xen = FakeXen::new(STUB);
        xen.set_target(GUEST, 2);
        let store = XenStored::start(&xen);
        store.write(&format!("/local/domain/{STUB}/domid"), "7");
        store.write(&format!("/local/domain/{STUB}/pilotfish-net-seed"), "0123456789abcdef");
        let config = BlkBackConfig { sectors: 8192, ..BlkBackConfig::default() };
        let back = BlkBack::attach(&xen, &store, VDEV, config);
        let mem = TestMemory::new(0x80_0000);
        host(|host| *host = Host { memory: Some(mem.clone()), ..Host::default() });
        Rc::new(RefCell::new(World { xen, store, back, mem, event_loop: None }))
    }

    /// The next incarnation begins. False: it cannot serve.
    fn begin(&mut self, cmdline: &'static str) -> bool {
        let boot = BootInfo::with_cmdline(cmdline);
        let running = begin(&self.xen, &boot);
        self.event_loop = running.map(|Running { xs, stub, busy_poll_ns }| {
            EventLoop::new(&self.xen, xs, stub, housekeep, busy_poll_ns)
        });
        self.event_loop.is_some()
    }

    /// The stub panics: nothing of it is dropped in order.
    fn panic(&mut self) {
        core::mem::forget(self.event_loop.take().expect("running"));
        host(|host| host.incarnation += 1);
    }

    /// The event loop, until nothing has been left to do for a while.
    fn run(&mut self) {
        let event_loop = self.event_loop.as_mut().expect("running");
        for _ in 0..10_000 {
            let until_ns = self.xen.now_ns() + A_WHILE_NS;
            while event_loop.round() {}
            event_loop.block(Some(until_ns)).expect("good ports");
            if self.xen.now_ns() >= until_ns {
                return;
            }
        }
        panic!("the stub never comes to rest");
    }

    /// The event loop, for so long.
    fn run_for(&mut self, time_ns: u64) {
        let event_loop = self.event_loop.as_mut().expect("running");
        let end_ns = self.xen.now_ns() + time_ns;
        for _ in 0..100_000 {
            while event_loop.round() {}
            event_loop.block(Some(end_ns)).expect("good ports");
            if self.xen.now_ns() >= end_ns {
                return;
            }
        }
        panic!("the stub never comes to rest");
    }

    fn stub(&mut self) -> &mut ImageStub {
        self.event_loop.as_mut().expect("running").stub()
    }

    /// An access of vCPU `vcpu` that nobody has answered yet.
    fn begin_access(&self, vcpu: usize) -> Option<SharedPage> {
        self.xen.guest_access(vcpu, GuestAccess::read(MMIO))
    }

    /// A node below `data/pilotfish`.
    fn told(&self, key: &str) -> Option<String> {
        self.store.read(&format!("/local/domain/{STUB}/data/pilotfish/{key}"))
    }

    /// The state of our end of the disk, as XenBus has it.
    fn front_state(&self) -> Option<String> {
        self.store.read(&format!("/local/domain/{STUB}/device/vbd/{VDEV}/state"))
    }
}

fn slot_state(page: &SharedPage, vcpu: usize) -> u8 {
    let bits: u8 = page.load(vcpu * ioreq::SIZE + ioreq::STATE_BITS, Order::AcqRel).expect("inside");
    bits & ioreq::STATE_MASK
}

/// As Xen does when the vCPU runs again; `None` if it cannot yet.
fn take_answer(page: &SharedPage, vcpu: usize) -> Option<u64> {
    if slot_state(page, vcpu) != ioreq::STATE_RESP_READY {
        return None;
    }
    page.store(vcpu * ioreq::SIZE + ioreq::STATE_BITS, 0u8, Order::AcqRel).ok()?;
    page.load(vcpu * ioreq::SIZE + ioreq::DATA, Order::Relaxed).ok()
}

/// The guest's vCPU 0 and its way to a disk's window.
struct GuestBus(Rc<RefCell<World>>, u64);

impl Bus for GuestBus {
    fn access(&mut self, access: Access) -> u64 {
        let mut world = self.0.borrow_mut();
        let size_bytes = u32::try_from(access.width.bytes()).expect("small");
        let write = match access.direction {
            Direction::Read => None,
            Direction::Write(value) => Some(value),
        };
        let access = GuestAccess { size_bytes, write, ..GuestAccess::read(self.1 + access.addr) };
        let page = world.xen.guest_access(0, access).expect("claimed");
        world.stub().run_once();
        take_answer(&page, 0).expect("an answer")
    }
}

/// A guest with a driver that is set up.
fn guest(world: &Rc<RefCell<World>>) -> Driver<GuestBus> {
    guest_of(world, MMIO, 0)
}

/// A driver that is set up, for the disk at `mmio`; `place` counts the drivers.
fn guest_of(world: &Rc<RefCell<World>>, mmio: u64, place: u64) -> Driver<GuestBus> {
    let mem = world.borrow().mem.clone();
    let mut driver = Driver::new(GuestBus(world.clone(), mmio), mem, place);
    driver.init(u64::MAX, 64);
    driver
}

fn write_request(sector: u64, data: &[u8]) -> BlkRequest {
    BlkRequest { kind: 1, sector, out: data.to_vec(), in_len: 0 }
}

/// What a step found: our end of the disk, what the daemon was told.
type Seen = (Step, Option<String>, Option<String>);

/// Notes each step from now on.
fn note_steps(world: &Rc<RefCell<World>>) -> Rc<RefCell<Vec<Seen>>> {
    let seen: Rc<RefCell<Vec<Seen>>> = Rc::default();
    let (log, store) = (seen.clone(), world.borrow().store.clone());
    let on_step = move |step| {
        let read = |path: &str| store.read(&format!("/local/domain/{STUB}/{path}"));
        let told = read("data/pilotfish/restarts").or_else(|| read("data/pilotfish/state"));
        log.borrow_mut().push((step, read(&format!("device/vbd/{VDEV}/state")), told));
    };
    host(|host| host.on_step = Some(Rc::new(on_step)));
    seen
}
