//! Accesses: words and bytes of rings in place, everything else by copies of Xen's.

use super::address::{GrantFault, grant_of, offset_in_page, room};
use super::batch::Batch;
use super::grants::GuestGrants;
use super::rings::Rings;
use crate::mem::shared::{Order, PageSlice, Word};
use crate::mem::way::Way;
use alloc::boxed::Box;
use core::cell::RefCell;
use core::fmt;
use core::ptr::slice_from_raw_parts_mut;

/// What was done so far, and what is held now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GrantUse {
    /// Pages of rings that are mapped.
    pub ring_pages: usize,
    /// Copies, each within a page.
    pub copies: u64,
    /// Hypercalls that did them.
    pub calls: u64,
}

/// The target's memory by its grants. Methods take `&self`; nothing borrowed stays behind.
pub struct GrantMap {
    // By dynamic dispatch: there is a hypercall behind each call, and so all of this is compiled once.
    grants: Box<dyn GuestGrants>,
    rings: RefCell<Rings>,
    batch: RefCell<Batch>,
}

impl fmt::Debug for GrantMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantMap")
    }
}

impl GrantMap {
    /// All that `grants` gives.
    pub fn new(grants: impl GuestGrants + 'static) -> GrantMap {
        let grants: Box<dyn GuestGrants> = Box::new(grants);
        GrantMap { grants, rings: RefCell::new(Rings::new()), batch: RefCell::new(Batch::new()) }
    }

    /// What was done so far, and what is held now.
    #[must_use]
    pub fn usage(&self) -> GrantUse {
        let (copies, calls) = self.batch.borrow().counts();
        GrantUse { ring_pages: self.rings.borrow().count(), copies, calls }
    }

    /// Maps `len` bytes at `addr`, of a ring, until [`GrantMap::release`].
    ///
    /// # Errors
    /// [`GrantFault`] of the page that cannot be mapped; then none of the others is, either.
    pub fn keep(&self, addr: u64, len: u64) -> Result<(), GrantFault> {
        let Some(last) = addr.checked_add(len.saturating_sub(1)) else { return Err(GrantFault { addr }) };
        self.rings.borrow_mut().keep(&*self.grants, addr, last).map_err(|(addr, status)| {
            match grant_of(addr) {
                Some(gref) => log::warn!("a ring's page of grant {gref} cannot be mapped: {status}"),
                None => {
                    log::warn!("{addr:#x} stands for no grant: the guest's kernel does not grant its memory")
                }
            }
            GrantFault { addr }
        })
    }

    /// Unmaps what [`GrantMap::keep`] mapped for the same range.
    pub fn release(&self, addr: u64, len: u64) {
        let last = addr.saturating_add(len.saturating_sub(1));
        self.rings.borrow_mut().release(&*self.grants, addr, last);
    }

    /// Where the byte at `addr` appears, if its page is a ring's: valid up to the end of its page, until
    /// the page is released.
    #[inline]
    fn locate(&self, addr: u64) -> Option<*mut u8> {
        let base = self.rings.borrow().base(grant_of(addr)?)?;
        // SAFETY: the page is mapped, and the offset is inside it.
        Some(unsafe { base.add(offset_in_page(addr)) })
    }

    /// Copies between the guest at `addr` and `len` bytes of ours, at once.
    ///
    /// # Safety
    /// `ours` is valid for `len` bytes: for reading to the guest, for writing from it.
    #[inline]
    unsafe fn transfer(&self, addr: u64, ours: *mut u8, len: usize, way: Way) -> Result<(), GrantFault> {
        let mut done = 0;
        while done < len {
            let from = addr.wrapping_add(done as u64);
            let Some(at) = self.locate(from) else {
                // SAFETY: the caller's promise, for what is left of `len`; done when it returns.
                return unsafe { self.copy(from, ours.add(done), len - done, way) };
            };
            let count = room(from).min(len - done);
            // SAFETY: one mapped page holds `count` bytes from `at` on; `ours` is the caller's promise.
            unsafe { way.copy(at, ours.add(done), count) };
            done += count;
        }
        Ok(())
    }

