//! The frontend of a Xen shared ring: requests out, responses in (`public/io/ring.h`).
//!
//! Our own indices live here and are only ever written to the page. The one number taken
//! from the peer besides entries is `rsp_prod`, and it may not claim more responses than
//! requests are outstanding: a peer that does so has broken the protocol and the ring is
//! dead from then on. `req_event` only decides whether to notify, so any value is harmless.
//!
//! In a ring of several pages entries go on across page ends, as the peer sees the pages
//! mapped one after the other.

use alloc::vec::Vec;
use core::fmt;
use kernel::shared::full_barrier;
use kernel::{Order, SharedPage};
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};

/// The peer claims responses to requests that were never made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResponseOverrun {
    /// Responses that it claims.
    pub claimed: u32,
    /// Requests that are outstanding.
    pub outstanding: u32,
}

impl fmt::Display for ResponseOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} responses to {} requests", self.claimed, self.outstanding)
    }
}

/// No free entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RingFull;

/// Entries in a ring of `pages` pages: the largest power of two that fits
/// (`__RING_SIZE`). 0 if none does.
#[must_use]
pub const fn ring_entries(pages: usize, entry_bytes: usize) -> u32 {
    let room = pages.saturating_mul(PAGE_SIZE).saturating_sub(HEADER_SIZE);
    match room.checked_div(entry_bytes) {
        // Capped where the number still fits the ring's 32-bit indices.
        Some(fits) if fits > 0 && fits < 1 << 31 => {
            let bits = fits.ilog2();
            1u32.wrapping_shl(bits)
        }
        _ => 0,
    }
}

/// The frontend of one ring.
#[derive(Debug)]
pub struct FrontRing {
    /// Never empty; the header is in the first.
    first: SharedPage,
    pages: Vec<SharedPage>,
    entries: u32,
    entry_bytes: usize,
    /// Next request to fill; not yet published beyond `req_prod`.
    req_prod_pvt: u32,
    /// What the peer was told.
    req_prod: u32,
    rsp_cons: u32,
    /// Checked copy of the peer's `rsp_prod`.
    rsp_prod: u32,
    fault: Option<ResponseOverrun>,
}

impl FrontRing {
    /// Sets up an empty ring in `pages` (`SHARED_RING_INIT`). `None` if not even one entry
    /// fits.
    #[must_use]
    pub fn new(pages: Vec<SharedPage>, entry_bytes: usize) -> Option<FrontRing> {
        let first = pages.first()?.clone();
        let entries = ring_entries(pages.len(), entry_bytes);
        if entries == 0 {
            return None;
        }
        pages.iter().for_each(SharedPage::zero);
        let ring = FrontRing {
            first,
            pages,
            entries,
            entry_bytes,
            req_prod_pvt: 0,
            req_prod: 0,
            rsp_cons: 0,
            rsp_prod: 0,
            fault: None,
        };
        ring.store(REQ_EVENT, 1);
        ring.store(RSP_EVENT, 1);
        Some(ring)
    }

    // The header's offsets are constant, aligned and inside the page: neither call fails.
    fn load(&self, field: usize) -> u32 {
        self.first.load(field, Order::AcqRel).unwrap_or_default()
    }

    fn store(&self, field: usize, value: u32) {
        let stored = self.first.store(field, value, Order::AcqRel);
        debug_assert!(stored.is_ok());
    }

