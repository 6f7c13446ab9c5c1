//! A block frontend of our own, for attacks on the back end: it connects as an honest one, and what goes into its
//! ring is up to whoever has it.

use super::{Site, Wrong};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use kernel::{DomId, GrantRef, Hypervisor, Order, Port, SharedPage, full_barrier};
use xen_pv_sys::io::blkif::{
    BLKIF_OP_READ, MAX_SEGMENTS_PER_REQUEST, RING_ENTRY_SIZE, Request, Response, Segment,
};
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Our directory for the disk that the scenario gives.
pub(super) const FRONTEND: &str = "device/vbd/51712";
/// Entries of a ring of one page.
pub(super) const ENTRIES: u32 = 32;
/// How long blkback may take to follow a state.
const PATIENCE_NS: u64 = 15_000_000_000;
/// How long it may take to answer.
const ANSWER_NS: u64 = 3_000_000_000;

/// A connection.
pub(super) struct Disk {
    pub(super) ring: SharedPage,
    pub(super) port: Port,
    pub(super) prod: u32,
    cons: u32,
    /// Pages of data, as blkback knows them.
    pub(super) pages: Vec<GrantRef>,
    ring_gref: GrantRef,
}

fn failed(what: &str, why: impl core::fmt::Debug) -> Wrong {
    Wrong::NotMade(format!("{what}: {why:?}"))
}

/// Blkback's state.
fn backend_state(site: &mut Site) -> String {
    let backend = site.store.read(&format!("{FRONTEND}/backend")).unwrap_or_default();
    site.store.read(&format!("{backend}/state")).unwrap_or_default()
}

/// Waits for blkback to have one of these states.
pub(super) fn wait_state(site: &mut Site, wanted: &[&str]) -> Result<(), Wrong> {
    let until = site.xen.now_ns().saturating_add(PATIENCE_NS);
    loop {
        let state = backend_state(site);
        if wanted.contains(&state.as_str()) {
            return Ok(());
        }
        if site.xen.now_ns() > until {
            return Err(Wrong::NotMade(format!("blkback stays in state {state:?}, not {wanted:?}")));
        }
        site.rest(20);
    }
}

/// Writes a node of ours.
pub(super) fn tell(site: &mut Site, key: &str, value: impl ToString) -> Result<(), Wrong> {
    let value = value.to_string();
    site.store.write(&format!("{FRONTEND}/{key}"), value.as_bytes()).map_err(|why| failed(key, why))
}

impl Disk {
    pub(super) fn connect(site: &mut Site) -> Result<Disk, Wrong> {
        let xen = site.xen;
        wait_state(site, &["2"])?;
        let granted = || -> Result<(SharedPage, GrantRef), Wrong> {
            let page = SharedPage::alloc().ok_or_else(|| failed("a page", "none"))?;
            let gref = xen.grant_access(DomId(0), &page, false).map_err(|why| failed("a grant", why))?;
            Ok((page, gref))
        };
        let (ring, ring_gref) = granted()?;
        let pages = (0..MAX_SEGMENTS_PER_REQUEST)
            .map(|_| granted().map(|(_, gref)| gref))
            .collect::<Result<_, _>>()?;
        for at in [REQ_EVENT, RSP_EVENT] {
            let _ = ring.store(at, 1_u32, Order::Relaxed);
        }
        let port = xen.evtchn_alloc_unbound(DomId(0)).map_err(|why| failed("a port", why))?;
        tell(site, "ring-ref", ring_gref)?;
        tell(site, "event-channel", port)?;
        tell(site, "protocol", "arm-abi")?;
        tell(site, "state", 3)?;
        wait_state(site, &["4"])?;
        tell(site, "state", 4)?;
        Ok(Disk { ring, port, prod: 0, cons: 0, pages, ring_gref })
    }

    /// Puts a request into the ring, unseen.
    pub(super) fn put(&mut self, request: &[u8; RING_ENTRY_SIZE]) {
        let at = HEADER_SIZE + (self.prod % ENTRIES) as usize * RING_ENTRY_SIZE;
        let _ = self.ring.write(at, request);
        self.prod = self.prod.wrapping_add(1);
    }

    /// Shows what was put.
    pub(super) fn show(&self, site: &Site) {
        full_barrier();
        let _ = self.ring.store(REQ_PROD, self.prod, Order::AcqRel);
        let _ = site.xen.evtchn_send(self.port);
    }

    /// How many are answered, once all are or the time is over; and the last status.
    pub(super) fn answered(&mut self, site: &Site) -> (u32, i16) {
        let until = site.xen.now_ns().saturating_add(ANSWER_NS);
        loop {
            let prod = self.ring.load::<u32>(RSP_PROD, Order::AcqRel).unwrap_or(0);
            if prod == self.prod || site.xen.now_ns() > until {
                let answered = prod.wrapping_sub(self.cons);
                let at = HEADER_SIZE + (prod.wrapping_sub(1) % ENTRIES) as usize * RING_ENTRY_SIZE;
                let mut bytes = [0; size_of::<Response>()];
                let _ = self.ring.read(at, &mut bytes);
                self.cons = prod;
                return (answered, Response::read_from_bytes(&bytes).unwrap_or_default().status);
            }
            site.rest(2);
        }
    }

    /// Ends the connection in order, and gives back what blkback lets go of.
    pub(super) fn close(self, site: &mut Site) -> Result<(), Wrong> {
        tell(site, "state", 5)?;
        wait_state(site, &["5", "6"])?;
        tell(site, "state", 6)?;
        wait_state(site, &["6"])?;
        tell(site, "state", 1)?;
        let _ = site.xen.evtchn_close(self.port);
        for gref in self.pages.iter().chain([&self.ring_gref]) {
            // What it keeps stays granted, and allocated.
            let _ = site.xen.grant_end(*gref);
        }
        Ok(())
    }
}

/// A good read of the first sectors.
pub(super) fn good(disk: &Disk, id: u64) -> Request {
    let mut request = Request { operation: BLKIF_OP_READ, nr_segments: 1, id, ..Request::default() };
    for (segment, gref) in request.seg.iter_mut().zip(&disk.pages) {
        *segment = Segment { gref: gref.0, first_sect: 0, last_sect: 7, pad: 0 };
    }
    request
}

/// A request as it goes into the ring.
pub(super) fn bytes_of<T: IntoBytes + Immutable>(request: &T) -> [u8; RING_ENTRY_SIZE] {
    let mut bytes = [0; RING_ENTRY_SIZE];
    for (to, from) in bytes.iter_mut().zip(request.as_bytes()) {
        *to = *from;
    }
    bytes
}
