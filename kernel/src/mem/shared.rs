//! Memory that another domain can change at any time: never a reference, always a copy.
//!
//! A [`SharedPage`] hands out single ordered loads and stores and bulk copies, all checked
//! against the page's end. Read a field once, then judge the copy.

use super::copy::copy_shared;
#[cfg(feature = "model")]
use super::model;
pub use super::order::Order;
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::rc::Rc;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use xen_pv_sys::PAGE_SIZE;

/// An access that would leave the page or that is not aligned. A bug of the caller's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutOfPage;

impl fmt::Display for OutOfPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("access outside the shared page")
    }
}

/// Orders everything before against everything after, as every CPU sees it.
#[inline]
pub fn full_barrier() {
    #[cfg(feature = "model")]
    if let Some(model) = model::current() {
        return model.full_barrier();
    }
    fence(Ordering::SeqCst);
}

/// A word that the CPU reads and writes in one go.
pub trait Word: Copy + sealed::Sealed {
    #[doc(hidden)]
    /// # Safety
    /// `at` is valid for an aligned read of `Self` that may race with other writers.
    unsafe fn load(at: *mut u8, order: Order) -> Self;
    #[doc(hidden)]
    /// # Safety
    /// `at` is valid for an aligned write of `Self` that may race with other accesses.
    unsafe fn store(at: *mut u8, value: Self, order: Order);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! word {
    ($($word:ty, $atomic:ty;)*) => {$(
        impl sealed::Sealed for $word {}
        impl Word for $word {
            #[inline]
            unsafe fn load(at: *mut u8, order: Order) -> Self {
                #[cfg(feature = "model")]
                if let Some(value) = model::current().and_then(|model| model.load(at.addr(), size_of::<$word>(), order)) {
                    return value.try_into().unwrap_or_default();
                }
                // SAFETY: the caller promises an aligned, valid address; an atomic access
                // permits the peer's concurrent writes.
                let cell = unsafe { <$atomic>::from_ptr(at.cast()) };
                cell.load(match order {
                    Order::Relaxed => Ordering::Relaxed,
                    Order::AcqRel => Ordering::Acquire,
                })
            }
            #[inline]
            unsafe fn store(at: *mut u8, value: Self, order: Order) {
                #[cfg(feature = "model")]
                if model::current().is_some_and(|model| model.store(at.addr(), size_of::<$word>(), value.into(), order)) {
                    return;
                }
                // SAFETY: as in `load`.
                let cell = unsafe { <$atomic>::from_ptr(at.cast()) };
                cell.store(value, match order {
                    Order::Relaxed => Ordering::Relaxed,
                    Order::AcqRel => Ordering::Release,
                });
            }
        }
    )*};
}

word! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
}

/// One 4 KiB page shared with another domain. Clones are the same page.
#[derive(Clone)]
pub struct SharedPage {
    inner: Rc<Inner>,
}

struct Inner {
    base: NonNull<u8>,
    /// Ours to free when the last handle goes.
    owned: bool,
}

const LAYOUT: Layout = match Layout::from_size_align(PAGE_SIZE, PAGE_SIZE) {
    Ok(layout) => layout,
    Err(_) => panic!("a page is a valid layout"),
};

impl Drop for Inner {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: `owned` is set only by `alloc`, which got `base` from the same
            // allocator with the same layout; this is the last handle.
            unsafe { dealloc(self.base.as_ptr(), LAYOUT) };
        }
    }
}

impl fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPage({:p})", self.inner.base)
    }
}

