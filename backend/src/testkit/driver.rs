//! A virtio-blk driver that obeys the specification, over any way to reach the registers.

use super::memory::TestMemory;
use super::request::{Answer, BlkRequest, Bus, Framing, STATUS_UNTOUCHED};
use crate::access::{Access, Direction, Width};
use crate::mmio::regs;
use crate::virtq::layout::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// Pieces of guest memory.
pub type Segments = Vec<(u64, usize)>;

/// A descriptor to be written.
#[derive(Clone, Copy)]
struct RawDesc {
    addr: u64,
    len: usize,
    flags: u16,
    next: u16,
}

struct Flight {
    descs: Vec<u16>,
    writable: Segments,
}

/// A driver's share of the memory.
const SHARE_BYTES: u64 = 0x20_0000;
/// Queues that a share has room for.
const QUEUES: u64 = 8;
const BUFFERS: u64 = TestMemory::BASE + QUEUES * RINGS_BYTES;
/// Room for the rings of one queue, whatever its size.
pub const RINGS_BYTES: u64 = 0x8000;

/// The driver's half of one queue.
#[derive(Default)]
struct Ring {
    size: u16,
    free: Vec<u16>,
    flights: BTreeMap<u16, Flight>,
    avail_idx: u16,
    used_idx: u16,
    /// `avail.idx` at the last decision whether to notify.
    notified: u16,
}

/// The driver of one device.
pub struct Driver<B> {
    /// The way to the registers.
    pub bus: B,
    mem: TestMemory,
    features: u64,
    rings: Vec<Ring>,
    /// The queue that the methods work on.
    pub queue: u16,
    next_buffer: u64,
    ring_base: u64,
    /// Notifications sent.
    pub kicks: u32,
    /// Use indirect descriptors if they were negotiated.
    pub indirect: bool,
    /// Set in every address that the device is told.
    pub address_bits: u64,
}

impl<B: Bus> Driver<B> {
    /// A driver in `mem`, which holds nothing else; `place` counts the drivers there.
    pub fn new(bus: B, mem: TestMemory, place: u64) -> Driver<B> {
        Driver {
            bus,
            mem,
            features: 0,
            rings: vec![Ring::default()],
            queue: 0,
            next_buffer: BUFFERS + place * SHARE_BYTES,
            ring_base: TestMemory::BASE + place * SHARE_BYTES,
            kicks: 0,
            indirect: true,
            address_bits: 0,
        }
    }

    /// A 32-bit register.
    pub fn read(&mut self, offset: u64) -> u32 {
        let access = Access { addr: offset, width: Width::Four, direction: Direction::Read };
        u32::try_from(self.bus.access(access)).expect("a reply of 32 bits")
    }

    /// Writes a 32-bit register.
    pub fn write(&mut self, offset: u64, value: u32) {
        let direction = Direction::Write(value.into());
        self.bus.access(Access { addr: offset, width: Width::Four, direction });
    }

    /// A field of the configuration space, in its natural width.
    pub fn config(&mut self, offset: u64, width: Width) -> u64 {
        self.bus.access(Access { addr: regs::CONFIG + offset, width, direction: Direction::Read })
    }

    /// Writes a field of the configuration space.
    pub fn set_config(&mut self, offset: u64, width: Width, value: u64) {
        let direction = Direction::Write(value);
        self.bus.access(Access { addr: regs::CONFIG + offset, width, direction });
    }

    /// The device's capacity in sectors.
    pub fn capacity(&mut self) -> u64 {
        u64::from(self.read(regs::CONFIG)) | u64::from(self.read(regs::CONFIG + 4)) << 32
    }

    /// Features offered.
    pub fn offered(&mut self) -> u64 {
        self.write(regs::DEVICE_FEATURES_SEL, 1);
        let high = u64::from(self.read(regs::DEVICE_FEATURES));
        self.write(regs::DEVICE_FEATURES_SEL, 0);
        high << 32 | u64::from(self.read(regs::DEVICE_FEATURES))
    }

    /// Section 3.1.1: initialises the device with what it offers and `wanted` names, and a
    /// queue of `size`.
    pub fn init(&mut self, wanted: u64, size: u16) {
        self.init_queues(wanted, size, 1);
    }

    /// As [`Driver::init`], with this many queues.
    pub fn init_queues(&mut self, wanted: u64, size: u16, queues: u16) {
        self.negotiate(wanted);
        self.rings = (0..queues).map(|_| Ring::default()).collect();
        for queue in (0..queues).rev() {
            self.queue = queue;
            self.set_up_queue(size);
        }
        self.write(regs::STATUS, 0xf);
        assert_eq!(self.read(regs::STATUS), 0xf);
    }

