//! virtio-mmio and one split queue by hand, with no more than firmware has: no interrupts, one
//! request at a time, polling (virtio 1.3, sections 2.7, 3.1 and 4.2).

use crate::registers::{
    CONFIG, CONFIG_GENERATION, DEVICE_FEATURES, DEVICE_FEATURES_SEL, DEVICE_ID, DRIVER_FEATURES,
    DRIVER_FEATURES_SEL, INTERRUPT_STATUS, MAGIC_VALUE, QUEUE_DESC, QUEUE_DEVICE, QUEUE_DRIVER, QUEUE_NOTIFY,
    QUEUE_READY, QUEUE_SEL, QUEUE_SIZE, QUEUE_SIZE_MAX, STATUS, VERSION,
};
use crate::say::sleep;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use kernel::testing::registers::Registers;
use kernel::{Hypervisor, Order, OutOfPage, SharedPage, Xen, full_barrier};

/// Status bits.
pub const ACKNOWLEDGE: u32 = 1;
/// Status bit.
pub const DRIVER: u32 = 2;
/// Status bit.
pub const DRIVER_OK: u32 = 4;
/// Status bit.
pub const FEATURES_OK: u32 = 8;
/// Status bit.
pub const NEEDS_RESET: u32 = 64;
/// `VIRTIO_F_VERSION_1`.
pub const F_VERSION_1: u64 = 1 << 32;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
pub const NO_INTERRUPT: u16 = 1;

/// `VIRTQ_DESC_F_NEXT`.
pub const DESC_NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`.
pub const DESC_WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`.
pub const DESC_INDIRECT: u16 = 4;
const PAGE: usize = 4096;
/// The longest wait for a device, on a slow emulator.
const PATIENCE_NS: u64 = 20_000_000_000;

/// A bug here: all offsets are constants.
pub fn outside(_: OutOfPage) -> String {
    String::from("an offset outside its page")
}

/// Waits for a condition of the device's making; whether it came.
pub fn wait(xen: &Xen, mut condition: impl FnMut() -> bool) -> bool {
    let until_ns = xen.now_ns().saturating_add(PATIENCE_NS);
    while !condition() {
        if xen.now_ns() > until_ns {
            return false;
        }
        xen.yield_cpu();
    }
    true
}

/// The registers, with their names.
pub struct Device<'a> {
    /// Time and sleep.
    pub xen: &'a Xen,
    registers: &'a Registers,
}

