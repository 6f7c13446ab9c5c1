//! The fake blkback's side of a block ring.

use super::disk::Grants;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use kernel::fake::FakeXen;
use kernel::{GrantRef, Hypervisor, Order, Port, SharedPage};
use xen_pv_sys::io::blkif::{RING_ENTRY_SIZE, Response};
use xen_pv_sys::io::ring::{HEADER_SIZE, RSP_EVENT, RSP_PROD};
use zerocopy::IntoBytes;

/// A request taken from the ring and not completed yet.
pub(super) struct Held {
    pub(super) entry: Vec<u8>,
    pub(super) number: u64,
    pub(super) wait_steps: u32,
}

/// A connected ring.
pub(super) struct Connection {
    pub(super) pages: Vec<SharedPage>,
    pub(super) grefs: Vec<GrantRef>,
    pub(super) entries: u32,
    pub(super) port: Port,
    pub(super) req_cons: u32,
    pub(super) rsp_prod: u32,
    pub(super) grants: Grants,
    pub(super) held: VecDeque<Held>,
    pub(super) responses: u64,
    pub(super) silent: bool,
}

impl Connection {
    pub(super) fn word(&self, field: usize) -> u32 {
        self.pages[0].load(field, Order::AcqRel).expect("inside")
    }

    pub(super) fn set_word(&self, field: usize, value: u32) {
        self.pages[0].store(field, value, Order::AcqRel).expect("inside");
    }

    fn byte(&self, index: u32, byte: usize) -> (&SharedPage, usize) {
        let at = HEADER_SIZE + (index % self.entries) as usize * RING_ENTRY_SIZE + byte;
        (&self.pages[at / 4096], at % 4096)
    }

    pub(super) fn entry(&self, index: u32) -> Vec<u8> {
        let one = |byte| {
            let (page, offset) = self.byte(index, byte);
            page.load(offset, Order::Relaxed).expect("inside")
        };
        (0..RING_ENTRY_SIZE).map(one).collect()
    }

    pub(super) fn put(&mut self, response: Response) {
        for (byte, value) in response.as_bytes().iter().enumerate() {
            let (page, offset) = self.byte(self.rsp_prod, byte);
            page.store(offset, *value, Order::Relaxed).expect("inside");
        }
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Shows the responses; notifies if the frontend asked for one of them.
    pub(super) fn push(&self, me: &FakeXen) {
        let old = self.word(RSP_PROD);
        self.set_word(RSP_PROD, self.rsp_prod);
        let event = self.word(RSP_EVENT);
        if self.rsp_prod.wrapping_sub(event) < self.rsp_prod.wrapping_sub(old) {
            me.evtchn_send(self.port).expect("connected");
        }
    }
}
