//! Our half of a split virtqueue beside rust-vmm's `virtio-queue`, over equal memories.
//!
//! Where we take a chain, so must they, with the same head and the same buffers; where we
//! see nothing, they see nothing; the used ring gets the same bytes, and with EVENT_IDX the
//! same notifications are sent. On a well-formed ring we find no fault.
//!
//! We differ on purpose, and only by refusing more ([`backend::virtq::queue::QueueFault`]
//! asks for a reset; they log, end the chain early or serve it):
//!
//! - a head outside the table, a loop, a `next` outside the table, a nested or misfit
//!   indirect table, unreadable descriptors: a fault here, a shortened chain there
//! - an indirect descriptor with `NEXT`, a readable buffer after a writable one, a buffer
//!   whose end wraps, a head that is in flight already: a fault here, accepted there
//! - `avail.idx` too far ahead counts chains in flight here, only unseen ones there
//! - empty buffers are dropped here and kept there (dropped before comparing)
//! - beyond 2^32 bytes in all a chain goes on here (the request fails later) and ends there
//! - an indirect table of more than 65535 entries is refused there
//! - an `avail.idx` that jumps or runs too far ahead: what was seen and judged of it counts
//!   here until we look for more, while they look for each chain (only then may they see
//!   nothing where we take a chain)
//! - `VIRTQ_AVAIL_F_NO_INTERRUPT` is honoured here and not supported there

use crate::Input;
use backend::GuestAddr;
use backend::testkit::TestMemory;
use backend::virtq::layout::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE};
use backend::virtq::queue::RingFeatures;
use backend::virtq::{Chain, Layout, Queue, SegmentPool};
use virtio_queue::{Queue as TheirQueue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Room for a longest chain and for all that can be in flight: a step adds a few descriptors.
const POOL: u16 = 2048;
const RAM: usize = 0x4000;
const BASE: u64 = TestMemory::BASE;
const AVAIL: u64 = BASE + 0x400;
const USED: u64 = BASE + 0x800;
const TABLE: u64 = BASE + 0x1000;
const BUFFERS: u64 = BASE + 0x2000;

thread_local! {
    static THEIRS: GuestMemoryMmap<()> =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(BASE), RAM)]).expect("host memory");
}

struct Both<'a> {
    ours: Queue,
    pool: SegmentPool,
    mem: TestMemory,
    theirs: TheirQueue,
    their_mem: &'a GuestMemoryMmap<()>,
    size: u16,
    event_idx: bool,
    avail_idx: u16,
    /// `avail.idx` did not move on one by one.
    idx_jumped: bool,
}

/// Offers chains to both and compares what they make of them. Returns whether there was
/// a chain to compare.
///
/// # Panics
/// If they differ in a way that is not listed above.
pub fn virtq_differential(data: &[u8]) -> bool {
    THEIRS.with(|their_mem| {
        their_mem.write_slice(&[0; RAM], GuestAddress(BASE)).expect("inside");
        compare(&mut Input::new(data), their_mem)
    })
}

fn compare(input: &mut Input<'_>, their_mem: &GuestMemoryMmap<()>) -> bool {
    let flags = input.u8();
    let size = 1u16 << (input.u8() % 5);
    let (event_idx, well_formed) = (flags & 1 != 0, flags & 2 != 0);
    let [desc, avail, used] = [BASE, AVAIL, USED].map(GuestAddr::new);
    let layout = Layout::new(size.into(), desc, avail, used).expect("valid");
    let mut theirs = TheirQueue::new(256).expect("a power of two");
    theirs.set_size(size);
    theirs.try_set_desc_table_address(GuestAddress(BASE)).expect("aligned");
    theirs.try_set_avail_ring_address(GuestAddress(AVAIL)).expect("aligned");
    theirs.try_set_used_ring_address(GuestAddress(USED)).expect("aligned");
    theirs.set_event_idx(event_idx);
    theirs.set_ready(true);
    let mut both = Both {
        ours: Queue::new(layout, RingFeatures { event_idx, indirect: true }),
        pool: SegmentPool::new(POOL),
        mem: TestMemory::new(RAM),
        theirs,
        their_mem,
        size,
        event_idx,
        avail_idx: 0,
        idx_jumped: false,
    };
    let mut held = Vec::new();
    let mut compared = false;
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        match input.u8() % 4 {
            0 if well_formed => both.offer_well_formed(input, &held),
            0 => both.scribble(input),
            1 if !well_formed => both.offer_anything(input),
            3 => {
                if let Some(chain) = held.pop() {
                    both.give_back(chain, input);
                }
            }
            _ => match both.take(well_formed) {
                Some(Some(chain)) => {
                    compared = true;
                    held.push(chain);
                }
                Some(None) => {}
                None => break,
            },
        }
    }
    compared
}

/// A descriptor, good or not.
struct RawDesc {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Both<'_> {
    fn poke(&mut self, at: u64, bytes: &[u8]) {
        let old = self.mem.peek_u16(AVAIL + 2);
        self.mem.poke(at, bytes);
        self.idx_jumped |= self.mem.peek_u16(AVAIL + 2).wrapping_sub(old) > 1;
        self.their_mem.write_slice(bytes, GuestAddress(at)).expect("inside");
    }

    fn desc(&mut self, at: u64, desc: RawDesc) {
        let RawDesc { addr, len, flags, next } = desc;
        let mut bytes = addr.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.poke(at, &bytes);
    }

    fn publish(&mut self, head: u16) {
        self.poke(AVAIL + 4 + u64::from(self.avail_idx % self.size) * 2, &head.to_le_bytes());
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.poke(AVAIL + 2, &self.avail_idx.to_le_bytes());
    }

