//! The back end's side of a ring of one page (`public/io/ring.h`).

use super::{address, failed};
use alloc::string::String;
use kernel::Order;
use kernel::granted::GrantMap;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_PROD, RSP_PROD};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// One ring.
pub struct Ring {
    at: u64,
    entries: u32,
    entry_bytes: usize,
    req_cons: u32,
    /// Responses shown, or to be shown.
    pub rsp_prod: u32,
}

impl Ring {
    /// Maps the granted page, a ring of so many entries of that length.
    pub fn new(grants: &GrantMap, gref: u32, entries: u32, entry_bytes: usize) -> Result<Ring, String> {
        let at = address(gref);
        grants.keep(at, PAGE_SIZE as u64).map_err(failed("a ring"))?;
        Ok(Ring { at, entries, entry_bytes, req_cons: 0, rsp_prod: 0 })
    }

    /// Unmaps it.
    pub fn end(&self, grants: &GrantMap) {
        grants.release(self.at, PAGE_SIZE as u64);
    }

    /// The ring's address, for [`GrantMap`].
    pub fn at(&self) -> u64 {
        self.at
    }

    fn entry(&self, index: u32) -> u64 {
        self.at + (HEADER_SIZE + (index % self.entries) as usize * self.entry_bytes) as u64
    }

    /// The next request, if there is one.
    pub fn take<R: FromBytes + IntoBytes + Default>(&mut self, grants: &GrantMap) -> Option<R> {
        let prod: u32 = grants.load(self.at + REQ_PROD as u64, Order::AcqRel).ok()?;
        let ahead = prod.wrapping_sub(self.req_cons);
        // More than there can be: an attack wrote the index. The frontend will end this connection.
        if ahead == 0 || ahead > self.entries {
            return None;
        }
        let mut request = R::default();
        grants.read(self.entry(self.req_cons), request.as_mut_bytes()).ok()?;
        self.req_cons = self.req_cons.wrapping_add(1);
        Some(request)
    }

    /// Writes the next response, which [`Ring::show`] shows.
    pub fn respond<R: IntoBytes + Immutable>(&mut self, grants: &GrantMap, response: &R) {
        let _ = grants.write(self.entry(self.rsp_prod), response.as_bytes());
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Shows the responses.
    pub fn show(&self, grants: &GrantMap) {
        let _ = grants.store(self.at + RSP_PROD as u64, self.rsp_prod, Order::AcqRel);
    }
}
