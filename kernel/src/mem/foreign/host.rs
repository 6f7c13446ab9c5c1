//! A guest's RAM in the host's own memory, for programs that measure what lies above.

use super::pages::{CHUNK_PAGES, PageSet};
use super::window::{Mapped, Window};
use alloc::vec;
use core::ops::Range;
use core::ptr::NonNull;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::errno::Errno;

const SLOT_BYTES: usize = CHUNK_PAGES * PAGE_SIZE;

/// A window with a slot for each chunk of RAM, so that nothing ever gives way: a frame is the
/// page of the window that it was first mapped to. What was written does not outlive
/// [`ForeignMap::invalidate`](super::ForeignMap::invalidate).
#[derive(Debug)]
pub struct HostWindow {
    block: NonNull<u8>,
    slots: u16,
    frames: Range<u64>,
}

impl HostWindow {
    /// `chunks` times 2 MiB of RAM from frame `first_gfn` on, the first of a chunk.
    #[must_use]
    pub fn new(first_gfn: u64, chunks: u16) -> HostWindow {
        let block = vec![0u64; (usize::from(chunks) * SLOT_BYTES + PAGE_SIZE) / 8].leak();
        let start = block.as_mut_ptr().cast::<u8>();
        let aligned = start.wrapping_add(start.align_offset(PAGE_SIZE));
        HostWindow {
            block: NonNull::new(aligned).unwrap_or(NonNull::dangling()),
            slots: chunks,
            frames: first_gfn..first_gfn + u64::from(chunks) * CHUNK_PAGES as u64,
        }
    }
}

// SAFETY: the block is leaked, so it is valid until the process ends; it is page-aligned and has a page for
// each slot and page number, and a page in front for the alignment.
unsafe impl Window for HostWindow {
    fn slots(&self) -> u16 {
        self.slots
    }

    #[inline]
    fn base(&self, slot: u16) -> NonNull<u8> {
        // SAFETY: the slot is below `slots`, so the offset is inside the block.
        unsafe { self.block.add(usize::from(slot) * SLOT_BYTES) }
    }

    fn map(&self, _slot: u16, first_gfn: u64, wanted: &PageSet) -> Mapped {
        let mut pages = PageSet::EMPTY;
        wanted
            .iter()
            .filter(|&page| self.frames.contains(&(first_gfn + page as u64)))
            .for_each(|page| pages.insert(page));
        Mapped { pages, failure: (pages != *wanted).then_some(Errno::EINVAL) }
    }

    fn unmap(&self, _slot: u16, _pages: &PageSet) {}
}