impl SharedPage {
    /// Allocates a zeroed page of our own, to be granted to a peer. It is freed with its last
    /// handle, so keep one until the grant has ended. `None`: out of memory.
    #[must_use]
    pub fn alloc() -> Option<SharedPage> {
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(LAYOUT) })?;
        Some(SharedPage { inner: Rc::new(Inner { base, owned: true }) })
    }

    /// Wraps a page that is mapped already.
    ///
    /// # Safety
    /// `base` is page-aligned and stays mapped, readable and writable, for one page as long
    /// as any clone of the result lives, and is reached only through `SharedPage`s.
    pub unsafe fn from_mapped(base: NonNull<u8>) -> SharedPage {
        SharedPage { inner: Rc::new(Inner { base, owned: false }) }
    }

    /// Address of the page, for hypercalls: on the stub virtual and physical are the same.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.inner.base.as_ptr().addr() as u64
    }

    /// The only way to an address in the page: `len` bytes at `offset`, inside it.
    #[inline]
    pub(crate) fn at(&self, offset: usize, len: usize) -> Result<*mut u8, OutOfPage> {
        if len > PAGE_SIZE || offset > PAGE_SIZE - len {
            return Err(OutOfPage);
        }
        // SAFETY: `offset + len <= PAGE_SIZE` was just checked, and the page is one object.
        Ok(unsafe { self.inner.base.as_ptr().add(offset) })
    }

    /// Loads the word at byte `offset`.
    ///
    /// # Errors
    /// [`OutOfPage`] if it is not aligned or not inside.
    #[inline]
    pub fn load<W: Word>(&self, offset: usize, order: Order) -> Result<W, OutOfPage> {
        let at = self.at(offset, size_of::<W>())?;
        if !offset.is_multiple_of(size_of::<W>()) {
            return Err(OutOfPage);
        }
        // SAFETY: inside the page (`at`) and aligned (the page is, and `offset` is a
        // multiple of the word's size); the page lives as long as `self`.
        Ok(unsafe { W::load(at, order) })
    }

    /// Stores `value` at byte `offset`.
    ///
    /// # Errors
    /// [`OutOfPage`] if it is not aligned or not inside.
    #[inline]
    pub fn store<W: Word>(&self, offset: usize, value: W, order: Order) -> Result<(), OutOfPage> {
        let at = self.at(offset, size_of::<W>())?;
        if !offset.is_multiple_of(size_of::<W>()) {
            return Err(OutOfPage);
        }
        // SAFETY: as in `load`.
        unsafe { W::store(at, value, order) };
        Ok(())
    }

    /// Clears `bits` of the word at byte `offset` and returns what it was. Only for pages that
    /// Xen alone shares: another domain could make an exclusive access fail without end.
    ///
    /// # Errors
    /// [`OutOfPage`] as for [`SharedPage::load`].
    pub(crate) fn fetch_and_not(&self, offset: usize, bits: u64) -> Result<u64, OutOfPage> {
        let at = self.at(offset, 8)?;
        if !offset.is_multiple_of(8) {
            return Err(OutOfPage);
        }
        #[cfg(feature = "model")]
        if let Some(word) = model::current().and_then(|model| model.clear_bits(at.addr(), bits)) {
            return Ok(word);
        }
        // SAFETY: inside the page and aligned, as in `load`.
        let cell = unsafe { AtomicU64::from_ptr(at.cast()) };
        Ok(cell.fetch_and(!bits, Ordering::SeqCst))
    }

    /// Replaces the half-word at byte `offset` by `new` if it is `current`. Returns what it was:
    /// `current` if it was replaced. Only for pages that Xen alone shares.
    ///
    /// # Errors
    /// [`OutOfPage`] as for [`SharedPage::load`].
    pub(crate) fn compare_exchange(&self, offset: usize, current: u16, new: u16) -> Result<u16, OutOfPage> {
        let at = self.at(offset, 2)?;
        if !offset.is_multiple_of(2) {
            return Err(OutOfPage);
        }
        // SAFETY: inside the page and aligned, as in `load`.
        let cell = unsafe { AtomicU16::from_ptr(at.cast()) };
        let replaced = cell.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst);
        Ok(replaced.unwrap_or_else(|found| found))
    }

    /// Copies bytes out of the page, starting at `offset`. Not atomic as a whole.
    ///
    /// # Errors
    /// [`OutOfPage`] if the range is not inside.
    #[inline]
    pub fn read(&self, offset: usize, dst: &mut [u8]) -> Result<(), OutOfPage> {
        let src = self.at(offset, dst.len())?;
        // SAFETY: `src` is valid for `dst.len()` bytes (`at`); `dst` is a unique borrow of
        // ours and so does not overlap shared memory.
        unsafe { copy_shared(src, dst.as_mut_ptr(), dst.len()) };
        Ok(())
    }

    /// Copies bytes into the page, starting at `offset`. Not atomic as a whole.
    ///
    /// # Errors
    /// [`OutOfPage`] if the range is not inside.
    #[inline]
    pub fn write(&self, offset: usize, src: &[u8]) -> Result<(), OutOfPage> {
        let dst = self.at(offset, src.len())?;
        // SAFETY: `dst` is valid for `src.len()` bytes (`at`), `src` is a borrow of ours.
        unsafe { copy_shared(src.as_ptr().cast_mut(), dst, src.len()) };
        Ok(())
    }

    /// Copies `len` bytes from `src_offset` of this page to `dst_offset` of another.
    ///
    /// # Errors
    /// [`OutOfPage`] if either range is not inside its page.
    pub fn copy_to(
        &self,
        src_offset: usize,
        dst: &SharedPage,
        dst_offset: usize,
        len: usize,
    ) -> Result<(), OutOfPage> {
        let from = self.at(src_offset, len)?;
        let to = dst.at(dst_offset, len)?;
        // SAFETY: both ranges were checked by `at`; `copy_shared` goes upwards and each word
        // is read before it is written, so an overlap gives odd data, not undefined access.
        unsafe { copy_shared(from, to, len) };
        Ok(())
    }

    /// Zeroes the page, so that no stale byte reaches a peer.
    pub fn zero(&self) {
        for offset in (0..PAGE_SIZE).step_by(8) {
            let stored = self.store(offset, 0u64, Order::Relaxed);
            debug_assert!(stored.is_ok());
        }
    }
}