impl<'a> Device<'a> {
    /// Looks whether a disk is there.
    pub fn new(xen: &'a Xen, registers: &'a Registers) -> Result<Device<'a>, String> {
        let [magic, version, id] = [MAGIC_VALUE, VERSION, DEVICE_ID].map(|at| registers.read(at));
        if (magic, version, id) != (0x7472_6976, 2, 2) {
            return Err(format!("magic {magic:#x}, version {version}, device {id}"));
        }
        Ok(Device { xen, registers })
    }

    /// `Status`.
    pub fn status(&self) -> u32 {
        self.registers.read(STATUS)
    }

    /// Sets these bits of `Status`, one write.
    pub fn add_status(&self, bits: u32) {
        self.registers.write(STATUS, self.status() | bits);
    }

    /// Writes `Status` as it is given.
    pub fn set_status(&self, bits: u32) {
        self.registers.write(STATUS, bits);
    }

    /// `InterruptStatus`.
    pub fn interrupts(&self) -> u32 {
        self.registers.read(INTERRUPT_STATUS)
    }

    /// Resets, and looks whether the device is as new.
    pub fn reset(&self) -> Result<(), String> {
        self.set_status(0);
        if !wait(self.xen, || self.status() == 0) {
            return Err(format!("status {:#x} after a reset", self.status()));
        }
        self.registers.write(QUEUE_SEL, 0);
        let (ready, interrupts) = (self.registers.read(QUEUE_READY), self.interrupts());
        if (ready, interrupts) != (0, 0) {
            return Err(format!("after a reset: QueueReady {ready}, InterruptStatus {interrupts}"));
        }
        Ok(())
    }

    /// All that the device offers.
    pub fn offered(&self) -> u64 {
        let word = |select| {
            self.registers.write(DEVICE_FEATURES_SEL, select);
            u64::from(self.registers.read(DEVICE_FEATURES))
        };
        word(0) | word(1) << 32
    }

    /// Accepts `features`.
    pub fn accept(&self, features: u64) {
        for (select, shift) in [(0, 0), (1, 32)] {
            self.registers.write(DRIVER_FEATURES_SEL, select);
            self.registers.write(DRIVER_FEATURES, low(features >> shift));
        }
    }

    /// The steps of initialisation up to the features, which are these and no other; whether
    /// the device takes them.
    pub fn negotiate(&self, features: u64) -> bool {
        self.add_status(ACKNOWLEDGE);
        self.add_status(DRIVER);
        self.accept(features);
        self.add_status(FEATURES_OK);
        self.status() & FEATURES_OK != 0
    }

    /// Gives the device its queue 0.
    pub fn use_queue(&self, queue: &Queue) -> Result<(), String> {
        self.registers.write(QUEUE_SEL, 0);
        let most = self.registers.read(QUEUE_SIZE_MAX);
        if most < u32::from(queue.size) || self.registers.read(QUEUE_READY) != 0 {
            return Err(format!("a queue of {most} at most, or in use"));
        }
        self.place_queue(queue.size.into(), [&queue.desc, &queue.avail, &queue.used].map(SharedPage::addr));
        Ok(())
    }

    /// Tells the device the size of the chosen queue and where its parts are, descriptors, available and
    /// used ring, and makes it ready. Nothing is checked.
    pub fn place_queue(&self, size: u32, parts: [u64; 3]) {
        self.registers.write(QUEUE_SIZE, size);
        for (register, addr) in [QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE].into_iter().zip(parts) {
            self.registers.write(register, low(addr));
            self.registers.write(register + 4, low(addr >> 32));
        }
        self.registers.write(QUEUE_READY, 1);
    }

    /// Tells the device to look at queue 0.
    pub fn notify(&self) {
        self.registers.write(QUEUE_NOTIFY, 0);
    }

    /// The disk's sectors.
    pub fn capacity(&self) -> u64 {
        loop {
            let generation = self.registers.read(CONFIG_GENERATION);
            let [low, high] = [CONFIG, CONFIG + 4].map(|at| u64::from(self.registers.read(at)));
            if self.registers.read(CONFIG_GENERATION) == generation {
                return low | high << 32;
            }
        }
    }

    /// Sleeps.
    pub fn sleep_ms(&self, ms: u64) {
        sleep(self.xen, ms.saturating_mul(1_000_000));
    }
}

/// The low half.
pub fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}

/// A new page.
pub fn page() -> Result<SharedPage, String> {
    SharedPage::alloc().ok_or_else(|| String::from("no memory"))
}

/// A piece of memory that a descriptor names.
#[derive(Clone, Copy)]
pub struct Piece {
    /// Its address.
    pub addr: u64,
    /// Its bytes.
    pub len: usize,
    /// Whether the device writes it.
    pub writable: bool,
}

/// `struct virtq_desc`.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// Guest physical address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// `VIRTQ_DESC_F_*`.
    pub flags: u16,
    /// Index of the next one, with `VIRTQ_DESC_F_NEXT`.
    pub next: u16,
}

impl Descriptor {
    /// Writes it as entry `index` of a table that fills a page.
    pub fn write(&self, table: &SharedPage, index: u16) -> Result<(), String> {
        let at = usize::from(index) * 16;
        let store = || -> Result<(), OutOfPage> {
            table.store(at, self.addr, Order::Relaxed)?;
            table.store(at + 8, self.len, Order::Relaxed)?;
            table.store(at + 12, self.flags, Order::Relaxed)?;
            table.store(at + 14, self.next, Order::Relaxed)
        };
        store().map_err(outside)
    }
}

/// A split queue, emptied before its descriptors are used again.
pub struct Queue {
    size: u16,
    desc: SharedPage,
    avail: SharedPage,
    used: SharedPage,
    offered: u16,
    taken_back: u16,
    head: u16,
}

impl Queue {
    /// An empty queue of `size`, at most 256.
    pub fn new(size: u16, flags: u16) -> Result<Queue, String> {
        let (desc, avail, used) = (page()?, page()?, page()?);
        avail.store(0, flags, Order::Relaxed).map_err(outside)?;
        Ok(Queue { size, desc, avail, used, offered: 0, taken_back: 0, head: 0 })
    }

