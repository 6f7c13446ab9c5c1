//! A fake's side of a ring whose frontend is ours.

use crate::ring::ring_entries;
use alloc::vec::Vec;
use kernel::fake::FakeXen;
use kernel::{DomId, GrantRef, Hypervisor, Order, Port, SharedPage};
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};

/// A ring that is mapped.
pub(super) struct BackRing {
    pages: Vec<SharedPage>,
    grefs: Vec<GrantRef>,
    entry_bytes: usize,
    entries: u32,
    req_cons: u32,
    pub(super) rsp_prod: u32,
}

impl BackRing {
    /// Maps the pages that `owner` has granted, and goes on where the ring is.
    pub(super) fn map(me: &FakeXen, owner: DomId, grefs: Vec<GrantRef>, entry_bytes: usize) -> BackRing {
        let pages: Vec<_> =
            grefs.iter().map(|gref| me.map_grant(owner, *gref, true).expect("a granted ring")).collect();
        let entries = ring_entries(pages.len(), entry_bytes);
        let mut ring = BackRing { pages, grefs, entry_bytes, entries, req_cons: 0, rsp_prod: 0 };
        ring.rsp_prod = ring.word(RSP_PROD);
        ring.req_cons = ring.rsp_prod;
        ring
    }

    pub(super) fn unmap(&self, me: &FakeXen, owner: DomId) {
        for gref in &self.grefs {
            me.unmap_grant(owner, *gref).expect("mapped");
        }
    }

    fn word(&self, field: usize) -> u32 {
        self.pages[0].load(field, Order::AcqRel).expect("inside")
    }

    fn set_word(&self, field: usize, value: u32) {
        self.pages[0].store(field, value, Order::AcqRel).expect("inside");
    }

    fn byte(&self, index: u32, byte: usize) -> (&SharedPage, usize) {
        let at = HEADER_SIZE + (index % self.entries) as usize * self.entry_bytes + byte;
        (&self.pages[at / 4096], at % 4096)
    }

    /// How many requests there are.
    pub(super) fn waiting(&self) -> usize {
        self.word(REQ_PROD).wrapping_sub(self.req_cons) as usize
    }

    /// Takes the next request, if there is one.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        if self.word(REQ_PROD) == self.req_cons {
            return None;
        }
        let one = |byte| {
            let (page, offset) = self.byte(self.req_cons, byte);
            page.load(offset, Order::Relaxed).expect("inside")
        };
        let entry = (0..self.entry_bytes).map(one).collect();
        self.req_cons = self.req_cons.wrapping_add(1);
        Some(entry)
    }

    /// Asks to be notified of the next request.
    pub(super) fn enable_events(&self) {
        self.set_word(REQ_EVENT, self.req_cons.wrapping_add(1));
    }

    pub(super) fn put(&mut self, response: &[u8]) {
        for (byte, value) in response.iter().enumerate() {
            let (page, offset) = self.byte(self.rsp_prod, byte);
            page.store(offset, *value, Order::Relaxed).expect("inside");
        }
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Shows the responses; notifies if the frontend asked for one of them.
    pub(super) fn push(&self, me: &FakeXen, port: Port) {
        let old = self.word(RSP_PROD);
        self.set_word(RSP_PROD, self.rsp_prod);
        let event = self.word(RSP_EVENT);
        if self.rsp_prod.wrapping_sub(event) < self.rsp_prod.wrapping_sub(old) {
            me.evtchn_send(port).expect("connected");
        }
    }
}
