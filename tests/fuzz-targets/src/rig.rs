//! A device with a RAM disk and a driver that obeys, for the targets that need both.

use backend::blk::{Device, DeviceOptions};
use backend::ioreq::Access;
use backend::storage::RamDisk;
use backend::testkit::{Answer, BlkRequest, Bus, Driver, Framing, TestMemory};
use std::cell::RefCell;
use std::rc::Rc;

/// Bytes of the guest's RAM: the rings' 256 KiB and some buffers.
pub const RAM_BYTES: usize = 0x6_0000;
/// Bytes of the disk.
pub const DISK_BYTES: u64 = 64 << 10;
/// `VIRTIO_BLK_T_GET_ID`.
const T_GET_ID: u32 = 8;

/// The device, shared with its driver.
pub type Shared = Rc<RefCell<Device<RamDisk>>>;

/// The driver's way to it.
pub struct Direct(Shared);

impl Bus for Direct {
    fn access(&mut self, access: Access) -> u64 {
        self.0.borrow_mut().access(access).0
    }
}

/// Both ends and the memory between them.
pub struct Rig {
    pub device: Shared,
    pub driver: Driver<Direct>,
    pub mem: TestMemory,
}

impl Rig {
    pub fn new(options: &DeviceOptions) -> Rig {
        let storage = RamDisk::new(DISK_BYTES, false).expect("host memory");
        let device = Rc::new(RefCell::new(Device::new(storage, options)));
        let mem = TestMemory::new(RAM_BYTES);
        let driver = Driver::new(Direct(device.clone()), mem.clone(), 0);
        Rig { device, driver, mem }
    }

    /// Lets the device work until it would block; false if it never would.
    pub fn run(&self) -> bool {
        let mut device = self.device.borrow_mut();
        (0..1000).any(|_| !device.process(&self.mem) && !device.arm(&self.mem))
    }

    /// Whatever happened before: after a reset the device serves.
    pub fn must_serve_after_reset(&self) {
        self.mem.punch(0..0);
        // A driver of its own: the old one's buffers may be used up.
        let mut driver = Driver::new(Direct(self.device.clone()), self.mem.clone(), 0);
        driver.init(u64::MAX, 8);
        let request = BlkRequest { kind: T_GET_ID, sector: 0, out: Vec::new(), in_len: 20 };
        let head = driver.submit(&request, &Framing::Usual);
        driver.kick();
        assert!(self.run(), "the device comes to rest");
        let answer = driver.next_used().expect("an answer");
        assert!(matches!(answer, (used, Answer { status: 0, used_len: 21, .. }) if used == head));
    }
}
