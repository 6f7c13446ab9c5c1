//! A chain's buffers, copied once out of the descriptors into a fixed pool.
//!
//! A [`Chain`] is a handle: its segments form a list inside the [`SegmentPool`], readable
//! ones first. Nothing is allocated per request, and a chain cannot be lost silently: it is
//! not `Clone`, and its head stays in flight until it is added to the used ring.

use crate::guest_mem::{GuestAddr, GuestRange, MemFault};
use alloc::boxed::Box;
use alloc::vec;
use core::ops::Range;

/// Descriptors copied at once at most: a table of Linux's longest request.
pub(super) const AHEAD: u16 = 256;
/// No further segment.
const END: u16 = u16::MAX;

/// One buffer of a chain. Its end does not wrap; it is never empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// First byte.
    pub addr: GuestAddr,
    /// Bytes, at least 1.
    pub len_bytes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    segment: Segment,
    next: u16,
}

/// A descriptor chain taken from a queue; to be given back to it.
#[must_use = "a chain that is not given back is lost to the driver"]
#[derive(Debug, Eq, PartialEq)]
pub struct Chain {
    pub(super) head: u16,
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) readable_bytes: u64,
    pub(super) writable_bytes: u64,
}

impl Chain {
    pub(super) const fn new(head: u16) -> Chain {
        Chain { head, first: END, last: END, readable_bytes: 0, writable_bytes: 0 }
    }

    /// Index of the first descriptor.
    #[must_use]
    pub const fn head(&self) -> u16 {
        self.head
    }

    /// A number below the pool's size that no other chain of the pool has meanwhile.
    #[must_use]
    pub(crate) const fn id(&self) -> u16 {
        self.first
    }

    /// Bytes the device may read.
    #[must_use]
    pub const fn readable_bytes(&self) -> u64 {
        self.readable_bytes
    }

    /// Bytes the device may write.
    #[must_use]
    pub const fn writable_bytes(&self) -> u64 {
        self.writable_bytes
    }
}

/// Room for the segments of every chain in flight of one device.
#[derive(Debug)]
pub struct SegmentPool {
    nodes: Box<[Node]>,
    free: u16,
    free_count: u16,
    /// Room for copies of descriptors while a chain is read.
    pub(super) copies: Box<[[u64; 2]]>,
}

impl SegmentPool {
    /// A pool of `count` segments (16 bytes each and a little more).
    #[must_use]
    pub fn new(count: u16) -> SegmentPool {
        let empty = Segment { addr: GuestAddr::new(0), len_bytes: 0 };
        let nodes = (1..=count)
            .map(|next| Node { segment: empty, next: if next == count { END } else { next } })
            .collect();
        let copies = vec![[0; 2]; AHEAD.into()].into();
        SegmentPool { nodes, free: if count == 0 { END } else { 0 }, free_count: count, copies }
    }

    /// Segments that are free.
    #[must_use]
    pub const fn available(&self) -> u16 {
        self.free_count
    }

    /// Appends a segment to the chain. `None`: the pool is empty.
    pub(super) fn append(&mut self, chain: &mut Chain, segment: Segment) -> Option<()> {
        let index = self.free;
        let node = self.nodes.get_mut(usize::from(index))?;
        self.free = node.next;
        self.free_count = self.free_count.saturating_sub(1);
        *node = Node { segment, next: END };
        match self.nodes.get_mut(usize::from(chain.last)) {
            Some(last) => last.next = index,
            None => chain.first = index,
        }
        chain.last = index;
        Some(())
    }

    /// Takes the chain's segments back. The chain is empty afterwards.
    pub(super) fn release(&mut self, chain: &mut Chain) {
        let mut index = chain.first;
        while let Some(node) = self.nodes.get_mut(usize::from(index)) {
            let next = core::mem::replace(&mut node.next, self.free);
            self.free = index;
            self.free_count = self.free_count.saturating_add(1);
            index = next;
        }
        chain.first = END;
        chain.last = END;
        chain.readable_bytes = 0;
        chain.writable_bytes = 0;
    }

    /// Drops a chain whose queue is gone (after a reset): nothing is added to the used ring.
    pub fn abandon(&mut self, mut chain: Chain) {
        self.release(&mut chain);
    }

    /// Where the chain's last byte lies: with a writable byte, the last one of those.
    pub(super) fn last_byte(&self, chain: &Chain) -> Option<GuestAddr> {
        let Segment { addr, len_bytes } = self.nodes.get(usize::from(chain.last))?.segment;
        addr.offset(u64::from(len_bytes).checked_sub(1)?).ok()
    }

    fn segments<'a>(&'a self, chain: &Chain) -> impl Iterator<Item = Segment> + use<'a> {
        let mut index = chain.first;
        core::iter::from_fn(move || {
            let node = self.nodes.get(usize::from(index))?;
            index = node.next;
            Some(node.segment)
        })
    }

    /// The bytes `part` of what the device may read, as far as there are any, as runs.
    pub fn readable<'a>(
        &'a self,
        chain: &Chain,
        part: Range<u64>,
    ) -> Runs<impl Iterator<Item = Segment> + use<'a>> {
        let left_bytes = part.end.min(chain.readable_bytes).saturating_sub(part.start);
        Runs { segments: self.segments(chain), skip_bytes: part.start, left_bytes }
    }

    /// The bytes `part` of what the device may write, as far as there are any, as runs.
    pub fn writable<'a>(
        &'a self,
        chain: &Chain,
        part: Range<u64>,
    ) -> Runs<impl Iterator<Item = Segment> + use<'a>> {
        let left_bytes = part.end.min(chain.writable_bytes).saturating_sub(part.start);
        // Writable segments follow the readable ones.
        let skip_bytes = chain.readable_bytes.saturating_add(part.start);
        Runs { segments: self.segments(chain), skip_bytes, left_bytes }
    }
}

/// Guest memory of a part of a chain, in order, whatever the descriptors' framing.
pub struct Runs<I> {
    segments: I,
    skip_bytes: u64,
    left_bytes: u64,
}

impl<I: Iterator<Item = Segment>> Iterator for Runs<I> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        while self.left_bytes > 0 {
            let segment = self.segments.next()?;
            let len = u64::from(segment.len_bytes);
            if self.skip_bytes >= len {
                self.skip_bytes = self.skip_bytes.saturating_sub(len);
                continue;
            }
            let skip = core::mem::take(&mut self.skip_bytes);
            let take = len.saturating_sub(skip).min(self.left_bytes);
            self.left_bytes = self.left_bytes.saturating_sub(take);
            // The segment's end does not wrap, and `skip + take <= len`, a u32.
            let addr = GuestAddr::new(segment.addr.raw().wrapping_add(skip));
            return Some(Segment { addr, len_bytes: u32::try_from(take).unwrap_or(segment.len_bytes) });
        }
        None
    }
}

impl Segment {
    /// A segment whose end does not wrap.
    ///
    /// # Errors
    /// [`MemFault`] if it does.
    pub fn new(addr: GuestAddr, len_bytes: u32) -> Result<Segment, MemFault> {
        GuestRange::new(addr, u64::from(len_bytes))?;
        Ok(Segment { addr, len_bytes })
    }
}
