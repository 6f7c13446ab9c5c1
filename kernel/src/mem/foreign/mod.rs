//! The target's RAM, reached through a window of bounded size.
//!
//! The window has slots of 2 MiB. A guest's address leads to a chunk (its 2 MiB), a chunk to a
//! slot: those of the chunks used last are remembered, others are found by two indexed
//! look-ups, and only a miss costs hypercalls, taking a new slot, or if there is none, one that
//! was not used lately. A page that cannot be mapped fails its own access and no other. Guest
//! memory is only ever copied, by loads and stores, never referenced, and never the object of a
//! read-modify-write.
//!
//! An address is the guest's allegation. One outside RAM costs one failed hypercall.
//!
//! # Stale pages
//!
//! When the guest's frames change (`IOREQ_TYPE_INVALIDATE`), everything that is mapped becomes
//! stale at once, without a hypercall: [`ForeignMap::invalidate`] counts an epoch on. A stale page
//! is never used:
//!
//! - A page is used only if `Chunks` says so, or if its chunk is remembered.
//! - `Chunks` says so of a page that is in its slot's `pages`, and only if the slot's epoch is the
//!   present one. A page comes into `pages` only when Xen has just mapped it for the slot's
//!   chunk, and only after the slot was brought to the present epoch, which takes all out
//!   (`Slot::settle`); when the slot changes hands, they are taken out as well (`Slot::retire`).
//! - A chunk is remembered only while it is whole by that rule, and all are forgotten at an
//!   invalidation and before anything is mapped or given another chunk. Sweeping takes nothing out
//!   of a slot of the present epoch.
//! - No pointer outlives the access that it was made for; accesses and invalidations are methods of
//!   one object that is not shared between threads.
//!
//! What is stale is still mapped in Xen, and so kept from its owner. [`ForeignMap::sweep`] unmaps a
//! few pages at a time, until none is left; a page that is wanted before is unmapped and mapped
//! anew: never mapped over, so that each page that Xen maps is unmapped once.
//! What an earlier incarnation had mapped (see [`restart`](crate::restart)) is stale from the beginning.
//! The end of the map unmaps nothing: Xen does, with our domain.
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

pub use chunks::MapUse;
#[cfg(feature = "fake")]
pub use host::HostWindow;
pub use pages::PageSet;

use crate::mem::shared::{self, Order, SharedPage, Word, full_barrier};
use chunks::Chunks;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ptr::NonNull;
use xen_pv_sys::errno::Errno;
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

    /// Slots, the first ones, in which an earlier incarnation may have left anything.
    fn previous_slots(&self) -> u16 {
        0
    }

    /// Tries to map the guest's frame `first_gfn + page` as that page of the slot, for every
    /// page of `wanted`, at none of which anything is mapped.
    fn map(&self, slot: u16, first_gfn: u64, wanted: &PageSet) -> Mapped;

    /// Unmaps pages; of those of an earlier incarnation, some may not be mapped.
    fn unmap(&self, slot: u16, pages: &PageSet);
}

/// Bytes from `gpa` to the end of its page.
#[inline]
fn room(gpa: u64) -> usize {
    // Below 4096: fits.
    PAGE_SIZE - usize::try_from(gpa % PAGE_SIZE as u64).unwrap_or(0)
}

/// Which way a copy goes.
#[derive(Clone, Copy)]
enum Way {
    FromGuest,
    ToGuest,
}

impl Way {
    /// Copies between guest memory and ours.
    ///
    /// # Safety
    /// Both are valid for `len` bytes: what is copied from for reading, the other for writing.
    #[inline]
    unsafe fn copy(self, guest: *mut u8, ours: *mut u8, len: usize) {
        let (from, to) = match self {
            Way::FromGuest => (guest, ours),
            Way::ToGuest => (ours, guest),
        };
        // SAFETY: the caller's promise.
        unsafe { shared::copy_shared(from, to, len) };
    }
}

/// The chunks that are remembered: rings, descriptors and data lie in different ones.
const RECENT: usize = 16;

/// A chunk of which every page may be used, and where.
struct Recent {
    /// [`Recent::NONE`]: none.
    chunk: Cell<u64>,
    base: Cell<*mut u8>,
    slot: Cell<u16>,
    /// Whether it was used since it is remembered.
    again: Cell<bool>,
}

impl Recent {
    const NONE: u64 = u64::MAX;
    const fn empty() -> Recent {
        Recent {
            chunk: Cell::new(Recent::NONE),
            base: Cell::new(core::ptr::null_mut()),
            slot: Cell::new(0),
            again: Cell::new(false),
        }
    }