    /// The steps of initialisation up to `FEATURES_OK`.
    pub fn negotiate(&mut self, wanted: u64) {
        assert_eq!(self.read(regs::MAGIC_VALUE), regs::MAGIC);
        assert_eq!(self.read(regs::VERSION_REG), 2);
        self.write(regs::STATUS, 0);
        assert_eq!(self.read(regs::STATUS), 0);
        self.write(regs::STATUS, 1);
        self.write(regs::STATUS, 3);
        self.features = self.offered() & wanted;
        for (select, bits) in [(0, self.features), (1, self.features >> 32)] {
            self.write(regs::DRIVER_FEATURES_SEL, select);
            self.write(regs::DRIVER_FEATURES, (bits & 0xffff_ffff) as u32);
        }
        self.write(regs::STATUS, 0xb);
        assert_eq!(self.read(regs::STATUS), 0xb, "the device took the features");
    }

    fn set_up_queue(&mut self, size: u16) {
        self.write(regs::QUEUE_SEL, self.queue.into());
        assert_eq!(self.read(regs::QUEUE_READY), 0);
        assert!(u32::from(size) <= self.read(regs::QUEUE_SIZE_MAX));
        *self.ring_mut() = Ring { size, free: (0..size).rev().collect(), ..Ring::default() };
        self.mem.poke(self.desc(0), &[0; 0x8000]);
        self.write(regs::QUEUE_SIZE, size.into());
        let parts = [
            (regs::QUEUE_DESC_LOW, self.desc(0)),
            (regs::QUEUE_DRIVER_LOW, self.avail(0)),
            (regs::QUEUE_DEVICE_LOW, self.used(0)),
        ];
        for (low, addr) in parts {
            let addr = addr | self.address_bits;
            self.write(low, (addr & 0xffff_ffff) as u32);
            self.write(low + 4, (addr >> 32) as u32);
        }
        self.write(regs::QUEUE_READY, 1);
        assert_eq!(self.read(regs::QUEUE_READY), 1);
    }

    fn ring(&self) -> &Ring {
        &self.rings[usize::from(self.queue)]
    }

    fn ring_mut(&mut self) -> &mut Ring {
        &mut self.rings[usize::from(self.queue)]
    }

    /// Address of a descriptor.
    pub fn desc(&self, index: u16) -> u64 {
        self.ring_base + u64::from(self.queue) * RINGS_BYTES + u64::from(index) * 16
    }

    /// Address of byte `offset` of the available ring.
    pub fn avail(&self, offset: u64) -> u64 {
        self.desc(0) + 0x4000 + offset
    }

    /// Address of byte `offset` of the used ring.
    pub fn used(&self, offset: u64) -> u64 {
        self.desc(0) + 0x5000 + offset
    }

    /// Fresh guest memory.
    pub fn alloc(&mut self, len: usize) -> u64 {
        let at = self.next_buffer;
        // Gaps and odd starts: nothing may depend on neighbours.
        self.next_buffer += len as u64 + 13;
        at
    }

    fn place(&mut self, bytes: &[u8], cuts: &[usize]) -> Segments {
        let mut segments = Vec::new();
        let (mut rest, mut turn) = (bytes, 0);
        while !rest.is_empty() {
            let len = cuts[turn % cuts.len()].min(rest.len());
            turn += 1;
            let addr = self.alloc(len);
            self.mem.poke(addr, &rest[..len]);
            segments.push((addr, len));
            rest = &rest[len..];
        }
        segments
    }

    /// Builds a request and makes it available; returns its head. Notifies nobody.
    pub fn submit(&mut self, request: &BlkRequest, framing: &Framing) -> u16 {
        let mut readable = Vec::new();
        readable.extend(request.kind.to_le_bytes());
        readable.extend([0; 4]);
        readable.extend(request.sector.to_le_bytes());
        readable.extend(&request.out);
        let mut writable = vec![0xcc; request.in_len];
        writable.push(STATUS_UNTOUCHED);
        let (out_cuts, in_cuts) = match framing {
            Framing::Usual => (vec![16, request.out.len().max(1)], vec![request.in_len.max(1), 1]),
            Framing::Pieces(cuts) => (cuts.clone(), cuts.clone()),
        };
        let out = self.place(&readable, &out_cuts);
        let into = self.place(&writable, &in_cuts);
        self.add(out, into)
    }

