//! A device with a RAM disk behind a storage that fails on demand, and a driver that obeys,
//! for the targets that need both.

use backend::GuestMemory;
use backend::access::Access;
use backend::blk::{Device, DeviceOptions};
use backend::storage::{Faults, FaultyStorage, RamDisk};
use backend::testkit::{Answer, BlkRequest, Bus, Driver, Framing, TestMemory};
use std::cell::RefCell;
use std::rc::Rc;

/// Bytes of the guest's RAM: the rings' 256 KiB and some buffers.
pub const RAM_BYTES: usize = 0x6_0000;
/// Bytes of the disk.
const DISK_BYTES: u64 = 16 << 10;
/// `VIRTIO_BLK_T_GET_ID`.
const T_GET_ID: u32 = 8;

thread_local! {
    // One for all cases: mapping it again would take longer than the rest of a case.
    static RAM: TestMemory = TestMemory::new(RAM_BYTES);
}

/// The memory, as new: zeroed and without a hole.
fn clean_ram() -> TestMemory {
    static ZEROES: [u8; RAM_BYTES] = [0; RAM_BYTES];
    let ram = RAM.with(TestMemory::clone);
    ram.punch(0..0);
    ram.poke(TestMemory::BASE, &ZEROES);
    ram
}

/// The device, shared with its driver.
pub type Shared = Rc<RefCell<Device<FaultyStorage<RamDisk>>>>;

/// The driver's way to it.
pub struct Direct(Shared);

impl Bus for Direct {
    fn access(&mut self, access: Access) -> u64 {
        self.0.borrow_mut().access(access).0
    }
}

/// Both ends, the memory between them, and what is wrong with the storage.
pub struct Rig {
    pub device: Shared,
    pub driver: Driver<Direct>,
    pub mem: TestMemory,
    pub faults: Rc<Faults>,
}

impl Rig {
    pub fn new(options: &DeviceOptions) -> Rig {
        let faults = Rc::new(Faults::default());
        let disk = RamDisk::new(DISK_BYTES, false).expect("host memory");
        let storage = FaultyStorage::new(disk, faults.clone());
        let device = Rc::new(RefCell::new(Device::new(storage, options)));
        let mem = clean_ram();
        let driver = Driver::new(Direct(device.clone()), mem.clone(), 0);
        Rig { device, driver, mem, faults }
    }

    /// Chooses how the storage serves from now on.
    pub fn set_faults(&self, choice: u8) {
        self.faults.hold.set(choice & 1 != 0);
        self.faults.release.set(u32::from(choice >> 1 & 3));
        self.faults.depth.set(usize::from(choice >> 3 & 3));
        self.faults.fail_next.set(u32::from(choice & 0xe0 == 0xe0));
    }

    /// Lets the device work until it would block; false if it never would.
    pub fn run(&self, mem: &dyn GuestMemory) -> bool {
        let mut device = self.device.borrow_mut();
        (0..1000).any(|_| !device.process(mem) && !device.enable_notifications(mem))
    }

    /// Whatever happened before: after a reset the device serves.
    pub fn must_serve_after_reset(&self) {
        self.set_faults(0);
        // A driver of its own: the old one's buffers may be used up.
        let mut driver = Driver::new(Direct(self.device.clone()), self.mem.clone(), 0);
        driver.init(u64::MAX, 8);
        let request = BlkRequest { kind: T_GET_ID, sector: 0, out: Vec::new(), in_len: 20 };
        let head = driver.submit(&request, &Framing::Usual);
        driver.kick();
        assert!(self.run(&self.mem), "the device comes to rest");
        let answer = driver.next_used().expect("an answer");
        assert!(matches!(answer, (used, Answer { status: 0, used_len: 21, .. }) if used == head));
    }
}
