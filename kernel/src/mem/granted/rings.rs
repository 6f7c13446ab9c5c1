//! The pages of rings, which are mapped.

use super::address::grant_of;
use super::grants::{GrantStatus, GuestGrants, RingPage};
use alloc::vec::Vec;
use core::cell::Cell;

/// A page that is mapped.
struct Kept {
    gref: u32,
    page: RingPage,
    /// How many ranges need it: parts of a ring may share one.
    users: u32,
}

/// Pages that are remembered: those of a queue's rings follow each other.
const RECENT: usize = 16;

/// Every page of every ring.
pub(super) struct Rings {
    /// In the order of their grants.
    pages: Vec<Kept>,
    /// By grant, modulo their count. Forgotten before any page is unmapped.
    recent: [Cell<(u32, *mut u8)>; RECENT],
}

impl Rings {
    pub(super) const fn new() -> Rings {
        Rings { pages: Vec::new(), recent: [const { Cell::new((0, core::ptr::null_mut())) }; RECENT] }
    }

    /// How many pages are mapped.
    pub(super) fn count(&self) -> usize {
        self.pages.len()
    }

    /// First byte of the page, if it is mapped.
    #[inline]
    pub(super) fn base(&self, gref: u32) -> Option<*mut u8> {
        let place = self.recent.get(gref as usize % RECENT)?;
        let (recent, base) = place.get();
        if recent == gref && !base.is_null() {
            return Some(base);
        }
        self.find(gref, place)
    }

    #[inline(never)]
    fn find(&self, gref: u32, place: &Cell<(u32, *mut u8)>) -> Option<*mut u8> {
        let at = self.pages.binary_search_by_key(&gref, |kept| kept.gref).ok()?;
        let base = self.pages.get(at)?.page.base.as_ptr();
        place.set((gref, base));
        Some(base)
    }

    /// Maps the pages from `first` to `last`, addresses of both ends. All or none.
    ///
    /// # Errors
    /// The address of the page that cannot be mapped, and why.
    pub(super) fn keep(
        &mut self,
        grants: &dyn GuestGrants,
        first: u64,
        last: u64,
    ) -> Result<(), (u64, GrantStatus)> {
        let mut addr = first;
        loop {
            if let Err(status) = self.keep_page(grants, addr) {
                if addr != first {
                    // What is before it in full pages.
                    self.release(grants, first, page_start(addr).wrapping_sub(1));
                }
                return Err((addr, status));
            }
            match next_page(addr, last) {
                Some(next) => addr = next,
                None => return Ok(()),
            }
        }
    }

    fn keep_page(&mut self, grants: &dyn GuestGrants, addr: u64) -> Result<(), GrantStatus> {
        let none = GrantStatus(xen_pv_sys::grant_table::GNTST_BAD_GNTREF);
        let gref = grant_of(addr).ok_or(none)?;
        match self.pages.binary_search_by_key(&gref, |kept| kept.gref) {
            Ok(at) => {
                if let Some(kept) = self.pages.get_mut(at) {
                    kept.users = kept.users.saturating_add(1);
                }
            }
            Err(at) => {
                let page = grants.map(gref)?;
                self.pages.insert(at, Kept { gref, page, users: 1 });
            }
        }
        Ok(())
    }

    /// The inverse of [`Rings::keep`].
    pub(super) fn release(&mut self, grants: &dyn GuestGrants, first: u64, last: u64) {
        for place in &self.recent {
            place.set((0, core::ptr::null_mut()));
        }
        let mut next = Some(first);
        while let Some(addr) = next {
            self.release_page(grants, addr);
            next = next_page(addr, last);
        }
    }

    fn release_page(&mut self, grants: &dyn GuestGrants, addr: u64) {
        let Some(gref) = grant_of(addr) else { return };
        let Ok(at) = self.pages.binary_search_by_key(&gref, |kept| kept.gref) else { return };
        let Some(kept) = self.pages.get_mut(at) else { return };
        kept.users = kept.users.saturating_sub(1);
        if kept.users == 0 {
            let page = self.pages.remove(at).page;
            if let Err(status) = grants.unmap(page) {
                log::error!("a ring's page of grant {gref} cannot be unmapped: {status}");
            }
        }
    }
}

fn page_start(addr: u64) -> u64 {
    addr & !(xen_pv_sys::PAGE_SIZE as u64 - 1)
}

/// An address of the page after that of `addr`, unless that ends what goes to `last`.
fn next_page(addr: u64, last: u64) -> Option<u64> {
    page_start(addr).checked_add(xen_pv_sys::PAGE_SIZE as u64).filter(|&next| next <= last)
}
