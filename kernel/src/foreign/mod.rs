//! The target's RAM, reached through a window of bounded size.
//!
//! The window has slots of 2 MiB. A guest's address leads to a chunk (its 2 MiB), a chunk to a
//! slot: the last one used is remembered, others are found by two indexed look-ups, and only
//! a miss costs hypercalls, taking the slot that was not used for longest. A page that cannot
//! be mapped fails its own access and no other. Guest memory is only ever copied, by loads and
//! stores, never referenced, and never the object of a read-modify-write.
//!
//! An address is the guest's allegation. One outside RAM costs one failed hypercall.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod chunks;
#[cfg(feature = "fake")]
mod host;
mod pages;
#[cfg(test)]
mod tests;

#[cfg(feature = "fake")]
pub use host::HostWindow;
pub use pages::PageSet;

use crate::shared::{self, Order, SharedPage, Word};
use crate::xen::XenWindow;
use crate::{Errno, full_barrier};
use chunks::Chunks;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ptr::NonNull;
use xen_pv_sys::PAGE_SIZE;

/// Pages in a chunk and in a slot.
pub const CHUNK_PAGES: usize = 512;
const CHUNK_SHIFT: u32 = 21;
const CHUNK_SIZE: u64 = 1 << CHUNK_SHIFT;
/// Guest physical addresses end here: what `GUEST_RAM1` of `public/arch-arm.h` ends with.
pub const ADDRESS_LIMIT: u64 = 1 << 40;

/// Why an access to guest memory failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The range wraps or goes beyond [`ADDRESS_LIMIT`].
    OutOfRange,
    /// A word's address is not a multiple of its size.
    Misaligned,
    /// Xen does not map that page: usually because it is not RAM.
    Unmappable(Errno),
    /// The page of our own that data goes to or comes from is too small. A bug of the caller's.
    OutOfPage,
}

/// A failed access, with the guest physical address that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ForeignFault {
    /// The guest physical address.
    pub gpa: u64,
    /// What was wrong with it.
    pub reason: Reason,
}

impl fmt::Display for ForeignFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest address {:#x}: ", self.gpa)?;
        match self.reason {
            Reason::OutOfRange => f.write_str("out of range"),
            Reason::Misaligned => f.write_str("misaligned"),
            Reason::Unmappable(errno) => write!(f, "{errno}"),
            Reason::OutOfPage => f.write_str("beyond our page"),
        }
    }
}

impl core::error::Error for ForeignFault {}

/// What one [`Window::map`] achieved.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Pages that now show what was asked for.
    pub pages: PageSet,
    /// The first failure, if any.
    pub failure: Option<Errno>,
}

/// Where guest frames appear: slots of [`CHUNK_PAGES`] pages each.
///
/// # Safety
/// From when `map` reports a page until the next `unmap` or `map` that covers it, the page at
/// `base(slot) + page * 4096` is valid for reading and writing, by the guest as well.
/// `base` is page-aligned and does not change.
pub unsafe trait Window {
    /// Slots of this window.
    fn slots(&self) -> u16;

    /// First byte of a slot below [`Window::slots`].
    fn base(&self, slot: u16) -> NonNull<u8>;

    /// Tries to map the guest's frame `first_gfn + page` as that page of the slot, for every
    /// page of `wanted`, in place of what was there. A page that fails keeps what was there.
    fn map(&self, slot: u16, first_gfn: u64, wanted: &PageSet) -> Mapped;

    /// Unmaps pages that are mapped.
    fn unmap(&self, slot: u16, pages: &PageSet);
}

/// The target's RAM. Methods take `&self`; nothing borrowed stays behind.
pub struct ForeignMap<W: Window = XenWindow> {
    window: W,
    chunks: RefCell<Chunks>,
    /// Chunk and slot of the last access, the usual one.
    last: Cell<Option<(u64, u16)>>,
}

impl<W: Window> fmt::Debug for ForeignMap<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignMap({} slots)", self.window.slots())
    }
}

impl<W: Window> ForeignMap<W> {
    /// All of the target's RAM, through `window`.
    pub fn new(window: W) -> ForeignMap<W> {
        let chunks = RefCell::new(Chunks::new(window.slots()));
        ForeignMap { window, chunks, last: Cell::new(None) }
    }

