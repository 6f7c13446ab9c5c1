//! Accesses: an address becomes a place in the window, and bytes are copied.

use super::chunks::{Chunks, MapUse};
use super::fault::{ForeignFault, Reason};
use super::window::{ADDRESS_LIMIT, CHUNK_SHIFT, CHUNK_SIZE, Window};
use crate::mem::shared::{Order, PageSlice, Word, full_barrier};
use crate::mem::way::Way;
use core::cell::{Cell, RefCell};
use core::fmt;
use xen_pv_sys::PAGE_SIZE;

/// Bytes from `gpa` to the end of its page.
#[inline]
fn room(gpa: u64) -> usize {
    // Below 4096: fits.
    PAGE_SIZE - usize::try_from(gpa % PAGE_SIZE as u64).unwrap_or(0)
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

    /// Copies guest memory at `gpa` to a part of a page of ours.
    ///
    /// # Errors
    /// [`ForeignFault`]; [`Reason::OutOfPage`] if the page is too small.
    #[inline]
    pub fn copy_to_page(&self, gpa: u64, to: PageSlice<'_>) -> Result<(), ForeignFault> {
        let ours = to.at().map_err(|_| ForeignFault { gpa, reason: Reason::OutOfPage })?;
        // SAFETY: `ours` is valid for `len` bytes (`at`).
        unsafe { self.transfer(gpa, ours, to.len, Way::FromGuest) }
    }

    /// Copies a part of a page of ours to guest memory at `gpa`.
    ///
    /// # Errors
    /// [`ForeignFault`]; [`Reason::OutOfPage`] if the page is too small.
    #[inline]
    pub fn copy_from_page(&self, gpa: u64, from: PageSlice<'_>) -> Result<(), ForeignFault> {
        let ours = from.at().map_err(|_| ForeignFault { gpa, reason: Reason::OutOfPage })?;
        // SAFETY: as in `copy_to_page`.
        unsafe { self.transfer(gpa, ours, from.len, Way::ToGuest) }
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
    /// (`IOREQ_TYPE_INVALIDATE`): what is used next is mapped again, and [`ForeignMap::sweep`] unmaps
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
