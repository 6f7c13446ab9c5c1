//! Blkback's half of a block ring, with the macros of Xen's `io/ring.h` written out.
//!
//! A model: entries are looked at, and answered at once or later; there is no disk.

use crate::weak::Weak;
use kernel::SharedPage;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use std::rc::Rc;
use xen_pv_sys::io::blkif::RING_ENTRY_SIZE;
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};

/// The other end of a ring in one page.
pub struct Blkback {
    page: SharedPage,
    weak: Rc<Weak>,
    entries: u32,
    req_prod: Rc<AtomicU64>,
    req_event: Rc<AtomicU64>,
    rsp_prod: Rc<AtomicU64>,
    rsp_event: Rc<AtomicU64>,
    req_cons: u32,
    rsp_prod_pvt: u32,
}

fn word(word: &AtomicU64, order: Ordering) -> u32 {
    u32::try_from(word.load(order)).expect("a word of 32 bits")
}

impl Blkback {
    /// The other end of the ring that was just made in `page`. The first `used` entries are used.
    #[must_use]
    pub fn new(weak: &Rc<Weak>, page: &SharedPage, entries: u32, used: usize) -> Blkback {
        for entry in 0..used {
            weak.data(page, HEADER_SIZE + entry * RING_ENTRY_SIZE, RING_ENTRY_SIZE);
        }
        let word = |field| weak.word::<u32>(page, field);
        Blkback {
            page: page.clone(),
            weak: weak.clone(),
            entries,
            req_prod: word(REQ_PROD),
            req_event: word(REQ_EVENT),
            rsp_prod: word(RSP_PROD),
            rsp_event: word(RSP_EVENT),
            req_cons: 0,
            rsp_prod_pvt: 0,
        }
    }

    fn entry(&self, index: u32) -> usize {
        HEADER_SIZE + (index % self.entries) as usize * RING_ENTRY_SIZE
    }

    /// Reads all requests that it sees; how many.
    ///
    /// # Panics
    /// If an entry does not hold what the frontend put there.
    pub fn take(&mut self) -> u32 {
        let end = word(&self.req_prod, Ordering::Acquire);
        let taken = end.wrapping_sub(self.req_cons);
        while self.req_cons != end {
            let mut number = [0; 4];
            self.page.read(self.entry(self.req_cons), &mut number).expect("inside");
            assert_eq!(u32::from_le_bytes(number), self.req_cons, "the request of this entry");
            self.req_cons = self.req_cons.wrapping_add(1);
        }
        taken
    }

    /// Before it sleeps (`RING_FINAL_CHECK_FOR_REQUESTS`). True: there are more.
    #[must_use]
    pub fn final_check(&self) -> bool {
        self.req_event.store(self.req_cons.wrapping_add(1).into(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        word(&self.req_prod, Ordering::Acquire) != self.req_cons
    }

    /// Answers so many requests (`RING_PUSH_RESPONSES_AND_CHECK_NOTIFY`). True: the frontend wants an
    /// event.
    ///
    /// # Panics
    /// Never: entries are inside.
    #[must_use]
    pub fn respond(&mut self, count: u32) -> bool {
        let old = self.rsp_prod_pvt;
        for _ in 0..count {
            let at = self.entry(self.rsp_prod_pvt);
            self.page.write(at, &(!self.rsp_prod_pvt).to_le_bytes()).expect("inside");
            self.rsp_prod_pvt = self.rsp_prod_pvt.wrapping_add(1);
        }
        self.rsp_prod.store(self.rsp_prod_pvt.into(), Ordering::Release);
        fence(Ordering::SeqCst);
        let event = word(&self.rsp_event, Ordering::Relaxed);
        self.rsp_prod_pvt.wrapping_sub(event) < self.rsp_prod_pvt.wrapping_sub(old)
    }

    /// The memory that both share.
    #[must_use]
    pub fn weak(&self) -> &Weak {
        &self.weak
    }
}
