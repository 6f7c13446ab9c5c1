//! Xenstored's half of a domain's ring.
//!
//! A model: it knows one answer and one event. Messages are multiples of [`UNIT`] bytes.

use crate::weak::Weak;
use crate::weak_xen::WeakXen;
use kernel::SharedPage;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use std::rc::Rc;
use xen_pv_sys::io::xs_wire::{REQ, REQ_CONS, REQ_PROD, RING_SIZE, RSP, RSP_CONS, RSP_PROD};

/// What is handed over as one.
pub const UNIT: usize = 16;

/// The other end of the ring.
pub struct Xenstored {
    page: SharedPage,
    xen: WeakXen,
    req_prod: Rc<AtomicU64>,
    req_cons: Rc<AtomicU64>,
    rsp_prod: Rc<AtomicU64>,
    rsp_cons: Rc<AtomicU64>,
}

fn word(word: &AtomicU64, order: Ordering) -> usize {
    usize::try_from(word.load(order)).expect("a word of 32 bits")
}

impl Xenstored {
    /// The other end of the ring in `page`, of which the first `units` units are used each way.
    #[must_use]
    pub fn new(weak: &Weak, page: &SharedPage, xen: &WeakXen, units: usize) -> Xenstored {
        for unit in 0..units {
            weak.data(page, REQ + unit * UNIT, UNIT);
            weak.data(page, RSP + unit * UNIT, UNIT);
        }
        let word = |field| weak.word::<u32>(page, field);
        Xenstored {
            page: page.clone(),
            xen: xen.clone(),
            req_prod: word(REQ_PROD),
            req_cons: word(REQ_CONS),
            rsp_prod: word(RSP_PROD),
            rsp_cons: word(RSP_CONS),
        }
    }

    /// Waits for a request of `bytes` bytes and takes it, as it comes.
    ///
    /// # Panics
    /// Never: it is inside the page.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        let mut request = Vec::new();
        while request.len() < bytes {
            let at = word(&self.req_cons, Ordering::Relaxed);
            let there = word(&self.req_prod, Ordering::Acquire) - at;
            let mut part = vec![0; there.min(RING_SIZE - at % RING_SIZE)];
            if part.is_empty() {
                self.xen.wait_for_stub();
                continue;
            }
            self.page.read(REQ + at % RING_SIZE, &mut part).expect("inside");
            self.req_cons.store((at + part.len()) as u64, Ordering::Release);
            self.xen.send_to_stub();
            request.extend(part);
        }
        request
    }

    /// Puts `message` into the ring, waiting for room, and notifies the stub for each part.
    ///
    /// # Panics
    /// Never: it is inside the page.
    pub fn put(&self, message: &[u8]) {
        let mut rest = message;
        while !rest.is_empty() {
            let at = word(&self.rsp_prod, Ordering::Relaxed);
            // It has seen the ring full before it waits for room; the stub tells of that only.
            fence(Ordering::SeqCst);
            let free = RING_SIZE - (at - word(&self.rsp_cons, Ordering::Acquire));
            let now = rest.len().min(free).min(RING_SIZE - at % RING_SIZE);
            if now == 0 {
                self.xen.wait_for_stub();
                continue;
            }
            let (head, tail) = rest.split_at(now);
            self.page.write(RSP + at % RING_SIZE, head).expect("inside");
            self.rsp_prod.store((at + now) as u64, Ordering::Release);
            self.xen.send_to_stub();
            rest = tail;
        }
    }
}
