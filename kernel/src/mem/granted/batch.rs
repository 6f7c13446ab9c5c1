//! Copies that are collected until Xen does them in one go.

use super::address::{GRANT_BIT, GrantFault, grant_of, offset_in_page, room};
use super::grants::GuestGrants;
use crate::mem::shared::SharedPage;
use crate::mem::way::Way;
use alloc::vec::Vec;
use xen_pv_sys::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTST_GENERAL_ERROR, GNTST_OKAY, GnttabCopy, GnttabCopyEnd,
};
use xen_pv_sys::xen::DOMID_SELF;
use xen_pv_sys::{PAGE_SHIFT, PAGE_SIZE};

/// Copies that one hypercall does at most.
pub const BATCH: usize = 64;

/// Copies to be done, and what became of those that were.
pub(super) struct Batch {
    operations: Vec<GnttabCopy>,
    /// Pages of ours that the operations name, so that none is freed before they are done.
    pages: Vec<SharedPage>,
    /// Where the first one failed, since the last [`Batch::finish`].
    failed: Option<u64>,
    /// Operations done and hypercalls made.
    copies: u64,
    calls: u64,
}

impl Batch {
    pub(super) fn new() -> Batch {
        // Nothing is allocated later.
        let (operations, pages) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        Batch { operations, pages, failed: None, copies: 0, calls: 0 }
    }

    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.copies, self.calls)
    }

    /// Keeps `page` until what was added so far is done.
    pub(super) fn hold(&mut self, grants: &dyn GuestGrants, page: &SharedPage) {
        if self.pages.len() == BATCH {
            self.issue(grants);
        }
        self.pages.push(page.clone());
    }

    /// Adds a copy of as many bytes as `ours` has, between it and the guest's `addr`.
    ///
    /// # Safety
    /// `ours` is valid until [`Batch::finish`] has been called: for reading to the guest, for writing from it.
    pub(super) unsafe fn add(&mut self, grants: &dyn GuestGrants, addr: u64, ours: *mut [u8], way: Way) {
        let (own, len) = (ours.expose_provenance() as u64, ours.len());
        let mut done = 0;
        while done < len {
            // No end wraps: the segments' ends were checked, and memory of ours does not.
            let (from, to) = (addr.wrapping_add(done as u64), own.wrapping_add(done as u64));
            let count = room(from).min(room(to)).min(len - done);
            let Some(gref) = grant_of(from) else {
                self.failed.get_or_insert(from);
                return;
            };
            if self.operations.len() == BATCH {
                self.issue(grants);
            }
            self.operations.push(operation(grants.domain(), (gref, from), to, count, way));
            done += count;
        }
    }

    /// Does all that was added.
    ///
    /// # Errors
    /// [`GrantFault`] with the first address that failed since the last call.
    pub(super) fn finish(&mut self, grants: &dyn GuestGrants) -> Result<(), GrantFault> {
        self.issue(grants);
        match self.failed.take() {
            None => Ok(()),
            Some(addr) => Err(GrantFault { addr }),
        }
    }

    fn issue(&mut self, grants: &dyn GuestGrants) {
        if !self.operations.is_empty() {
            self.calls += 1;
            self.copies += self.operations.len() as u64;
            // SAFETY: `add` was promised that each is valid, and `hold` keeps the pages until here.
            unsafe { grants.copy(&mut self.operations) };
            let failed = self.operations.iter().find(|operation| operation.status != GNTST_OKAY);
            if let Some(operation) = failed {
                self.failed.get_or_insert(address_of(operation));
            }
            self.operations.clear();
        }
        self.pages.clear();
    }
}

/// `grant`: the grant and an address in its page; `own`: an address of ours.
fn operation(domain: u16, grant: (u32, u64), own: u64, len: usize, way: Way) -> GnttabCopy {
    // Offset and length are at most 4096.
    let short = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
    let (gref, addr) = grant;
    let offset = short(offset_in_page(addr));
    let theirs = GnttabCopyEnd { page: gref.into(), domid: domain, offset, pad: 0 };
    let offset = short(offset_in_page(own));
    let ours = GnttabCopyEnd { page: own >> PAGE_SHIFT, domid: DOMID_SELF, offset, pad: 0 };
    let (source, dest, flags) = match way {
        Way::FromGuest => (theirs, ours, GNTCOPY_SOURCE_GREF),
        Way::ToGuest => (ours, theirs, GNTCOPY_DEST_GREF),
    };
    // Should Xen stop early, what it did not reach must read as failed.
    GnttabCopy { source, dest, len: short(len), flags, status: GNTST_GENERAL_ERROR, pad: 0 }
}

/// The guest's address of an operation.
fn address_of(operation: &GnttabCopy) -> u64 {
    let from_guest = operation.flags & GNTCOPY_SOURCE_GREF != 0;
    let end = if from_guest { operation.source } else { operation.dest };
    GRANT_BIT | (end.page << PAGE_SHIFT) | u64::from(end.offset)
}

const _: () = assert!(PAGE_SIZE <= u16::MAX as usize);
