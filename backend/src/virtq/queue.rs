//! One virtqueue, device side: private indices, chains out, used elements in.
//!
//! The guest owns the rings' memory and may change it at any time. So every index that
//! decides anything is a private shadow, each descriptor is copied once, and every walk is
//! bounded. A broken rule is a [`QueueFault`]: the device then asks for a reset.

use super::chain::{AHEAD, Chain, Segment, SegmentPool};
use super::fault::QueueFault;
use super::heads::HeadSet;
use super::journal::{QueueJournal, QueueState};
use super::layout::{
    DESC_BYTES, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, Desc, Layout, QUEUE_SIZE_MAX, UsedElem,
};
use crate::failpoint::{self, Failpoint};
use crate::guest_mem::{GuestAddr, GuestMemory, GuestRange, MemFault};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::Wrapping;
use kernel::Order;
use zerocopy::IntoBytes;

/// A ring's index: it counts on without end and wraps at 65536, whatever the queue's size (section
/// 2.7.6). Only differences mean anything.
pub(super) type RingIndex = Wrapping<u16>;

/// What was negotiated for the rings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RingFeatures {
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
}

/// A queue that the driver has made ready.
#[derive(Debug)]
pub struct Queue {
    pub(super) layout: Layout,
    pub(super) features: RingFeatures,
    /// Next entry of the available ring to take.
    pub(super) next_avail: RingIndex,
    /// `avail.idx` as last seen and checked.
    pub(super) avail_idx: RingIndex,
    /// Next entry of the used ring to fill.
    pub(super) next_used: RingIndex,
    /// `used.idx` as the driver can see it.
    pub(super) published: RingIndex,
    /// `used.idx` when it was last decided whether to signal.
    pub(super) signalled: RingIndex,
    /// Whether the driver was asked to notify.
    pub(super) notification_enabled: bool,
    /// Notification threshold, in chains.
    pub(super) notification_threshold: u16,
    /// Heads that were taken and not returned.
    in_flight: HeadSet,
    /// What outlives a restart, if that is wanted.
    journal: Option<QueueJournal>,
    /// Heads that the incarnation before took and did not return: taken again before any new one.
    retake: Vec<u16>,
}

impl Queue {
    /// A queue that starts at index 0, as after a reset.
    #[must_use]
    pub fn new(layout: Layout, features: RingFeatures) -> Queue {
        Queue {
            layout,
            features,
            next_avail: Wrapping(0),
            avail_idx: Wrapping(0),
            next_used: Wrapping(0),
            published: Wrapping(0),
            signalled: Wrapping(0),
            // The driver zeroed the rings: flags 0 and avail_event 0 ask for notifications.
            notification_enabled: true,
            notification_threshold: 1,
            in_flight: HeadSet::default(),
            journal: None,
            retake: Vec::new(),
        }
    }

    /// Has the queue, which is new, write down what must outlive a restart.
    #[must_use]
    pub fn with_journal(mut self, journal: Option<QueueJournal>) -> Queue {
        if let Some(journal) = &journal {
            journal.start();
        }
        self.journal = journal;
        self
    }

    /// A queue that goes on where the incarnation before stopped: `state` is what its journal
    /// holds. Chains that were taken and not returned are taken again.
    ///
    /// # Errors
    /// [`QueueFault`] if that and the used ring, which the driver may have written to, do not
    /// agree.
    pub fn resume(
        layout: Layout,
        features: RingFeatures,
        journal: QueueJournal,
        mut state: QueueState,
        mem: &dyn GuestMemory,
    ) -> Result<Queue, QueueFault> {
        let used_idx = Wrapping(state.settle(&layout, mem)?);
        let QueueState { next_avail, heads } = state;
        let next_avail = Wrapping(next_avail);
        journal.used(&heads, QUEUE_SIZE_MAX);
        let mut queue = Queue::new(layout, features);
        // What the flags say now nobody knows: they are written before the next sleep.
        queue.notification_enabled = false;
        (queue.next_avail, queue.avail_idx) = (next_avail, next_avail);
        // None of it counts as unsignalled: the device interrupts once for all that was missed.
        (queue.next_used, queue.published, queue.signalled) = (used_idx, used_idx, used_idx);
        queue.retake = heads.iter().collect();
        queue.in_flight = heads;
        queue.journal = Some(journal);
        Ok(queue)
    }

    /// Where the rings lie.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Next entry of the available ring to take.
    #[must_use]
    pub const fn taken(&self) -> u16 {
        self.next_avail.0
    }

    /// What stands in the rings now, not judged: `avail.idx`, `used.idx`, `used_event` and
    /// `avail_event` (of no meaning without `VIRTIO_F_EVENT_IDX`). `None`: it cannot be reached.
    #[must_use]
    pub fn words(&self, mem: &dyn GuestMemory) -> [Option<u16>; 4] {
        [self.layout.avail_idx(), self.layout.used_idx(), self.layout.used_event(), self.layout.avail_event()]
            .map(|addr| mem.load_u16(addr, Order::Relaxed).ok())
    }