    /// Offers a chain; the next one begins where this one ends, so the table is used all round.
    pub fn offer(&mut self, pieces: &[Piece]) -> Result<(), String> {
        if pieces.len() > usize::from(self.size) || pieces.is_empty() {
            return Err(format!("{} pieces for a queue of {}", pieces.len(), self.size));
        }
        let mut index = self.head;
        for (n, piece) in pieces.iter().enumerate() {
            let next = (index + 1) % self.size;
            let last = n + 1 == pieces.len();
            let flags = if last { 0 } else { DESC_NEXT } | if piece.writable { DESC_WRITE } else { 0 };
            let next = if last { 0 } else { next };
            let desc = Descriptor { addr: piece.addr, len: low(piece.len as u64), flags, next };
            desc.write(&self.desc, index)?;
            index = (index + 1) % self.size;
        }
        let slot = 4 + 2 * usize::from(self.offered % self.size);
        self.avail.store(slot, self.head, Order::Relaxed).map_err(outside)?;
        self.offered = self.offered.wrapping_add(1);
        self.avail.store(2, self.offered, Order::AcqRel).map_err(outside)?;
        full_barrier();
        self.head = index;
        Ok(())
    }

    /// How many chains the device has used.
    pub fn used_index(&self) -> u16 {
        self.used.load(2, Order::AcqRel).unwrap_or(0)
    }

    /// Polls for the one chain that is out; how many bytes the device says it wrote.
    pub fn take_back(&mut self, xen: &Xen, head: u16) -> Result<u32, String> {
        let next = self.taken_back.wrapping_add(1);
        if !wait(xen, || self.used_index() != self.taken_back) {
            return Err(String::from("a request was never answered"));
        }
        if self.used_index() != next {
            return Err(format!("used index {} after {}", self.used_index(), self.taken_back));
        }
        let at = 4 + 8 * usize::from(self.taken_back % self.size);
        let id = self.used.load::<u32>(at, Order::Relaxed).map_err(outside)?;
        let len = self.used.load::<u32>(at + 4, Order::Relaxed).map_err(outside)?;
        self.taken_back = next;
        if id == u32::from(head) { Ok(len) } else { Err(format!("chain {id} came back for {head}")) }
    }

    /// Waits for all of `count` chains, asleep in between; whether they came.
    pub fn take_back_all(&mut self, xen: &Xen, count: u16) -> bool {
        /// Short beside a chain's time, long beside a poll.
        const NAP_NS: u64 = 50_000;
        let all = self.taken_back.wrapping_add(count);
        let until_ns = xen.now_ns().saturating_add(PATIENCE_NS);
        while self.used_index() != all {
            if xen.now_ns() > until_ns {
                return false;
            }
            sleep(xen, NAP_NS);
        }
        self.taken_back = all;
        true
    }

    /// The descriptor at which the next chain begins.
    pub fn head(&self) -> u16 {
        self.head
    }
}

/// Memory that a request's bytes lie in one after the other, over page borders.
pub struct Bytes {
    pages: Vec<SharedPage>,
}

impl Bytes {
    /// That many pages.
    pub fn new(pages: usize) -> Result<Bytes, String> {
        Ok(Bytes { pages: (0..pages).map(|_| page()).collect::<Result<_, _>>()? })
    }

    fn page(&self, at: usize) -> Result<&SharedPage, String> {
        self.pages.get(at / PAGE).ok_or_else(|| String::from("a request beyond its memory"))
    }

    /// Writes `data` at `at`.
    pub fn write(&self, mut at: usize, mut data: &[u8]) -> Result<(), String> {
        while !data.is_empty() {
            let (head, tail) = data.split_at(data.len().min(PAGE - at % PAGE));
            self.page(at)?.write(at % PAGE, head).map_err(outside)?;
            (at, data) = (at + head.len(), tail);
        }
        Ok(())
    }

    /// Reads from `at` into `data`.
    pub fn read(&self, mut at: usize, data: &mut [u8]) -> Result<(), String> {
        let mut rest = data;
        while !rest.is_empty() {
            let count = rest.len().min(PAGE - at % PAGE);
            let (head, tail) = rest.split_at_mut(count);
            self.page(at)?.read(at % PAGE, head).map_err(outside)?;
            (at, rest) = (at + count, tail);
        }
        Ok(())
    }

    /// Cuts `len` bytes from `at` on into pieces of these lengths in turn, and at page borders.
    pub fn pieces(
        &self,
        mut at: usize,
        len: usize,
        cuts: &[usize],
        writable: bool,
    ) -> Result<Vec<Piece>, String> {
        let mut pieces = Vec::new();
        let end = at + len;
        for cut in cuts.iter().cycle() {
            if at >= end {
                break;
            }
            let len = (*cut).min(end - at).min(PAGE - at % PAGE);
            let addr = self.page(at)?.addr() + (at % PAGE) as u64;
            pieces.push(Piece { addr, len, writable });
            at += len;
        }
        Ok(pieces)
    }
}