    /// Forgets the chunk, but for whether it was used.
    fn forget(&self, chunks: &mut Chunks) {
        if self.chunk.replace(Recent::NONE) != Recent::NONE && self.again.replace(false) {
            chunks.touch(self.slot.get());
        }
    }
}

/// The target's RAM. Methods take `&self`; nothing borrowed stays behind.
pub struct ForeignMap<W: Window> {
    window: W,
    chunks: RefCell<Chunks>,
    /// By chunk number, modulo their count. Forgotten before any slot changes hands.
    recent: [Recent; RECENT],
}

impl<W: Window> fmt::Debug for ForeignMap<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignMap({} slots)", self.window.slots())
    }
}

impl<W: Window> ForeignMap<W> {
    /// All of the target's RAM, through `window`.
    pub fn new(window: W) -> ForeignMap<W> {
        let chunks = RefCell::new(Chunks::new(window.slots(), window.previous_slots()));
        ForeignMap { window, chunks, recent: [const { Recent::empty() }; RECENT] }
    }

    /// How often something had to be mapped, or could not be.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.chunks.borrow().misses()
    }

    /// How much is mapped now. Counts: not for the data path.
    #[must_use]
    pub fn usage(&self) -> MapUse {
        self.chunks.borrow().usage()
    }

    /// Where the byte at `gpa` appears: valid up to the end of its page, until anything else
    /// is mapped.
    #[inline]
    fn locate(&self, gpa: u64) -> Result<*mut u8, ForeignFault> {
        let chunk = gpa >> CHUNK_SHIFT;
        let place = usize::try_from(chunk % RECENT as u64).unwrap_or(0);
        if let Some(recent) = self.recent.get(place).filter(|recent| recent.chunk.get() == chunk) {
            recent.again.set(true);
            // SAFETY: the slot is CHUNK_PAGES mapped pages of one window; the offset is below.
            return Ok(unsafe { recent.base.get().add(Self::offset(gpa)) });
        }
        self.look_up(gpa, place)
    }

    /// Offset in the chunk.
    fn offset(gpa: u64) -> usize {
        // Below 2 MiB: fits.
        usize::try_from(gpa % CHUNK_SIZE).unwrap_or(0)
    }

    /// As [`ForeignMap::locate`], for a chunk that is not remembered; it is now, at `place`.
    #[inline(never)]
    fn look_up(&self, gpa: u64, place: usize) -> Result<*mut u8, ForeignFault> {
        let (chunk, offset) = (gpa >> CHUNK_SHIFT, Self::offset(gpa));
        let page = offset / PAGE_SIZE;
        let mut chunks = self.chunks.borrow_mut();
        if !chunks.is_mapped(chunk, page) {
            self.forget(&mut chunks);
        }
        let fetched = chunks.fetch(&self.window, chunk, page);
        let slot = fetched.map_err(|errno| ForeignFault { gpa, reason: Reason::Unmappable(errno) })?;
        let base = self.window.base(slot).as_ptr();
        if let Some(recent) = self.recent.get(place).filter(|_| chunks.is_whole(slot)) {
            recent.forget(&mut chunks);
            recent.chunk.set(chunk);
            recent.base.set(base);
            recent.slot.set(slot);
        }
        // SAFETY: the slot is CHUNK_PAGES pages of one window; `offset` is below that.
        Ok(unsafe { base.add(offset) })
    }

    /// Forgets all chunks that are remembered.
    #[inline(never)]
    fn forget(&self, chunks: &mut Chunks) {
        self.recent.iter().for_each(|recent| recent.forget(chunks));
    }

    /// Copies between guest memory at `gpa` and `len` bytes of ours, page by page.
    ///
    /// # Safety
    /// `ours` is valid for `len` bytes: for reading to the guest, for writing from it.
    #[inline]
    unsafe fn transfer(&self, gpa: u64, ours: *mut u8, len: usize, way: Way) -> Result<(), ForeignFault> {
        // The limit is the end of a page, so that a page which begins below ends there at most.
        if gpa < ADDRESS_LIMIT && len.wrapping_sub(1) < room(gpa) {
            let at = self.locate(gpa)?;
            // SAFETY: one mapped page holds `len` bytes from `at` on, see `locate`; `ours` is
            // the caller's promise.
            unsafe { way.copy(at, ours, len) };
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { self.transfer_pages(gpa, ours, len, way) }
    }

    /// [`ForeignMap::transfer`] of any length.
    ///
    /// # Safety
    /// As there.
    #[inline(never)]
    unsafe fn transfer_pages(
        &self,
        gpa: u64,
        ours: *mut u8,
        len: usize,
        way: Way,
    ) -> Result<(), ForeignFault> {
        let end = gpa.checked_add(len as u64).filter(|&end| end <= ADDRESS_LIMIT);
        if end.is_none() {
            return Err(ForeignFault { gpa, reason: Reason::OutOfRange });
        }
        let mut done = 0;
        while done < len {
            let from = gpa + done as u64;
            let at = self.locate(from)?;
            let count = room(from).min(len - done);
            // SAFETY: as in `transfer`, for `count` bytes; `done + count <= len`.
            unsafe { way.copy(at, ours.add(done), count) };
            done += count;
        }
        Ok(())
    }

    /// Copies guest memory at `gpa` into `dst`. After a fault, `dst` may be filled in part.
    ///
    /// # Errors
    /// [`ForeignFault`] with the first address that failed.
    #[inline]
    pub fn read(&self, gpa: u64, dst: &mut [u8]) -> Result<(), ForeignFault> {
        // SAFETY: `dst` is ours alone.
        unsafe { self.transfer(gpa, dst.as_mut_ptr(), dst.len(), Way::FromGuest) }
    }

    /// Copies `src` to guest memory at `gpa`. After a fault, a part may have been written.
    ///
    /// # Errors
    /// [`ForeignFault`] with the first address that failed.
    #[inline]
    pub fn write(&self, gpa: u64, src: &[u8]) -> Result<(), ForeignFault> {
        // SAFETY: `src` is only read.
        unsafe { self.transfer(gpa, src.as_ptr().cast_mut(), src.len(), Way::ToGuest) }
    }

    /// Writes `len` zero bytes at `gpa`.
    ///
    /// # Errors
    /// [`ForeignFault`] with the first address that failed.
    pub fn zero(&self, gpa: u64, len: usize) -> Result<(), ForeignFault> {
        static ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
        let mut done = 0;
        while done < len {
            let at = gpa.checked_add(done as u64).ok_or(ForeignFault { gpa, reason: Reason::OutOfRange })?;
            let part = ZEROES.get(..room(at).min(len - done)).unwrap_or_default();
            self.write(at, part)?;
            done += part.len();
        }
        Ok(())
    }

    /// Copies guest memory at `gpa` to `offset` of a page of ours.
    ///
    /// # Errors
    /// [`ForeignFault`]; [`Reason::OutOfPage`] if the page is too small.
    #[inline]
    pub fn copy_to_page(
        &self,
        gpa: u64,
        page: &SharedPage,
        offset: usize,
        len: usize,
    ) -> Result<(), ForeignFault> {
        let to = page.at(offset, len).map_err(|_| ForeignFault { gpa, reason: Reason::OutOfPage })?;
        // SAFETY: `to` is valid for `len` bytes (`at`).
        unsafe { self.transfer(gpa, to, len, Way::FromGuest) }
    }

    /// Copies `len` bytes at `offset` of a page of ours to guest memory at `gpa`.
    ///
    /// # Errors
    /// [`ForeignFault`]; [`Reason::OutOfPage`] if the page is too small.
    #[inline]
    pub fn copy_from_page(
        &self,
        gpa: u64,
        page: &SharedPage,
        offset: usize,
        len: usize,
    ) -> Result<(), ForeignFault> {
        let from = page.at(offset, len).map_err(|_| ForeignFault { gpa, reason: Reason::OutOfPage })?;
        // SAFETY: as in `copy_to_page`.
        unsafe { self.transfer(gpa, from, len, Way::ToGuest) }
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

    /// Nothing that is mapped is used any more, because the guest's frames changed
    /// (`IOREQ_TYPE_INVALIDATE`): what is used next is mapped anew, and [`ForeignMap::sweep`] unmaps
    /// the rest. Takes as long for a large window as for a small one.
    pub fn invalidate(&self) {
        // What we wrote so far must be there before somebody else gets the frames.
        full_barrier();
        let mut chunks = self.chunks.borrow_mut();
        self.forget(&mut chunks);
        chunks.invalidate();
    }

    /// Whether there may be something for [`ForeignMap::sweep`].
    #[must_use]
    pub fn is_unswept(&self) -> bool {
        self.chunks.borrow().is_unswept()
    }

    /// Unmaps a few of the pages that are not to be used any more. Call it between other work
    /// while [`ForeignMap::is_unswept`]: until then they are kept from whoever owns them.
    pub fn sweep(&self) {
        self.chunks.borrow_mut().sweep(&self.window);
    }
}
