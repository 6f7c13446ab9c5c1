//! The back end's side of a ring of one page (`public/io/ring.h`).

use super::{address, failed};
use alloc::string::String;
use kernel::granted::GrantMap;
use kernel::{DomId, Hypervisor, Order, Port, Xen, full_barrier};
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::blkif::{RING_ENTRY_SIZE, Request, Response};
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_PROD, RSP_PROD};
use zerocopy::IntoBytes;

/// Entries of the ring.
const ENTRIES: u32 = 32;

/// A connected ring.
pub struct Link {
    ring: u64,
    /// Our end of its event channel.
    pub port: Port,
    req_cons: u32,
    /// Responses shown, or to be shown.
    pub rsp_prod: u32,
}

impl Link {
    /// Maps the ring and binds the port.
    pub fn new(xen: &Xen, grants: &GrantMap, peer: DomId, gref: u32, port: u32) -> Result<Link, String> {
        let ring = address(gref);
        grants.keep(ring, PAGE_SIZE as u64).map_err(failed("the ring"))?;
        let port = xen.evtchn_bind_interdomain(peer, port).map_err(failed("the port"))?;
        Ok(Link { ring, port, req_cons: 0, rsp_prod: 0 })
    }

    /// Unmaps and closes. What fails was done by an attack.
    pub fn end(self, xen: &Xen, grants: &GrantMap) {
        grants.release(self.ring, PAGE_SIZE as u64);
        let _ = xen.evtchn_close(self.port);
    }

    /// The ring's address, for [`GrantMap`].
    pub fn ring(&self) -> u64 {
        self.ring
    }

    fn entry(&self, index: u32) -> u64 {
        self.ring + (HEADER_SIZE + (index % ENTRIES) as usize * RING_ENTRY_SIZE) as u64
    }

    /// The next request, if there is one.
    pub fn take(&mut self, grants: &GrantMap) -> Option<Request> {
        let prod: u32 = grants.load(self.ring + REQ_PROD as u64, Order::AcqRel).ok()?;
        let ahead = prod.wrapping_sub(self.req_cons);
        // More than there can be: an attack wrote the index. The frontend will end this connection.
        if ahead == 0 || ahead > ENTRIES {
            return None;
        }
        let mut request = Request::default();
        grants.read(self.entry(self.req_cons), request.as_mut_bytes()).ok()?;
        self.req_cons = self.req_cons.wrapping_add(1);
        Some(request)
    }

    /// Writes the next response, which [`Link::push`] shows.
    pub fn respond(&mut self, grants: &GrantMap, response: &Response) {
        let _ = grants.write(self.entry(self.rsp_prod), response.as_bytes());
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Shows the responses and notifies.
    pub fn push(&self, xen: &Xen, grants: &GrantMap) {
        full_barrier();
        let _ = grants.store(self.ring + RSP_PROD as u64, self.rsp_prod, Order::AcqRel);
        full_barrier();
        let _ = xen.evtchn_send(self.port);
    }
}