    /// Entries of the ring.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Requests made whose response has not been taken.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.req_prod_pvt.wrapping_sub(self.rsp_cons)
    }

    /// Calls `each(page, offset, from, to)` for the parts of an entry's first `len` bytes;
    /// `from..to` is the part's place in the entry.
    fn parts(&self, index: u32, len: usize, mut each: impl FnMut(&SharedPage, usize, usize, usize)) {
        let slot = (index & self.entries.wrapping_sub(1)) as usize;
        // In range: `new` fits all entries into the pages.
        let mut at = HEADER_SIZE.saturating_add(slot.saturating_mul(self.entry_bytes));
        let mut done = 0usize;
        while done < len {
            let (page, offset) = (at / PAGE_SIZE, at % PAGE_SIZE);
            let part = PAGE_SIZE.saturating_sub(offset).min(len.saturating_sub(done));
            let Some(page) = self.pages.get(page) else { return };
            each(page, offset, done, done.saturating_add(part));
            done = done.saturating_add(part);
            at = at.saturating_add(part);
        }
    }

    /// Fills the next request entry with `request` (at most an entry long). The peer sees
    /// it after [`FrontRing::publish`].
    ///
    /// # Errors
    /// [`RingFull`] if every entry is in use.
    pub fn queue(&mut self, request: &[u8]) -> Result<(), RingFull> {
        // An entry is free once its response was taken: blkback may still read it until then.
        if self.fault.is_some() || self.in_flight() >= self.entries {
            return Err(RingFull);
        }
        let len = request.len().min(self.entry_bytes);
        self.parts(self.req_prod_pvt, len, |page, offset, from, to| {
            let written = request.get(from..to).map(|part| page.write(offset, part));
            debug_assert_eq!(written, Some(Ok(())));
        });
        self.req_prod_pvt = self.req_prod_pvt.wrapping_add(1);
        Ok(())
    }

    /// Shows the queued requests to the peer; true if it wants a notification
    /// (`RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`).
    #[must_use = "the peer sleeps on if it is not notified"]
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.req_prod, self.req_prod_pvt);
        // An event without a request would only wake the peer.
        if old == new {
            return false;
        }
        // Release: the entries are visible before the index.
        self.store(REQ_PROD, new);
        self.req_prod = new;
        // The store of req_prod must not sink below the load of req_event, or both sides
        // may miss each other.
        full_barrier();
        let req_event = self.load(REQ_EVENT);
        new.wrapping_sub(req_event) < new.wrapping_sub(old)
    }

    /// Re-reads `rsp_prod` and judges it.
    fn refresh(&mut self) -> Result<(), ResponseOverrun> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        // Acquire: entries are read after the index.
        let rsp_prod = self.load(RSP_PROD);
        let claimed = rsp_prod.wrapping_sub(self.rsp_cons);
        let outstanding = self.req_prod.wrapping_sub(self.rsp_cons);
        // Its index decides what is read: an impossible one would turn requests into responses.
        if claimed > outstanding {
            let fault = ResponseOverrun { claimed, outstanding };
            self.fault = Some(fault);
            return Err(fault);
        }
        self.rsp_prod = rsp_prod;
        Ok(())
    }

    /// How many responses wait to be taken, by the peer's index, possible or not: a poll,
    /// not a judgement.
    #[must_use]
    pub fn responses(&self) -> u32 {
        self.load(RSP_PROD).wrapping_sub(self.rsp_cons)
    }

    /// Copies the next response into `response` (at most an entry long); false if there is
    /// none.
    ///
    /// # Errors
    /// [`ResponseOverrun`], now and ever after, if the peer's index is impossible.
    pub fn next_response(&mut self, response: &mut [u8]) -> Result<bool, ResponseOverrun> {
        // The index is loaded once for all responses that it shows; each load moves the cache line.
        if self.rsp_prod == self.rsp_cons || self.fault.is_some() {
            self.refresh()?;
        }
        if self.rsp_prod == self.rsp_cons {
            return Ok(false);
        }
        let len = response.len().min(self.entry_bytes);
        self.parts(self.rsp_cons, len, |page, offset, from, to| {
            let read = response.get_mut(from..to).map(|part| page.read(offset, part));
            debug_assert_eq!(read, Some(Ok(())));
        });
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Ok(true)
    }

    /// Asks for an event once there are `batch` responses (from 1 up to all that are due);
    /// true if some came meanwhile, so that the caller must check again before it sleeps
    /// (`RING_FINAL_CHECK_FOR_RESPONSES`).
    ///
    /// # Errors
    /// [`ResponseOverrun`] as for [`FrontRing::next_response`].
    pub fn final_check(&mut self, batch: u32) -> Result<bool, ResponseOverrun> {
        self.refresh()?;
        if self.rsp_prod != self.rsp_cons {
            return Ok(true);
        }
        // An event index beyond all that can come would never be reached.
        let due = self.req_prod.wrapping_sub(self.rsp_cons);
        self.store(RSP_EVENT, self.rsp_cons.wrapping_add(batch.clamp(1, due.max(1))));
        // The store of rsp_event must not sink below the load of rsp_prod.
        full_barrier();
        self.refresh()?;
        Ok(self.rsp_prod != self.rsp_cons)
    }
}

#[cfg(test)]
mod tests;