    /// Takes the next available chain. `None`: there is none now, or `pool` is short of room
    /// for a longest chain (ask again after a completion).
    ///
    /// # Errors
    /// [`QueueFault`]: the queue is unusable until it is reset.
    pub fn pop(
        &mut self,
        mem: &dyn GuestMemory,
        pool: &mut SegmentPool,
    ) -> Result<Option<Chain>, QueueFault> {
        // Before anything is taken: a chain that was begun could not be put back.
        if pool.available() < QUEUE_SIZE_MAX {
            return Ok(None);
        }
        // They are older than all that the ring offers, and marked as in flight already.
        if let Some(head) = self.retake.pop() {
            return self.read_chain(mem, pool, head).map(Some);
        }
        // What was seen is taken first: each load of the driver's index moves its cache line.
        if self.next_avail == self.avail_idx && !self.refresh_avail_idx(mem)? {
            return Ok(None);
        }
        let head = mem.load_u16(self.layout.avail_ring(self.next_avail.0), Order::Relaxed)?;
        if head >= self.layout.size() {
            return Err(QueueFault::HeadOutOfTable(head));
        }
        // Two chains of one head would answer into the same buffers, and be returned as one.
        if !self.in_flight.insert(head) {
            return Err(QueueFault::HeadInFlight(head));
        }
        let chain = self.read_chain(mem, pool, head)?;
        self.next_avail += 1;
        // Before the request is done: a restart must find every chain that may have had an effect.
        if let Some(journal) = &self.journal {
            journal.taken(head, self.next_avail.0);
        }
        Ok(Some(chain))
    }

    fn read_chain(
        &self,
        mem: &dyn GuestMemory,
        pool: &mut SegmentPool,
        head: u16,
    ) -> Result<Chain, QueueFault> {
        let mut chain = Chain::new(head);
        if let Err(fault) = self.walk(mem, pool, &mut chain) {
            // The queue is over, but the pool serves the device's other queues too.
            pool.release(&mut chain);
            return Err(fault);
        }
        Ok(chain)
    }

    /// Reads `avail.idx` and checks it. The load orders the ring entries after it.
    pub(super) fn refresh_avail_idx(&mut self, mem: &dyn GuestMemory) -> Result<bool, QueueFault> {
        let avail_idx = Wrapping(mem.load_u16(self.layout.avail_idx(), Order::AcqRel)?);
        // Each chain that is offered and not returned holds at least one descriptor.
        let Wrapping(outstanding) = avail_idx - self.next_used;
        // An index that went back would look like almost 65536 new chains.
        let Wrapping(new) = avail_idx - self.avail_idx;
        if outstanding > self.layout.size() || new > self.layout.size() {
            return Err(QueueFault::AvailOverrun { outstanding });
        }
        self.avail_idx = avail_idx;
        Ok(avail_idx != self.next_avail)
    }

    /// Copies the chain's descriptors into `pool`; each is judged by one copy.
    fn walk(
        &self,
        mem: &dyn GuestMemory,
        pool: &mut SegmentPool,
        chain: &mut Chain,
    ) -> Result<(), QueueFault> {
        let copies = core::mem::take(&mut pool.copies);
        let mut table = Table::new(self.layout.desc_table(), self.layout.size().into(), copies);
        let walked = self.walk_table(mem, pool, chain, &mut table);
        pool.copies = table.copies;
        walked
    }

    fn walk_table(
        &self,
        mem: &dyn GuestMemory,
        pool: &mut SegmentPool,
        chain: &mut Chain,
        table: &mut Table,
    ) -> Result<(), QueueFault> {
        let mut in_indirect = false;
        let mut index = chain.head;
        // One step more than the longest chain: the indirect descriptor itself.
        for _ in 0..QUEUE_SIZE_MAX.saturating_add(1) {
            // Entries of an indirect table usually follow each other, those of a queue do not.
            let desc = table.desc(mem, index, if in_indirect { u32::MAX } else { 1 })?;
            let flags = desc.flags.get();
            // The table takes the place of the rest of the chain (section 2.7.5.3).
            if flags & DESC_F_INDIRECT != 0 {
                self.check_indirect(&desc, in_indirect)?;
                table.turn_to(GuestAddr::new(desc.addr.get()), desc.len.get() / 16);
                in_indirect = true;
                index = 0;
                continue;
            }
            append(pool, chain, &desc)?;
            if flags & DESC_F_NEXT == 0 {
                return Ok(());
            }
            index = desc.next.get();
        }
        Err(QueueFault::ChainTooLong)
    }

    /// Section 2.7.5.3: one level, at the end of its chain, whole descriptors.
    fn check_indirect(&self, desc: &Desc, in_indirect: bool) -> Result<(), QueueFault> {
        let len = desc.len.get();
        if !self.features.indirect {
            return Err(QueueFault::IndirectNotNegotiated);
        }
        // A table in a table could lead back to itself.
        if in_indirect {
            return Err(QueueFault::IndirectNested);
        }
        if desc.flags.get() & DESC_F_NEXT != 0 {
            return Err(QueueFault::IndirectWithNext);
        }
        if len == 0 || !u64::from(len).is_multiple_of(DESC_BYTES) {
            return Err(QueueFault::IndirectLength(len));
        }
        // Its end must not wrap; whether it is memory, each copy finds out.
        GuestRange::new(GuestAddr::new(desc.addr.get()), u64::from(len))?;
        Ok(())
    }