    /// How often something had to be mapped, or could not be.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.chunks.borrow().misses()
    }

    /// Where the byte at `gpa` appears: valid up to the end of its page, until anything else
    /// is mapped.
    fn locate(&self, gpa: u64) -> Result<*mut u8, ForeignFault> {
        let fault = |errno| ForeignFault { gpa, reason: Reason::Unmappable(errno) };
        let chunk = gpa >> CHUNK_SHIFT;
        // Below 2 MiB: fits.
        let offset = usize::try_from(gpa % CHUNK_SIZE).unwrap_or(0);
        let page = offset / PAGE_SIZE;
        let mut chunks = self.chunks.borrow_mut();
        let slot = match self.last.get() {
            Some((last, slot)) if last == chunk && chunks.has(slot, page) => slot,
            _ => {
                let slot = chunks.fetch(&self.window, chunk, page).map_err(fault)?;
                self.last.set(Some((chunk, slot)));
                slot
            }
        };
        // SAFETY: the slot is CHUNK_PAGES pages of one window; `offset` is below that.
        Ok(unsafe { self.window.base(slot).as_ptr().add(offset) })
    }

    /// Calls `piece(address, offset, len)` for each part of the range that lies in one page.
    fn for_pieces(
        &self,
        gpa: u64,
        len: usize,
        mut piece: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), ForeignFault> {
        let end = gpa.checked_add(len as u64).filter(|&end| end <= ADDRESS_LIMIT);
        if end.is_none() {
            return Err(ForeignFault { gpa, reason: Reason::OutOfRange });
        }
        let mut done = 0;
        while done < len {
            let at = self.locate(gpa + done as u64)?;
            // The window's pages are aligned as the guest's are.
            let count = (PAGE_SIZE - at.addr() % PAGE_SIZE).min(len - done);
            piece(at, done, count);
            done += count;
        }
        Ok(())
    }

    /// Copies guest memory at `gpa` into `dst`. After a fault, `dst` may be filled in part.
    ///
    /// # Errors
    /// [`ForeignFault`] with the first address that failed.
    pub fn read(&self, gpa: u64, dst: &mut [u8]) -> Result<(), ForeignFault> {
        let len = dst.len();
        let base = dst.as_mut_ptr();
        self.for_pieces(gpa, len, |at, offset, count| {
            // SAFETY: `at` is valid for `count` bytes (one mapped page, see `locate`), and
            // `offset + count <= len`; `dst` is ours alone.
            unsafe { shared::copy_shared(at, base.add(offset), count) };
        })
    }

    /// Copies `src` to guest memory at `gpa`. After a fault, a part may have been written.
    ///
    /// # Errors
    /// [`ForeignFault`] with the first address that failed.
    pub fn write(&self, gpa: u64, src: &[u8]) -> Result<(), ForeignFault> {
        let base = src.as_ptr().cast_mut();
        self.for_pieces(gpa, src.len(), |at, offset, count| {
            // SAFETY: as in `read`, the other way round; `src` is only read.
            unsafe { shared::copy_shared(base.add(offset), at, count) };
        })
    }

    /// Writes `len` zero bytes at `gpa`.
    ///
    /// # Errors
    /// [`ForeignFault`] with the first address that failed.
    pub fn zero(&self, gpa: u64, len: usize) -> Result<(), ForeignFault> {
        static ZEROES: [u64; PAGE_SIZE / 8] = [0; PAGE_SIZE / 8];
        let base = ZEROES.as_ptr().cast::<u8>().cast_mut();
        self.for_pieces(gpa, len, |at, _, count| {
            // SAFETY: as in `write`; a piece is at most one page, as long as `ZEROES`.
            unsafe { shared::copy_shared(base, at, count) };
        })
    }

    /// Copies guest memory at `gpa` to `offset` of a page of ours.
    ///
    /// # Errors
    /// [`ForeignFault`]; [`Reason::OutOfPage`] if the page is too small.
    pub fn copy_to_page(
        &self,
        gpa: u64,
        page: &SharedPage,
        offset: usize,
        len: usize,
    ) -> Result<(), ForeignFault> {
        let to = page.at(offset, len).map_err(|_| ForeignFault { gpa, reason: Reason::OutOfPage })?;
        self.for_pieces(gpa, len, |at, done, count| {
            // SAFETY: `at` as in `read`; `to` is valid for `len` bytes, `done + count <= len`.
            unsafe { shared::copy_shared(at, to.add(done), count) };
        })
    }

    /// Copies `len` bytes at `offset` of a page of ours to guest memory at `gpa`.
    ///
    /// # Errors
    /// [`ForeignFault`]; [`Reason::OutOfPage`] if the page is too small.
    pub fn copy_from_page(
        &self,
        gpa: u64,
        page: &SharedPage,
        offset: usize,
        len: usize,
    ) -> Result<(), ForeignFault> {
        let from = page.at(offset, len).map_err(|_| ForeignFault { gpa, reason: Reason::OutOfPage })?;
        self.for_pieces(gpa, len, |at, done, count| {
            // SAFETY: as in `copy_to_page`, the other way round.
            unsafe { shared::copy_shared(from.add(done), at, count) };
        })
    }

    /// Where the aligned word at `gpa` appears.
    fn word<V: Word>(&self, gpa: u64) -> Result<*mut u8, ForeignFault> {
        let size = size_of::<V>() as u64;
        if !gpa.is_multiple_of(size) {
            return Err(ForeignFault { gpa, reason: Reason::Misaligned });
        }
        // Aligned, so that it ends with or before the limit if it begins below.
        if gpa >= ADDRESS_LIMIT {
            return Err(ForeignFault { gpa, reason: Reason::OutOfRange });
        }
        self.locate(gpa)
    }

    /// Loads the word at `gpa` in one access.
    ///
    /// # Errors
    /// [`ForeignFault`]; [`Reason::Misaligned`] among others.
    pub fn load<V: Word>(&self, gpa: u64, order: Order) -> Result<V, ForeignFault> {
        let at = self.word::<V>(gpa)?;
        // SAFETY: `at` is in a mapped page, aligned since the page is, and so inside it.
        Ok(unsafe { V::load(at, order) })
    }

    /// Stores the word at `gpa` in one access.
    ///
    /// # Errors
    /// [`ForeignFault`]; [`Reason::Misaligned`] among others.
    pub fn store<V: Word>(&self, gpa: u64, value: V, order: Order) -> Result<(), ForeignFault> {
        let at = self.word::<V>(gpa)?;
        // SAFETY: as in `load`.
        unsafe { V::store(at, value, order) };
        Ok(())
    }

    /// Unmaps everything: because the guest's frames changed (`IOREQ_TYPE_INVALIDATE`), or at
    /// the end, so that the guest's pages can be freed. Whatever is used next is mapped anew.
    pub fn invalidate(&self) {
        // What we wrote so far must be there before somebody else gets the frames.
        full_barrier();
        self.last.set(None);
        self.chunks.borrow_mut().clear(&self.window);
    }
}

impl<W: Window> Drop for ForeignMap<W> {
    fn drop(&mut self) {
        self.invalidate();
    }
}
