//! A whole machine with one PV disk: Xen, xenstored, blkback, the stub, and a driver in its guest.
//!
//! Ours: the event loop with all below it. Fakes: Xen, xenstored, blkback, the guest's memory and driver.

use backend::access::{Access, Direction};
use backend::blk::{Device, DeviceOptions};
use backend::event_loop::{EventLoop, housekeeping};
use backend::storage::{AnyStorage, PvDisk};
use backend::stub::{Attached, Stub};
use backend::testkit::{BlkRequest, Bus, Driver, Framing, TestMemory};
use drivers::fake::{BlkBack, BlkBackConfig, XenStored};
use drivers::{BlkFront, Xenstore};
use kernel::fake::{FakeXen, GuestAccess};
use kernel::{DomId, Hypervisor, Order, SharedPage};
use std::cell::RefCell;
use std::rc::Rc;
use xen_pv_sys::dm_op::ioreq;

const STUB: DomId = DomId(7);
const GUEST: DomId = DomId(5);
const VDEV: u32 = 51712;
const MMIO: u64 = 0x0200_0000;
const IRQ: u32 = 33;
/// Memory for the rings of one queue, and some buffers.
const MEMORY_BYTES: usize = 0x6_0000;

type Loop = EventLoop<FakeXen, TestMemory>;

/// The guest's way to the device's registers.
pub struct Registers {
    xen: FakeXen,
    event_loop: Rc<RefCell<Loop>>,
}

impl Bus for Registers {
    fn access(&mut self, access: Access) -> u64 {
        let write = match access.direction {
            Direction::Read => None,
            Direction::Write(value) => Some(value),
        };
        let size_bytes = u32::try_from(access.width.bytes()).expect("small");
        let access = GuestAccess { kind: ioreq::TYPE_COPY, addr: MMIO + access.addr, size_bytes, write };
        let page = self.xen.guest_access(0, access);
        let page: SharedPage = page.expect("a claimed address");
        self.event_loop.borrow_mut().stub().run_once();
        let bits: u8 = page.load(ioreq::STATE_BITS, Order::AcqRel).expect("inside");
        assert_eq!(bits & ioreq::STATE_MASK, ioreq::STATE_RESP_READY, "the access is answered");
        page.store(ioreq::STATE_BITS, 0u8, Order::AcqRel).expect("inside");
        page.load(ioreq::DATA, Order::Relaxed).expect("inside")
    }
}

/// The machine.
pub struct Machine {
    /// Xen, as the stub sees it.
    pub xen: FakeXen,
    /// The storage backend.
    pub back: BlkBack,
    /// The guest's driver.
    pub driver: Driver<Registers>,
    event_loop: Rc<RefCell<Loop>>,
}

impl Machine {
    /// A machine whose disk is connected and whose driver is set up.
    ///
    /// # Panics
    /// If something does not start.
    #[must_use]
    pub fn new() -> Machine {
        Machine::with(BlkBackConfig { sectors: 64, ..BlkBackConfig::default() }, 16)
    }

    /// A machine whose storage backend is like that, with so many bounce pages.
    ///
    /// # Panics
    /// If something does not start.
    #[must_use]
    pub fn with(config: BlkBackConfig, pool_pages: u16) -> Machine {
        let xen = FakeXen::new(STUB);
        xen.set_target(GUEST, 1);
        let store = XenStored::start(&xen);
        let back = BlkBack::attach(&xen, &store, VDEV, config);
        let mut xs = Xenstore::new(&xen).expect("a xenstore");
        let front = BlkFront::connect(&xen, &mut xs, VDEV, pool_pages).expect("connects");
        let device =
            Device::new(AnyStorage::Pv(Box::new(PvDisk::new(front, None))), &DeviceOptions::default());
        let mem = TestMemory::new(MEMORY_BYTES);
        let attached = vec![Attached { mmio: MMIO, irq: IRQ, device }];
        let stub = Stub::start(&xen, GUEST, mem.clone(), attached).expect("starts");
        let event_loop =
            EventLoop::new(&xen, xs, stub, |xs, stub, _| housekeeping::housekeep(xs, stub, |_, _| ()), 0);
        let event_loop = Rc::new(RefCell::new(event_loop));
        let registers = Registers { xen: xen.clone(), event_loop: event_loop.clone() };
        let mut driver = Driver::new(registers, mem, 0);
        driver.indirect = false;
        driver.init(u64::MAX, 16);
        Machine { xen, back, driver, event_loop }
    }

    /// A request, and a notification if the device wants one; its head.
    pub fn ask(&mut self, kind: u32, sector: u64, out: &[u8]) -> u16 {
        let request = BlkRequest { kind, sector, out: out.to_vec(), in_len: 0 };
        let head = self.driver.submit(&request, &Framing::Usual);
        self.driver.want_interrupt(1);
        self.driver.kick();
        head
    }

    /// The event loop goes round; if there is nothing to do it sleeps, for so long at most.
    ///
    /// # Panics
    /// If it cannot sleep.
    pub fn round(&self, sleep_ns: u64) {
        let mut event_loop = self.event_loop.borrow_mut();
        if !event_loop.round() {
            let wake_ns = self.xen.now_ns() + sleep_ns;
            event_loop.block(Some(wake_ns)).expect("good ports");
        }
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // They hold the machine, which holds them.
        self.xen.forget_peers();
    }
}