    /// Gives a chain back; `written_bytes` were written from its first writable byte on. The
    /// driver sees it after [`Queue::publish_used`].
    ///
    /// # Errors
    /// [`QueueFault::Memory`] if the used ring cannot be reached.
    pub fn add_used(
        &mut self,
        mem: &dyn GuestMemory,
        pool: &mut SegmentPool,
        mut chain: Chain,
        written_bytes: u32,
    ) -> Result<(), QueueFault> {
        pool.release(&mut chain);
        let elem = UsedElem { id: u32::from(chain.head).into(), len: written_bytes.into() };
        // Aligned, for a copy in words.
        let elem: [u32; 2] = zerocopy::transmute!(elem);
        let at = self.layout.used_ring(self.next_used.0);
        // Also if the write fails: the queue is over then, and nothing is returned twice.
        self.next_used += 1;
        self.in_flight.remove(chain.head);
        mem.write(at, elem.as_bytes())?;
        Ok(())
    }

    /// Lets the driver see what was added: stores `used.idx` after the elements.
    ///
    /// # Errors
    /// [`QueueFault::Memory`] if the used ring cannot be reached.
    pub fn publish_used(&mut self, mem: &dyn GuestMemory) -> Result<(), QueueFault> {
        // A store that changes nothing would still take the cache line from the driver.
        if self.published != self.next_used {
            mem.store_u16(self.layout.used_idx(), self.next_used.0, Order::AcqRel)?;
            self.published = self.next_used;
            failpoint::hit(Failpoint::Published);
            // After used.idx: a head that is missing here would be lost, one too many is found in the ring.
            if let Some(journal) = &self.journal {
                journal.used(&self.in_flight, self.layout.size());
            }
        }
        Ok(())
    }

    /// Whether there are heads to be taken again.
    pub(super) fn has_retake(&self) -> bool {
        !self.retake.is_empty()
    }
}

/// A table of descriptors, and copies of some that follow each other.
struct Table {
    start: GuestAddr,
    len: u32,
    copies: Box<[[u64; 2]]>,
    /// First index and count of the cached copies.
    first: u32,
    count: u32,
}

impl Table {
    fn new(start: GuestAddr, len: u32, copies: Box<[[u64; 2]]>) -> Table {
        Table { start, len, copies, first: 0, count: 0 }
    }

    fn turn_to(&mut self, start: GuestAddr, len: u32) {
        (self.start, self.len, self.count) = (start, len, 0);
    }

    /// The descriptor `index`. If it has to be copied, so are those after it, `ahead` in all.
    #[inline]
    fn desc(&mut self, mem: &dyn GuestMemory, index: u16, ahead: u32) -> Result<Desc, QueueFault> {
        // Below `first` it wraps to a large number, which is no copy either.
        let place = u32::from(index).wrapping_sub(self.first);
        if place < self.count {
            return Ok(self.copy(place));
        }
        let left = self.len.saturating_sub(index.into());
        if left == 0 {
            return Err(QueueFault::NextOutOfTable(index));
        }
        let at = self.start.offset(u64::from(index).wrapping_mul(DESC_BYTES))?;
        (self.first, self.count) = (index.into(), left.min(ahead).min(AHEAD.into()));
        if self.read(mem, at).is_err() {
            // What lies behind may be no memory, and need not be.
            self.count = 1;
            self.read(mem, at)?;
        }
        Ok(self.copy(0))
    }

    fn read(&mut self, mem: &dyn GuestMemory, at: GuestAddr) -> Result<(), MemFault> {
        let count = usize::try_from(self.count).unwrap_or(1);
        let copies = self.copies.get_mut(..count).unwrap_or_default();
        mem.read(at, copies.as_mut_bytes())
    }

    fn copy(&self, place: u32) -> Desc {
        let words = usize::try_from(place).ok().and_then(|place| self.copies.get(place));
        zerocopy::transmute!(words.copied().unwrap_or_default())
    }
}

/// Adds one buffer to the chain. An empty one is tolerated and dropped.
fn append(pool: &mut SegmentPool, chain: &mut Chain, desc: &Desc) -> Result<(), QueueFault> {
    let segment = Segment::new(GuestAddr::new(desc.addr.get()), desc.len.get())?;
    let len = u64::from(segment.len_bytes);
    // There is nothing to read or write, and a segment is never empty.
    if len == 0 {
        return Ok(());
    }
    if desc.flags.get() & DESC_F_WRITE != 0 {
        chain.writable_bytes = chain.writable_bytes.saturating_add(len);
    } else if chain.writable_bytes > 0 {
        // Section 2.7.4.2: all that the device writes comes last.
        return Err(QueueFault::ReadableAfterWritable);
    } else {
        chain.readable_bytes = chain.readable_bytes.saturating_add(len);
    }
    pool.append(chain, segment).ok_or(QueueFault::ChainTooLong)
}
