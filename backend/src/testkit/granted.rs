//! The memory of a guest that grants it, with the rules of grants: words only in rings that are kept, bytes by
//! copies, and nothing of a page that the guest has taken back.

use super::memory::TestMemory;
use crate::guest_mem::{GuestAddr, GuestMemory, GuestRange, MemFault, RingKeeper};
use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use kernel::granted::GRANT_BIT;
use kernel::{Order, PageSlice};

/// Over a guest's memory: the grant of a page is its frame's number. Clones are the same.
#[derive(Clone)]
pub struct GrantedMemory {
    inner: TestMemory,
    /// Pages of rings, once for each range that is kept.
    kept: Rc<RefCell<Vec<u64>>>,
    /// Pages that are not granted (any more).
    revoked: Rc<RefCell<BTreeSet<u64>>>,
    /// Copies that were asked for and not finished.
    unfinished: Rc<Cell<u32>>,
    failed: Rc<Cell<Option<MemFault>>>,
}

impl fmt::Debug for GrantedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantedMemory")
    }
}

fn pages(addr: u64, len: u64) -> core::ops::RangeInclusive<u64> {
    addr / 4096..=(addr + len.max(1) - 1) / 4096
}

impl GrantedMemory {
    /// All of `inner` is granted.
    #[must_use]
    pub fn new(inner: TestMemory) -> GrantedMemory {
        GrantedMemory {
            inner,
            kept: Rc::default(),
            revoked: Rc::default(),
            unfinished: Rc::default(),
            failed: Rc::default(),
        }
    }

    /// The guest takes the page of that address back.
    ///
    /// # Panics
    /// The device still has it: a real guest would give its disk up.
    pub fn revoke(&self, addr: u64) {
        assert!(!self.kept.borrow().contains(&(addr / 4096)), "the page at {addr:#x} is still in use");
        self.revoked.borrow_mut().insert(addr / 4096);
    }

    /// How many pages of rings are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.borrow().len()
    }

    fn bare(addr: GuestAddr) -> Result<u64, MemFault> {
        if addr.raw() & GRANT_BIT == 0 { Err(MemFault { addr }) } else { Ok(addr.raw() & !GRANT_BIT) }
    }

    /// The plain address, if each page is granted.
    fn granted(&self, addr: GuestAddr, len: usize) -> Result<GuestAddr, MemFault> {
        let bare = Self::bare(addr)?;
        let revoked = self.revoked.borrow();
        let whole = pages(bare, len as u64).all(|page| !revoked.contains(&page));
        if whole { Ok(GuestAddr::new(bare)) } else { Err(MemFault { addr }) }
    }

    fn at_once(&self, addr: GuestAddr, len: usize) -> Result<GuestAddr, MemFault> {
        assert_eq!(self.unfinished.get(), 0, "copies were not finished");
        self.granted(addr, len)
    }

    fn word(&self, addr: GuestAddr) -> Result<GuestAddr, MemFault> {
        let bare = Self::bare(addr)?;
        let kept = self.kept.borrow().contains(&(bare / 4096));
        if kept { Ok(GuestAddr::new(bare)) } else { Err(MemFault { addr }) }
    }

    fn collect(&self, addr: GuestAddr, done: Result<(), MemFault>) -> Result<(), MemFault> {
        self.unfinished.set(self.unfinished.get() + 1);
        if done.is_err() && self.failed.get().is_none() {
            self.failed.set(Some(MemFault { addr }));
        }
        Ok(())
    }
}

impl GuestMemory for GrantedMemory {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        self.inner.read(self.at_once(addr, dst.len())?, dst)
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        self.inner.write(self.at_once(addr, src.len())?, src)
    }

    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        self.inner.load_u16(self.word(addr)?, order)
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        assert_eq!(self.unfinished.get(), 0, "copies were not finished");
        self.inner.store_u16(self.word(addr)?, value, order)
    }

    fn copy_to_page(&self, addr: GuestAddr, to: PageSlice<'_>) -> Result<(), MemFault> {
        let done = self.granted(addr, to.len).and_then(|addr| self.inner.copy_to_page(addr, to));
        self.collect(addr, done)
    }

    fn copy_from_page(&self, addr: GuestAddr, from: PageSlice<'_>) -> Result<(), MemFault> {
        let done = self.granted(addr, from.len).and_then(|addr| self.inner.copy_from_page(addr, from));
        self.collect(addr, done)
    }

    fn finish_copies(&self) -> Result<(), MemFault> {
        self.unfinished.set(0);
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl RingKeeper for GrantedMemory {
    fn keep(&self, range: GuestRange) -> Result<(), MemFault> {
        let len = usize::try_from(range.len_bytes()).expect("a short ring");
        let start = self.granted(range.start(), len)?;
        self.kept.borrow_mut().extend(pages(start.raw(), range.len_bytes()));
        Ok(())
    }

    fn release(&self, range: GuestRange) {
        let start = Self::bare(range.start()).expect("an address that was kept");
        let mut kept = self.kept.borrow_mut();
        for wanted in pages(start, range.len_bytes()) {
            let at = kept.iter().position(|&page| page == wanted).expect("a page that is kept");
            kept.swap_remove(at);
        }
    }
}
