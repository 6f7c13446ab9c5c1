//! A chain with the memory that its buffers lie in.

use super::chain::{Chain, Runs, Segment, SegmentPool};
use crate::guest_mem::{GuestAddr, GuestMemory, MemFault};
use core::ops::Range;
use kernel::{PageSlice, SharedPage};

/// A chain's bytes, whatever the framing: one part to read, one to write.
#[derive(Clone, Copy)]
pub struct ChainView<'a> {
    chain: &'a Chain,
    pool: &'a SegmentPool,
    mem: &'a dyn GuestMemory,
}

impl<'a> ChainView<'a> {
    /// The chain whose segments are in `pool`, in the guest's `mem`.
    #[inline]
    pub fn new(chain: &'a Chain, pool: &'a SegmentPool, mem: &'a dyn GuestMemory) -> ChainView<'a> {
        ChainView { chain, pool, mem }
    }

    /// Bytes the device may read.
    #[must_use]
    pub fn readable_bytes(&self) -> u64 {
        self.chain.readable_bytes()
    }

    /// Bytes the device may write.
    #[must_use]
    pub fn writable_bytes(&self) -> u64 {
        self.chain.writable_bytes()
    }

    /// The bytes `part` of what the device may read, as far as there are any.
    #[inline]
    pub fn readable(&self, part: Range<u64>) -> Buffer<'a, impl Iterator<Item = Segment> + use<'a>> {
        Buffer { runs: self.pool.readable(self.chain, part), mem: self.mem }
    }

    /// The bytes `part` of what the device may write, as far as there are any.
    #[inline]
    pub fn writable(&self, part: Range<u64>) -> Buffer<'a, impl Iterator<Item = Segment> + use<'a>> {
        Buffer { runs: self.pool.writable(self.chain, part), mem: self.mem }
    }

    /// Writes the last byte that the device may write. False: there is none, or it is no memory.
    #[inline]
    pub fn write_last(&self, byte: u8) -> bool {
        let at = self.pool.last_byte(self.chain).filter(|_| self.writable_bytes() > 0);
        at.is_some_and(|addr| self.mem.write(addr, &[byte]).is_ok())
    }
}

/// A part of a chain's bytes.
pub struct Buffer<'a, I> {
    runs: Runs<I>,
    mem: &'a dyn GuestMemory,
}

/// How much of a run fits into `room` bytes.
fn step(run: Segment, room: usize) -> usize {
    usize::try_from(run.len_bytes).unwrap_or(usize::MAX).min(room)
}

impl<I: Iterator<Item = Segment>> Buffer<'_, I> {
    /// Copies guest bytes into `dst`; returns how many there were.
    ///
    /// # Errors
    /// [`MemFault`] of the first run that cannot be read.
    #[inline]
    pub fn read(self, dst: &mut [u8]) -> Result<usize, MemFault> {
        let mut done = 0usize;
        for run in self.runs {
            let rest = dst.get_mut(done..).unwrap_or_default();
            let len = step(run, rest.len());
            let Some(part) = rest.get_mut(..len) else { break };
            self.mem.read(run.addr, part)?;
            done = done.saturating_add(len);
        }
        Ok(done)
    }

    /// Copies `src` into the guest; returns how many bytes there was room for.
    ///
    /// # Errors
    /// [`MemFault`] of the first run that cannot be written.
    #[inline]
    pub fn write(self, src: &[u8]) -> Result<usize, MemFault> {
        let mut done = 0usize;
        for run in self.runs {
            let rest = src.get(done..).unwrap_or_default();
            let Some(part) = rest.get(..step(run, rest.len())) else { break };
            self.mem.write(run.addr, part)?;
            done = done.saturating_add(part.len());
        }
        Ok(done)
    }

    /// Copies guest bytes densely into `pages`, from offset 0 of the first.
    ///
    /// # Errors
    /// [`MemFault`] of the first run that cannot be read, or if the pages are too few.
    #[inline]
    pub fn read_pages<'p>(self, pages: impl Iterator<Item = &'p SharedPage>) -> Result<(), MemFault> {
        let mem = self.mem;
        self.each_page(pages, |addr, to| mem.copy_to_page(addr, to))
    }

    /// Copies the bytes of `pages` into the guest; the inverse of [`Buffer::read_pages`].
    ///
    /// # Errors
    /// [`MemFault`] of the first run that cannot be written, or if the pages are too few.
    #[inline]
    pub fn write_pages<'p>(self, pages: impl Iterator<Item = &'p SharedPage>) -> Result<(), MemFault> {
        let mem = self.mem;
        self.each_page(pages, |addr, from| mem.copy_from_page(addr, from))
    }

    #[inline]
    fn each_page<'p>(
        self,
        pages: impl Iterator<Item = &'p SharedPage>,
        copy: impl FnMut(GuestAddr, PageSlice<'_>) -> Result<(), MemFault>,
    ) -> Result<(), MemFault> {
        let mem = self.mem;
        let asked = self.ask_each(pages, copy);
        // Also after an error: the pages are about to be somebody else's.
        asked.and(mem.finish_copies())
    }

    #[inline]
    fn ask_each<'p>(
        self,
        mut pages: impl Iterator<Item = &'p SharedPage>,
        mut copy: impl FnMut(GuestAddr, PageSlice<'_>) -> Result<(), MemFault>,
    ) -> Result<(), MemFault> {
        const PAGE: usize = xen_pv_sys::PAGE_SIZE;
        let mut page = None;
        let mut used = PAGE;
        for run in self.runs {
            let mut addr = run.addr;
            let mut left = step(run, usize::MAX);
            while left > 0 {
                // Runs and pages end where they like: each copy goes to the nearer end.
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
