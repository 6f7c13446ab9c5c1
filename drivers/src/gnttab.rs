//! Pages granted to another domain, taken back when dropped.
//!
//! A page that the peer still has mapped can be read or written by it at any time. Such a
//! page is never reused and never freed: it is leaked on purpose, and counted.

use core::mem;
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::{DomId, Errno, GrantRef, Hypervisor, SharedPage};

/// Pages leaked since start, because a peer kept them mapped.
static LEAKED_PAGES: AtomicUsize = AtomicUsize::new(0);

/// Pages leaked since start, because a peer kept them mapped.
#[must_use]
pub fn leaked_pages() -> usize {
    LEAKED_PAGES.load(Ordering::Relaxed)
}

/// The peer did not let go of a page; it has been leaked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Busy(pub Errno);

/// A page of ours that one other domain may map for reading and writing.
///
/// Always writable: a blkback with persistent grants maps even what it only reads as
/// writable, since the page may serve any later request.
#[derive(Debug)]
pub struct GrantedPage<H: Hypervisor> {
    hv: H,
    page: SharedPage,
    gref: GrantRef,
    revoked: bool,
}

impl<H: Hypervisor> GrantedPage<H> {
    /// Allocates a zeroed page and grants it to `remote`.
    ///
    /// # Errors
    /// `ENOMEM` without memory, `ENOSPC` if the grant table is full.
    pub fn alloc(hv: &H, remote: DomId) -> Result<Self, Errno> {
        let page = SharedPage::alloc().ok_or(Errno::ENOMEM)?;
        let gref = hv.grant_access(remote, &page, false)?;
        Ok(GrantedPage { hv: hv.clone(), page, gref, revoked: false })
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> &SharedPage {
        &self.page
    }

    /// The reference to tell the peer.
    #[must_use]
    pub fn gref(&self) -> GrantRef {
        self.gref
    }

    /// Takes the grant back and frees the page, unless somebody still holds a handle on it.
    ///
    /// # Errors
    /// [`Busy`] if the peer still has it mapped; the page is leaked and counted then.
    pub fn revoke(mut self) -> Result<(), Busy> {
        self.end()
    }

    /// As [`GrantedPage::revoke`], but a page that the peer still has mapped is handed back,
    /// to be tried again later.
    ///
    /// # Errors
    /// The page itself, still granted.
    pub fn try_revoke(mut self) -> Result<(), Self> {
        match self.hv.grant_end(self.gref) {
            Ok(()) => {
                self.revoked = true;
                Ok(())
            }
            Err(_) => Err(self),
        }
    }

    fn end(&mut self) -> Result<(), Busy> {
        if mem::replace(&mut self.revoked, true) {
            return Ok(());
        }
        self.hv.grant_end(self.gref).map_err(|errno| {
            // One handle is never dropped, so the memory is never handed out again.
            mem::forget(self.page.clone());
            LEAKED_PAGES.fetch_add(1, Ordering::Relaxed);
            Busy(errno)
        })
    }
}

impl<H: Hypervisor> Drop for GrantedPage<H> {
    fn drop(&mut self) {
        if let Err(Busy(errno)) = self.end() {
            log::warn!("grant {} not taken back ({errno}); its page is lost", self.gref);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::fake::FakeXen;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn a_dropped_grant_is_taken_back() {
        let xen = FakeXen::new(DomId(3));
        drop(GrantedPage::alloc(&xen, DomId(0)).unwrap());
        assert_eq!(xen.live_grants(), 0);
    }

    #[test]
    fn a_page_that_the_peer_keeps_is_leaked_and_counted() {
        let xen = FakeXen::new(DomId(3));
        let back = xen.domain(DomId(0));
        let before = leaked_pages();
        let mut leaked = BTreeSet::new();
        for _ in 0..100 {
            let granted = GrantedPage::alloc(&xen, DomId(0)).unwrap();
            drop(back.map_grant(DomId(3), granted.gref(), true).unwrap());
            leaked.insert(granted.page().addr());
            assert_eq!(granted.revoke(), Err(Busy(Errno::EBUSY)));
        }
        assert!(leaked_pages() >= before + 100);
        assert_eq!(xen.live_grants(), 100);
        // The peer and all of Xen go away; the memory must still not be handed out.
        drop((back, xen));
        let next: Vec<_> = core::iter::repeat_with(|| SharedPage::alloc().unwrap()).take(200).collect();
        assert!(next.iter().all(|page| !leaked.contains(&page.addr())));
    }

    #[test]
    fn a_page_that_the_peer_keeps_can_be_tried_again() {
        let xen = FakeXen::new(DomId(3));
        let back = xen.domain(DomId(0));
        let granted = GrantedPage::alloc(&xen, DomId(0)).unwrap();
        let gref = granted.gref();
        drop(back.map_grant(DomId(3), gref, true).unwrap());
        let granted = granted.try_revoke().unwrap_err();
        assert_eq!((granted.gref(), xen.live_grants()), (gref, 1));
        back.unmap_grant(DomId(3), gref).unwrap();
        assert!(granted.try_revoke().is_ok());
        assert_eq!(xen.live_grants(), 0);
    }

    #[test]
    fn no_grant_no_page() {
        let xen = FakeXen::new(DomId(3));
        xen.fail_next("grant_access", Errno::ENOSPC);
        assert_eq!(GrantedPage::alloc(&xen, DomId(0)).err(), Some(Errno::ENOSPC));
        assert_eq!(xen.live_grants(), 0);
    }
}