    /// [`GrantMap::transfer`] by Xen.
    ///
    /// # Safety
    /// As there.
    #[inline(never)]
    unsafe fn copy(&self, addr: u64, ours: *mut u8, len: usize, way: Way) -> Result<(), GrantFault> {
        let mut batch = self.batch.borrow_mut();
        let ours = slice_from_raw_parts_mut(ours, len);
        // SAFETY: the caller's promise; `finish` comes before the return.
        unsafe { batch.add(&*self.grants, addr, ours, way) };
        batch.finish(&*self.grants)
    }

    /// Copies guest memory at `addr` into `dst`. After a fault, `dst` may be filled in part.
    ///
    /// # Errors
    /// [`GrantFault`] with the first address that failed.
    pub fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), GrantFault> {
        // SAFETY: `dst` is ours alone.
        unsafe { self.transfer(addr, dst.as_mut_ptr(), dst.len(), Way::FromGuest) }
    }

    /// Copies `src` to guest memory at `addr`. After a fault, a part may have been written.
    ///
    /// # Errors
    /// [`GrantFault`] with the first address that failed.
    pub fn write(&self, addr: u64, src: &[u8]) -> Result<(), GrantFault> {
        // SAFETY: `src` is only read.
        unsafe { self.transfer(addr, src.as_ptr().cast_mut(), src.len(), Way::ToGuest) }
    }

    /// Has guest memory at `addr` copied to a part of a page of ours, with [`GrantMap::finish_copies`] at
    /// the latest.
    ///
    /// # Errors
    /// [`GrantFault`] if the page is too small. What Xen says comes with [`GrantMap::finish_copies`].
    pub fn copy_to_page(&self, addr: u64, to: PageSlice<'_>) -> Result<(), GrantFault> {
        self.collect(addr, to, Way::FromGuest)
    }

    /// Has a part of a page of ours copied to guest memory at `addr`, as [`GrantMap::copy_to_page`].
    ///
    /// # Errors
    /// As there.
    pub fn copy_from_page(&self, addr: u64, from: PageSlice<'_>) -> Result<(), GrantFault> {
        self.collect(addr, from, Way::ToGuest)
    }

    fn collect(&self, addr: u64, slice: PageSlice<'_>, way: Way) -> Result<(), GrantFault> {
        let ours = slice_from_raw_parts_mut(slice.at().map_err(|_| GrantFault { addr })?, slice.len);
        let mut batch = self.batch.borrow_mut();
        // SAFETY: `ours` is valid (`at`), as long as the page lives: the borrow keeps it now,
        // `hold` from here on until all of it is copied.
        unsafe { batch.add(&*self.grants, addr, ours, way) };
        batch.hold(&*self.grants, slice.page);
        Ok(())
    }

    /// Does the copies that were asked for.
    ///
    /// # Errors
    /// [`GrantFault`] with the first address that failed.
    pub fn finish_copies(&self) -> Result<(), GrantFault> {
        self.batch.borrow_mut().finish(&*self.grants)
    }

    /// Where the aligned word at `addr` of a ring appears.
    #[inline]
    fn word<V: Word>(&self, addr: u64) -> Result<*mut u8, GrantFault> {
        let at = self.locate(addr).filter(|_| addr.is_multiple_of(size_of::<V>() as u64));
        at.ok_or(GrantFault { addr })
    }

    /// Loads the word at `addr` of a ring in one access.
    ///
    /// # Errors
    /// [`GrantFault`]: misaligned, or no ring's.
    #[inline]
    pub fn load<V: Word>(&self, addr: u64, order: Order) -> Result<V, GrantFault> {
        let at = self.word::<V>(addr)?;
        // SAFETY: `at` is in a mapped page, aligned since the page is, and so inside it.
        Ok(unsafe { V::load(at, order) })
    }

    /// Stores the word at `addr` of a ring in one access.
    ///
    /// # Errors
    /// [`GrantFault`]: misaligned, or no ring's.
    #[inline]
    pub fn store<V: Word>(&self, addr: u64, value: V, order: Order) -> Result<(), GrantFault> {
        let at = self.word::<V>(addr)?;
        // SAFETY: as in `load`.
        unsafe { V::store(at, value, order) };
        Ok(())
    }
}