    /// Makes a chain of these buffers available; returns its head.
    pub fn add(&mut self, out: Segments, into: Segments) -> u16 {
        let readable = out.iter().map(|&(addr, len)| (addr, len, 0));
        let writable = into.iter().map(|&(addr, len)| (addr, len, DESC_F_WRITE));
        let parts: Vec<_> = readable.chain(writable).collect();
        let indirect = self.indirect && self.features & regs::F_INDIRECT_DESC != 0;
        let descs = if indirect {
            let table = self.alloc(parts.len() * 16 + 16).next_multiple_of(16);
            for (index, &(addr, len, flags)) in parts.iter().enumerate() {
                let more = index + 1 < parts.len();
                let next = u16::try_from(index + 1).expect("a short table");
                let flags = flags | if more { DESC_F_NEXT } else { 0 };
                let next = if more { next } else { 0 };
                self.poke_desc(table + index as u64 * 16, RawDesc { addr, len, flags, next });
            }
            let head = self.ring_mut().free.pop().expect("a free descriptor");
            let desc = RawDesc { addr: table, len: parts.len() * 16, flags: DESC_F_INDIRECT, next: 0 };
            self.poke_desc(self.desc(head), desc);
            vec![head]
        } else {
            let descs: Vec<u16> =
                parts.iter().map(|_| self.ring_mut().free.pop().expect("a free descriptor")).collect();
            for (index, &(addr, len, flags)) in parts.iter().enumerate() {
                let next = descs.get(index + 1).copied();
                let flags = flags | if next.is_some() { DESC_F_NEXT } else { 0 };
                let desc = RawDesc { addr, len, flags, next: next.unwrap_or(0) };
                self.poke_desc(self.desc(descs[index]), desc);
            }
            descs
        };
        let head = descs[0];
        self.ring_mut().flights.insert(head, Flight { descs, writable: into });
        self.offer(head);
        head
    }

    /// Writes a descriptor.
    fn poke_desc(&self, at: u64, desc: RawDesc) {
        let RawDesc { addr, len, flags, next } = desc;
        let len = u32::try_from(len).expect("a short buffer");
        let mut bytes = (addr | self.address_bits).to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.mem.poke(at, &bytes);
    }

    /// Puts a head into the available ring and publishes it, whatever it is.
    pub fn offer(&mut self, head: u16) {
        let idx = self.ring().avail_idx;
        let slot = u64::from(idx % self.ring().size);
        self.mem.poke_u16(self.avail(4 + slot * 2), head);
        self.ring_mut().avail_idx = idx.wrapping_add(1);
        self.mem.poke_u16(self.avail(2), idx.wrapping_add(1));
    }

    /// Notifies the device if it wants that (section 2.7.10).
    pub fn kick(&mut self) {
        let (new, old) = (self.ring().avail_idx, self.ring().notified);
        self.ring_mut().notified = new;
        let wanted = if self.features & regs::F_EVENT_IDX != 0 {
            let event = self.mem.peek_u16(self.used(4 + u64::from(self.ring().size) * 8));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.mem.peek_u16(self.used(0)) & 1 == 0
        };
        if wanted {
            self.kicks += 1;
            self.write(regs::QUEUE_NOTIFY, self.queue.into());
        }
    }

    /// Asks to be interrupted once the device has used `after` more buffers (EVENT_IDX).
    pub fn want_interrupt(&mut self, after: u16) {
        let event = self.ring().used_idx.wrapping_add(after).wrapping_sub(1);
        self.mem.poke_u16(self.avail(4 + u64::from(self.ring().size) * 2), event);
    }

    /// Sets or clears `VIRTQ_AVAIL_F_NO_INTERRUPT`.
    pub fn set_no_interrupt(&mut self, on: bool) {
        self.mem.poke_u16(self.avail(0), on.into());
    }

    /// As Linux handles an interrupt: one read, one write; returns the reasons.
    pub fn take_interrupt(&mut self) -> u32 {
        let reasons = self.read(regs::INTERRUPT_STATUS);
        self.write(regs::INTERRUPT_ACK, reasons);
        reasons
    }

    /// The next used buffer: its head and answer.
    pub fn next_used(&mut self) -> Option<(u16, Answer)> {
        let idx = self.ring().used_idx;
        if self.mem.peek_u16(self.used(2)) == idx {
            return None;
        }
        let elem = self.mem.peek(self.used(4 + u64::from(idx % self.ring().size) * 8), 8);
        self.ring_mut().used_idx = idx.wrapping_add(1);
        let head = u16::from_le_bytes([elem[0], elem[1]]);
        assert_eq!(elem[2..4], [0, 0], "an id is a descriptor's index");
        let used_len = u32::from_le_bytes([elem[4], elem[5], elem[6], elem[7]]);
        let flight = self.ring_mut().flights.remove(&head).expect("a head that is in flight, used once");
        self.ring_mut().free.extend(flight.descs);
        let mut data: Vec<u8> = Vec::new();
        for (addr, len) in flight.writable {
            data.extend(self.mem.peek(addr, len));
        }
        let status = data.pop().unwrap_or(STATUS_UNTOUCHED);
        Some((head, Answer { status, used_len, data }))
    }

    /// Requests that were made available and not used.
    pub fn in_flight(&self) -> usize {
        self.ring().flights.len()
    }

    /// Buffers that can be described now.
    pub fn free_descs(&self) -> usize {
        self.ring().free.len()
    }

    /// The guest's memory.
    pub fn memory(&self) -> &TestMemory {
        &self.mem
    }
}
