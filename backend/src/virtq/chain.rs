//! A chain's buffers, copied once out of the descriptors into a fixed pool.
//!
//! A [`Chain`] is a handle: its segments form a list inside the [`SegmentPool`], readable
//! ones first. Nothing is allocated per request, and a chain cannot be lost silently: it is
//! not `Clone`, and its head stays in flight until it is added to the used ring.

use crate::guest_mem::{GuestAddr, GuestMemory, GuestRange, MemFault};
use alloc::vec::Vec;
use kernel::{PageSlice, SharedPage};

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
    nodes: Vec<Node>,
    free: u16,
    free_count: u16,
}

impl SegmentPool {
    /// A pool of `count` segments (16 bytes each and a little more).
    #[must_use]
    pub fn new(count: u16) -> SegmentPool {
        let empty = Segment { addr: GuestAddr::new(0), len_bytes: 0 };
        let nodes = (1..=count)
            .map(|next| Node { segment: empty, next: if next == count { END } else { next } })
            .collect();
        SegmentPool { nodes, free: if count == 0 { END } else { 0 }, free_count: count }
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
    #[must_use]
    pub fn last_byte(&self, chain: &Chain) -> Option<GuestAddr> {
        let Segment { addr, len_bytes } = self.nodes.get(usize::from(chain.last))?.segment;
        addr.offset(u64::from(len_bytes).checked_sub(1)?).ok()
    }

    fn segments(&self, chain: &Chain) -> impl Iterator<Item = Segment> + '_ {
        let mut index = chain.first;
        core::iter::from_fn(move || {
            let node = self.nodes.get(usize::from(index))?;
            index = node.next;
            Some(node.segment)
        })
    }

    /// The chain's readable bytes from `skip_bytes` on, at most `len_bytes`, as runs.
    pub fn readable(
        &self,
        chain: &Chain,
        skip_bytes: u64,
        len_bytes: u64,
    ) -> Runs<impl Iterator<Item = Segment>> {
        let len_bytes = len_bytes.min(chain.readable_bytes.saturating_sub(skip_bytes));
        Runs { segments: self.segments(chain), skip_bytes, left_bytes: len_bytes }
    }

    /// The chain's writable bytes from `skip_bytes` on, at most `len_bytes`, as runs.
    pub fn writable(
        &self,
        chain: &Chain,
        skip_bytes: u64,
        len_bytes: u64,
    ) -> Runs<impl Iterator<Item = Segment>> {
        let len_bytes = len_bytes.min(chain.writable_bytes.saturating_sub(skip_bytes));
        // Writable segments follow the readable ones.
        let skip_bytes = chain.readable_bytes.saturating_add(skip_bytes);
        Runs { segments: self.segments(chain), skip_bytes, left_bytes: len_bytes }
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

/// How much of a run fits into `room` bytes.
fn step(run: Segment, room: usize) -> usize {
    usize::try_from(run.len_bytes).unwrap_or(usize::MAX).min(room)
}

impl<I: Iterator<Item = Segment>> Runs<I> {
    /// Copies guest bytes into `dst`; returns how many there were.
    ///
    /// # Errors
    /// [`MemFault`] of the first run that cannot be read.
    pub fn read(self, mem: &dyn GuestMemory, dst: &mut [u8]) -> Result<usize, MemFault> {
        let mut done = 0usize;
        for run in self {
            let rest = dst.get_mut(done..).unwrap_or_default();
            let len = step(run, rest.len());
            let Some(part) = rest.get_mut(..len) else { break };
            mem.read(run.addr, part)?;
            done = done.saturating_add(len);
        }
        Ok(done)
    }

    /// Copies `src` into the guest; returns how many bytes there was room for.
    ///
    /// # Errors
    /// [`MemFault`] of the first run that cannot be written.
    pub fn write(self, mem: &dyn GuestMemory, src: &[u8]) -> Result<usize, MemFault> {
        let mut done = 0usize;
        for run in self {
            let rest = src.get(done..).unwrap_or_default();
            let Some(part) = rest.get(..step(run, rest.len())) else { break };
            mem.write(run.addr, part)?;
            done = done.saturating_add(part.len());
        }
        Ok(done)
    }

    /// Copies guest bytes densely into `pages`, from offset 0 of the first.
    ///
    /// # Errors
    /// [`MemFault`] of the first run that cannot be read, or if the pages are too few.
    pub fn read_pages<'a>(
        self,
        mem: &dyn GuestMemory,
        pages: impl Iterator<Item = &'a SharedPage>,
    ) -> Result<(), MemFault> {
        self.each_page(pages, |addr, to| mem.copy_to_page(addr, to))
    }

    /// Copies the bytes of `pages` into the guest; the inverse of [`Runs::read_pages`].
    ///
    /// # Errors
    /// [`MemFault`] of the first run that cannot be written, or if the pages are too few.
    pub fn write_pages<'a>(
        self,
        mem: &dyn GuestMemory,
        pages: impl Iterator<Item = &'a SharedPage>,
    ) -> Result<(), MemFault> {
        self.each_page(pages, |addr, from| mem.copy_from_page(addr, from))
    }

    fn each_page<'a>(
        self,
        mut pages: impl Iterator<Item = &'a SharedPage>,
        mut copy: impl FnMut(GuestAddr, PageSlice<'_>) -> Result<(), MemFault>,
    ) -> Result<(), MemFault> {
        const PAGE: usize = xen_pv_sys::PAGE_SIZE;
        let mut page = None;
        let mut used = PAGE;
        for run in self {
            let mut addr = run.addr;
            let mut left = step(run, usize::MAX);
            while left > 0 {
                if used == PAGE {
                    page = pages.next();
                    used = 0;
                }
                let page = page.ok_or(MemFault { addr })?;
                let len = left.min(PAGE.saturating_sub(used));
                copy(addr, PageSlice { page, offset: used, len })?;
                used = used.saturating_add(len);
                left = left.saturating_sub(len);
                // A run's end does not wrap.
                addr = GuestAddr::new(addr.raw().wrapping_add(u64::try_from(len).unwrap_or(0)));
            }
        }
        Ok(())
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
