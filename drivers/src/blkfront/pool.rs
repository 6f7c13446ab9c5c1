//! The bounce pages: allocated and granted once, lent to requests.
//!
//! A free list runs through an array of links, so lending allocates nothing. A [`Bounce`]
//! is the only right to its pages: it is not `Clone`, moves into the request and comes back
//! with the completion.
//!
//! Pages are not zeroed between requests. They hold data of one disk of one guest only, the
//! blkback serves that disk anyway, and a read's bytes reach the guest only if the whole
//! read succeeded. New pages are zeroed, so nothing of the stub's own is ever shown.

use crate::gnttab::GrantedPage;
use alloc::boxed::Box;
use alloc::vec::Vec;
use kernel::{Hypervisor, SharedPage};

/// End of a list.
const END: u16 = u16::MAX;

/// Pages lent from a pool.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "dropping it loses its pages: give it back or submit it"]
pub struct Bounce {
    /// The pool it belongs to.
    pool: u32,
    first: u16,
    count: u16,
}

impl Bounce {
    /// Pages in it.
    #[must_use]
    pub fn page_count(&self) -> u16 {
        self.count
    }
}

/// Pages of a pool, counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolCount {
    /// All pages.
    pub total: u16,
    /// Pages that can be taken.
    pub free: u16,
}

/// A fixed set of granted pages.
#[derive(Debug)]
pub(super) struct Pool<H: Hypervisor> {
    /// Tells its bounces from those of another pool.
    id: u32,
    pages: Box<[GrantedPage<H>]>,
    /// For each page, the next in its list: the free list or a bounce's.
    next: Box<[u16]>,
    free_head: u16,
    free: u16,
}

impl<H: Hypervisor> Pool<H> {
    /// Lends `pages`, at most `u16::MAX - 1`. `id` is unique among pools in use.
    pub(super) fn new(pages: Vec<GrantedPage<H>>, id: u32) -> Self {
        let count = u16::try_from(pages.len()).unwrap_or(END);
        let after = |index: u16| Some(index.saturating_add(1)).filter(|&next| next != count);
        Pool {
            id,
            pages: pages.into(),
            next: (0..count).map(|index| after(index).unwrap_or(END)).collect(),
            free_head: if count == 0 { END } else { 0 },
            free: count,
        }
    }

    pub(super) fn count(&self) -> PoolCount {
        PoolCount { total: u16::try_from(self.pages.len()).unwrap_or(END), free: self.free }
    }

    /// Takes `count` pages from the free list's head.
    pub(super) fn take(&mut self, count: u16) -> Option<Bounce> {
        if count == 0 || count > self.free {
            return None;
        }
        let first = self.free_head;
        let last = self.nth(first, count.checked_sub(1)?)?;
        // The bounce's own list ends by its count.
        self.free_head = *self.next.get(usize::from(last))?;
        self.free = self.free.saturating_sub(count);
        Some(Bounce { pool: self.id, first, count })
    }

    /// Puts a bounce's pages back. One of another pool is a bug of the caller's; its pages
    /// are not touched.
    pub(super) fn give_back(&mut self, bounce: Bounce) {
        let Bounce { pool, first, count } = bounce;
        debug_assert_eq!(pool, self.id, "a bounce of another disk");
        let last = count.checked_sub(1).and_then(|hops| self.nth(first, hops));
        let Some(last) = last.filter(|_| pool == self.id) else {
            log::error!("blkfront: a bounce of another disk was given back");
            return;
        };
        if let Some(end) = self.next.get_mut(usize::from(last)) {
            *end = self.free_head;
            self.free_head = first;
            self.free = self.free.saturating_add(count);
        }
    }

    /// Whether the bounce is of this pool and not of another disk's.
    pub(super) fn owns(&self, bounce: &Bounce) -> bool {
        bounce.pool == self.id
    }

    /// The page this many hops after `first` in its list.
    fn nth(&self, first: u16, hops: u16) -> Option<u16> {
        let mut at = first;
        for _ in 0..hops {
            at = *self.next.get(usize::from(at))?;
        }
        Some(at).filter(|&at| at != END)
    }

    /// The pages of a bounce, in order; none if it is of another pool.
    pub(super) fn pages<'a>(
        &'a self,
        bounce: &Bounce,
    ) -> impl Iterator<Item = &'a GrantedPage<H>> + use<'a, H> {
        let mut left = if self.owns(bounce) { bounce.count } else { 0 };
        let mut at = bounce.first;
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let index = usize::from(at);
            at = *self.next.get(index)?;
            self.pages.get(index)
        })
    }

    /// The page at place `index` of a bounce.
    pub(super) fn page(&self, bounce: &Bounce, index: u16) -> Option<&SharedPage> {
        self.pages(bounce).nth(index.into()).map(GrantedPage::page)
    }

    /// Takes the pool apart, for revocation.
    pub(super) fn into_pages(self) -> Vec<GrantedPage<H>> {
        self.pages.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::DomId;
    use kernel::fake::FakeXen;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pool(count: u16) -> Pool<FakeXen> {
        let xen = FakeXen::new(DomId(1));
        let pages = (0..count).map(|_| GrantedPage::alloc(&xen, DomId(0)).unwrap()).collect();
        Pool::new(pages, 7)
    }

    proptest! {
        #[test]
        fn no_page_is_lent_twice_or_lost(
            total in 1u16..40,
            steps in prop::collection::vec((any::<bool>(), 0u16..12, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut pool = pool(total);
            let mut lent: Vec<Bounce> = Vec::new();
            for (take, count, which) in steps {
                if take {
                    let free = pool.count().free;
                    match pool.take(count) {
                        Some(bounce) => lent.push(bounce),
                        None => prop_assert!(count == 0 || count > free),
                    }
                } else if !lent.is_empty() {
                    let bounce = lent.swap_remove(which.index(lent.len()));
                    pool.give_back(bounce);
                }
                let held: Vec<_> =
                    lent.iter().flat_map(|bounce| pool.pages(bounce)).map(|page| page.gref().0).collect();
                let counted: usize = lent.iter().map(|bounce| usize::from(bounce.page_count())).sum();
                prop_assert_eq!(held.len(), counted);
                prop_assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), held.len());
                prop_assert_eq!(counted + usize::from(pool.count().free), usize::from(total));
            }
        }
    }

    #[test]
    fn an_empty_request_gets_no_bounce() {
        let mut pool = pool(4);
        assert_eq!(pool.take(0), None);
        assert_eq!(pool.take(5), None);
    }
}
