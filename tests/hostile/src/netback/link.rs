//! Netback's side of the two rings, of one page each (`public/io/netif.h`, `public/io/ring.h`).

use crate::back_end::{Ring, address, failed};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use kernel::granted::GrantMap;
use kernel::{DomId, Hypervisor, Port, Xen, full_barrier};
use xen_pv_sys::io::netif::{
    NETIF_RSP_OKAY, RX_ENTRY_SIZE, RxRequest, RxResponse, TX_ENTRY_SIZE, TxRequest, TxResponse,
};

/// Entries of each ring.
pub const ENTRIES: u32 = 256;
/// Bytes of the longest frame that it passes on.
pub const FRAME_MAX: usize = 1514;

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
        let tx = Ring::new(grants, tx, ENTRIES, TX_ENTRY_SIZE)?;
        let rx = Ring::new(grants, rx, ENTRIES, RX_ENTRY_SIZE)?;
        let port = xen.evtchn_bind_interdomain(peer, port).map_err(failed("the port"))?;
        Ok(Link { tx, rx, port, xen, grants })
    }

    /// Unmaps and closes. What fails was done by an attack.
    pub fn end(self) {
        self.tx.end(self.grants);
        self.rx.end(self.grants);
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