/// A part of a page. Whether it lies inside the page is checked at each use.
#[derive(Clone, Copy, Debug)]
pub struct PageSlice<'a> {
    /// The page.
    pub page: &'a SharedPage,
    /// First byte.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
}

impl PageSlice<'_> {
    /// Where its first byte lies: valid for `len` bytes.
    #[inline]
    pub(crate) fn at(self) -> Result<*mut u8, OutOfPage> {
        self.page.at(self.offset, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn page() -> SharedPage {
        SharedPage::alloc().expect("host memory")
    }

    #[test]
    fn words_must_be_aligned_and_inside() {
        let page = page();
        assert_eq!(page.load::<u32>(4093, Order::Relaxed), Err(OutOfPage));
        assert_eq!(page.load::<u32>(2, Order::Relaxed), Err(OutOfPage));
        assert_eq!(page.store(4096, 1u8, Order::Relaxed), Err(OutOfPage));
        assert_eq!(page.store(usize::MAX - 1, 1u16, Order::AcqRel), Err(OutOfPage));
        assert_eq!(page.store(4088, 7u64, Order::AcqRel), Ok(()));
        assert_eq!(page.load::<u64>(4088, Order::AcqRel), Ok(7));
    }

    #[test]
    fn a_half_word_is_replaced_only_if_it_is_the_expected_one() {
        let page = page();
        page.store(6, 5u16, Order::Relaxed).expect("inside");
        assert_eq!(page.compare_exchange(6, 4, 9), Ok(5));
        assert_eq!(page.load::<u16>(6, Order::Relaxed), Ok(5));
        assert_eq!(page.compare_exchange(6, 5, 9), Ok(5));
        assert_eq!(page.load::<u16>(6, Order::Relaxed), Ok(9));
        assert_eq!(page.compare_exchange(7, 0, 1), Err(OutOfPage));
        assert_eq!(page.compare_exchange(4096, 0, 1), Err(OutOfPage));
    }

    #[test]
    fn copies_keep_every_byte_at_any_alignment() {
        let (a, b) = (page(), page());
        let bytes: Vec<u8> = (0..4096u32).map(|i| u8::try_from(i % 251).unwrap_or(0)).collect();
        a.write(0, &bytes).expect("inside");
        for (from, to, len) in [
            (0, 0, 4096),
            (1, 9, 100),
            (3, 4, 77),
            (8, 16, 33),
            (4095, 0, 1),
            (5, 5, 0),
            (8, 16, 32),
            (4, 8, 16),
            (2, 6, 8),
            (16, 24, 56),
        ] {
            b.zero();
            a.copy_to(from, &b, to, len).expect("inside");
            let mut got = alloc::vec![0u8; 4096];
            b.read(0, &mut got).expect("inside");
            assert_eq!(got[to..to + len], bytes[from..from + len]);
            assert!(got[..to].iter().chain(&got[to + len..]).all(|&byte| byte == 0));
        }
        assert_eq!(a.copy_to(4000, &b, 0, 97), Err(OutOfPage));
        assert_eq!(a.copy_to(0, &b, 4000, 97), Err(OutOfPage));
    }
}
