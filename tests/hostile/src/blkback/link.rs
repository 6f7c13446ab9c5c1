//! A connection of the block back end (`public/io/blkif.h`).

use crate::back_end::{Ring, failed};
use alloc::string::String;
use kernel::granted::GrantMap;
use kernel::{DomId, Hypervisor, Port, Xen, full_barrier};
use xen_pv_sys::io::blkif::RING_ENTRY_SIZE;

/// Entries of the ring.
const ENTRIES: u32 = 32;

/// A connected ring.
pub struct Link {
    /// Requests and responses.
    pub ring: Ring,
    /// Our end of its event channel.
    pub port: Port,
}

impl Link {
    /// Maps the ring and binds the port.
    pub fn new(xen: &Xen, grants: &GrantMap, peer: DomId, gref: u32, port: u32) -> Result<Link, String> {
        let ring = Ring::new(grants, gref, ENTRIES, RING_ENTRY_SIZE)?;
        let port = xen.evtchn_bind_interdomain(peer, port).map_err(failed("the port"))?;
        Ok(Link { ring, port })
    }

    /// Unmaps and closes. What fails was done by an attack.
    pub fn end(self, xen: &Xen, grants: &GrantMap) {
        self.ring.end(grants);
        let _ = xen.evtchn_close(self.port);
    }

    /// Shows the responses and notifies.
    pub fn push(&self, xen: &Xen, grants: &GrantMap) {
        full_barrier();
        self.ring.show(grants);
        full_barrier();
        let _ = xen.evtchn_send(self.port);
    }
}