    /// One chain as a driver that obeys makes it: a free head and an indirect table, or a
    /// single buffer.
    fn offer_well_formed(&mut self, input: &mut Input<'_>, held: &[Chain]) {
        let unseen = self.avail_idx.wrapping_sub(self.theirs.next_avail());
        let head = u16::from(input.u8()) % self.size;
        if unseen > 0 || held.iter().any(|chain| chain.head() == head) {
            return;
        }
        let at = BASE + u64::from(head) * 16;
        let parts = input.u8() % 8;
        if parts == 0 {
            let len = input.u16().into();
            let flags = input.choose(&[0, DESC_F_WRITE]);
            self.desc(at, RawDesc { addr: BUFFERS, len, flags, next: 0 });
        } else {
            let table = TABLE + u64::from(head) * 128;
            let len = u32::from(parts) * 16;
            self.desc(at, RawDesc { addr: table, len, flags: DESC_F_INDIRECT, next: 0 });
            let readable = input.u8() % 8;
            for index in 0..parts {
                let write = if index >= readable { DESC_F_WRITE } else { 0 };
                let next = if index + 1 < parts { DESC_F_NEXT } else { 0 };
                let addr = BUFFERS + u64::from(input.u16());
                let slot = table + u64::from(index) * 16;
                let len = input.u16().into();
                self.desc(slot, RawDesc { addr, len, flags: write | next, next: u16::from(index) + 1 });
            }
        }
        self.publish(head);
    }

    fn offer_anything(&mut self, input: &mut Input<'_>) {
        for _ in 0..1 + input.u8() % 4 {
            let index = u64::from(input.u8() % 20);
            let table = input.choose(&[BASE, BASE, TABLE]);
            let addr = if input.u8() & 0xf0 == 0xf0 {
                input.u64()
            } else {
                input.choose(&[TABLE, BUFFERS, BASE, BASE + RAM as u64 - 16])
            };
            let len = input.choose(&[16u32, 32, 48, 0, 24, 512, 4096]) << (input.u8() % 4 * 4);
            let flags = u16::from(input.u8() % 8);
            let next = u16::from(input.u8() % 20);
            self.desc(table + index * 16, RawDesc { addr, len, flags, next });
        }
        let head = u16::from(input.u8() % 20);
        self.publish(head);
    }

    fn scribble(&mut self, input: &mut Input<'_>) {
        let at = BASE + u64::from(input.u16() & 0x1fff);
        let len = input.below(32);
        self.poke(at, input.bytes(len));
    }

    /// Takes a chain from each. The outer `None`: we found a fault, the comparison ends.
    fn take(&mut self, well_formed: bool) -> Option<Option<Chain>> {
        let ours = self.ours.pop(&self.mem, &mut self.pool);
        let theirs = self.theirs.pop_descriptor_chain(self.their_mem);
        let chain = match ours {
            Ok(Some(chain)) => chain,
            Ok(None) => {
                assert!(theirs.is_none(), "they see a chain where we see none");
                return Some(None);
            }
            Err(fault) => {
                assert!(!well_formed, "a fault on a well-formed ring: {fault}");
                return None;
            }
        };
        let Some(theirs) = theirs else {
            let ahead = self.mem.peek_u16(AVAIL + 2).wrapping_sub(self.theirs.next_avail());
            assert!(self.idx_jumped || ahead > self.size, "they see nothing where we see a chain");
            self.pool.abandon(chain);
            return None;
        };
        assert_eq!(theirs.head_index(), chain.head());
        let total = chain.readable_bytes() + chain.writable_bytes();
        let ours: Vec<_> = self
            .pool
            .readable(&chain, 0..u64::MAX)
            .map(|run| (run, false))
            .chain(self.pool.writable(&chain, 0..u64::MAX).map(|run| (run, true)))
            .map(|(run, write)| (run.addr.raw(), run.len_bytes, write))
            .collect();
        let theirs: Vec<_> = theirs
            .filter(|desc| desc.len() > 0)
            .map(|desc| (desc.addr().0, desc.len(), desc.is_write_only()))
            .collect();
        if ours != theirs {
            let shortened = total > u64::from(u32::MAX) || self.has_huge_table();
            assert!(shortened && ours.starts_with(&theirs), "{ours:x?} here, {theirs:x?} there");
        }
        Some(Some(chain))
    }

    /// Whether there is an indirect descriptor of a table that they refuse.
    fn has_huge_table(&self) -> bool {
        self.mem.peek(BASE, RAM).chunks_exact(16).any(|desc| {
            let (len, flags) = (&desc[8..12], u16::from_le_bytes([desc[12], desc[13]]));
            let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]);
            flags & DESC_F_INDIRECT != 0 && len / 16 > u32::from(u16::MAX)
        })
    }

    /// Returns a chain to both rings.
    fn give_back(&mut self, chain: Chain, input: &mut Input<'_>) {
        let (head, len) = (chain.head(), u32::from(input.u16()));
        self.ours.add_used(&self.mem, &mut self.pool, chain, len).expect("inside");
        self.ours.publish_used(&self.mem).expect("inside");
        self.theirs.add_used(self.their_mem, head, len).expect("inside");
        let mut theirs = vec![0; 0x100];
        self.their_mem.read_slice(&mut theirs, GuestAddress(USED)).expect("inside");
        assert_eq!(self.mem.peek(USED, 0x100), theirs, "the used rings are equal");
        if self.event_idx && input.u8() & 1 == 0 {
            let event = input.u16() % 64;
            self.poke(AVAIL + 4 + u64::from(self.size) * 2, &event.to_le_bytes());
            let ours = self.ours.needs_notification(&self.mem).expect("inside");
            let theirs = self.theirs.needs_notification(self.their_mem).expect("inside");
            assert_eq!(ours, theirs, "the same notifications");
        }
    }
}
