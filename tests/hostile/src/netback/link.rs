//! Netback's side of the two rings, of one page each (`public/io/netif.h`, `public/io/ring.h`).

use crate::blkback::{address, failed};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use kernel::granted::GrantMap;
use kernel::{DomId, Hypervisor, Order, Port, Xen, full_barrier};
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::netif::{
    NETIF_RSP_OKAY, RX_ENTRY_SIZE, RxRequest, RxResponse, TX_ENTRY_SIZE, TxRequest, TxResponse,
};
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_PROD, RSP_PROD};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Entries of each ring.
pub const ENTRIES: u32 = 256;
/// Bytes of the longest frame that it passes on.
pub const FRAME_MAX: usize = 1514;

/// One ring.
pub struct Ring {
    at: u64,
    entry_bytes: usize,
    req_cons: u32,
    /// Responses shown, or to be shown.
    pub rsp_prod: u32,
}

impl Ring {
    fn new(grants: &GrantMap, gref: u32, entry_bytes: usize) -> Result<Ring, String> {
        let at = address(gref);
        grants.keep(at, PAGE_SIZE as u64).map_err(failed("a ring"))?;
        Ok(Ring { at, entry_bytes, req_cons: 0, rsp_prod: 0 })
    }

    /// The ring's address, for [`GrantMap`].
    pub fn at(&self) -> u64 {
        self.at
    }

    fn entry(&self, index: u32) -> u64 {
        self.at + (HEADER_SIZE + (index % ENTRIES) as usize * self.entry_bytes) as u64
    }

    /// The next request, if there is one.
    pub fn take<R: FromBytes + IntoBytes + Default>(&mut self, grants: &GrantMap) -> Option<R> {
        let prod: u32 = grants.load(self.at + REQ_PROD as u64, Order::AcqRel).ok()?;
        let ahead = prod.wrapping_sub(self.req_cons);
        // More than there can be: an attack wrote the index. The frontend will end this connection.
        if ahead == 0 || ahead > ENTRIES {
            return None;
        }
        let mut request = R::default();
        grants.read(self.entry(self.req_cons), request.as_mut_bytes()).ok()?;
        self.req_cons = self.req_cons.wrapping_add(1);
        Some(request)
    }

    /// Writes the next response, which [`Link::push`] shows.
    pub fn respond<R: IntoBytes + Immutable>(&mut self, grants: &GrantMap, response: &R) {
        let _ = grants.write(self.entry(self.rsp_prod), response.as_bytes());
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    fn show(&self, grants: &GrantMap) {
        let _ = grants.store(self.at + RSP_PROD as u64, self.rsp_prod, Order::AcqRel);
    }
}

/// A connection.
pub struct Link {
    /// Frames of the stub's.
    pub tx: Ring,
    /// Frames for the stub.
    pub rx: Ring,
    /// Our end of the event channel.
    pub port: Port,
    /// Hypercalls.
    pub xen: Xen,
    /// The frontend's memory.
    pub grants: &'static GrantMap,
}

impl Link {
    /// Maps the rings and binds the port: the grants of the two and the port, as the frontend tells them.
    pub fn new(
        xen: Xen,
        grants: &'static GrantMap,
        peer: DomId,
        [tx, rx, port]: [u32; 3],
    ) -> Result<Link, String> {
        let (tx, rx) = (Ring::new(grants, tx, TX_ENTRY_SIZE)?, Ring::new(grants, rx, RX_ENTRY_SIZE)?);
        let port = xen.evtchn_bind_interdomain(peer, port).map_err(failed("the port"))?;
        Ok(Link { tx, rx, port, xen, grants })
    }

    /// Unmaps and closes. What fails was done by an attack.
    pub fn end(self) {
        self.grants.release(self.tx.at, PAGE_SIZE as u64);
        self.grants.release(self.rx.at, PAGE_SIZE as u64);
        let _ = self.xen.evtchn_close(self.port);
    }

    /// Shows the responses and notifies.
    pub fn push(&self) {
        full_barrier();
        self.tx.show(self.grants);
        self.rx.show(self.grants);
        full_barrier();
        let _ = self.xen.evtchn_send(self.port);
    }

    /// The next frame that the stub sends, answered.
    pub fn fetch(&mut self) -> Option<Vec<u8>> {
        let request: TxRequest = self.tx.take(self.grants)?;
        let mut frame = vec![0; usize::from(request.size).min(FRAME_MAX)];
        let at = address(request.gref) + u64::from(request.offset);
        let read = self.grants.read(at, &mut frame);
        self.tx.respond(self.grants, &TxResponse { id: request.id, status: NETIF_RSP_OKAY });
        self.push();
        read.ok().map(|()| frame)
    }

    /// Gives the stub a frame, if it has room.
    pub fn deliver(&mut self, frame: &[u8]) {
        let Some(request) = self.rx.take::<RxRequest>(self.grants) else { return };
        let _ = self.grants.write(address(request.gref), frame);
        self.rx.respond(self.grants, &brought(&request, frame.len()));
        self.push();
    }
}

/// The response for a frame of that length at the beginning of its page.
pub fn brought(request: &RxRequest, len: usize) -> RxResponse {
    let status = i16::try_from(len).unwrap_or(i16::MAX);
    RxResponse { id: request.id, offset: 0, flags: 0, status }
}
