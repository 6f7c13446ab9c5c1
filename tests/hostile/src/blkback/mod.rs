//! A block back end of our own, honest until it is told otherwise (`public/io/blkif.h`).
//!
//! It serves one frontend from a disk in its memory. It follows the frontend's xenbus states, so that a
//! connection that one of them broke is made again.

mod attacks;
mod link;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
pub use attacks::{ALL, Attack};
use core::fmt::Debug;
use drivers::Xenstore;
use drivers::xenbus;
use kernel::granted::{GRANT_BIT, GrantMap};
use kernel::{Delay, DelayNs, DomId, Hypervisor, Xen};
pub use link::Link;
use xen_pv_sys::PAGE_SHIFT;
use xen_pv_sys::io::blkif::{
    BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY, Request, Response, Segment,
};
use xen_pv_sys::io::xenbus::XenbusState;

/// Where the toolstack writes what this domain is the back end of.
const BACKENDS: &str = "backend/vbd";
/// Sectors of the disk.
pub const SECTORS: usize = 2048;
/// Bytes of a sector.
const SECTOR: usize = 512;
/// Between two looks at a frontend that does nothing.
const IDLE_US: u32 = 500;
/// Looks at the ring between two looks at the frontend's state, each a request to xenstored.
const LOOKS: u32 = 20;

/// The back end.
pub struct Blkback {
    /// Hypercalls and time.
    pub xen: Xen,
    /// The store.
    pub store: Xenstore<Xen>,
    /// Our directory in it.
    pub dir: String,
    frontend: String,
    peer: DomId,
    /// The frontend's memory.
    pub grants: &'static GrantMap,
    disk: Vec<u8>,
    /// The connection, while there is one.
    pub link: Option<Link>,
    /// Nodes that are told in place of the honest ones.
    pub lies: Vec<(&'static str, &'static str)>,
    looks: u32,
    /// Requests served as they should be.
    pub served: u64,
    /// Connections made so far.
    pub connections: u32,
}

/// An error of a step that has a name.
pub(crate) fn failed<E: Debug>(what: &'static str) -> impl Fn(E) -> String {
    move |why| format!("{what}: {why:?}")
}

impl Blkback {
    /// Waits for the toolstack to name a frontend.
    pub fn wait(xen: Xen) -> Result<Blkback, String> {
        let mut store = Xenstore::new(&xen).map_err(failed("xenstore"))?;
        loop {
            if let Some((dir, peer)) = named(&mut store) {
                let frontend = store.read_string(&format!("{dir}/frontend")).map_err(failed("frontend"))?;
                // One for the life of this domain.
                let grants = Box::leak(Box::new(xen.grant_map(peer).map_err(failed("grants"))?));
                let disk = vec![0; SECTORS * SECTOR];
                let (link, lies) = (None, Vec::new());
                return Ok(Blkback {
                    xen,
                    store,
                    dir,
                    frontend,
                    peer,
                    grants,
                    disk,
                    link,
                    lies,
                    looks: 0,
                    served: 0,
                    connections: 0,
                });
            }
            Delay::new(&xen).delay_ms(20);
        }
    }

    /// Sets our state.
    pub fn set_state(&mut self, state: XenbusState) -> Result<(), String> {
        xenbus::write_state(&mut self.store, &self.dir, state).map_err(failed("our state"))
    }

    /// Ends the connection, if there is one, on our side.
    pub fn unlink(&mut self) {
        if let Some(link) = self.link.take() {
            link.end(&self.xen, self.grants);
        }
    }

    /// Does what an honest back end does with the frontend's state.
    pub fn follow(&mut self) -> Result<(), String> {
        use XenbusState as S;
        let read = |store: &mut _, dir: &str| xenbus::read_state(store, dir).map_err(failed("a state"));
        let front = read(&mut self.store, &self.frontend)?;
        let ours = read(&mut self.store, &self.dir)?;
        match (front, ours) {
            (S::Initialising, S::InitWait) => Ok(()),
            (S::Initialising, _) => {
                self.unlink();
                self.offer()?;
                self.set_state(S::InitWait)
            }
            (S::Initialised, S::InitWait) => self.connect(),
            // A connection of ours that the frontend does not know of, or the other way round.
            (S::Connected | S::Initialised, S::Connected) if self.link.is_some() => Ok(()),
            (S::Connected | S::Initialised, S::Closing) => Ok(()),
            (S::Connected | S::Initialised, _) => self.set_state(S::Closing),
            (S::Closed | S::Closing | S::Unknown, S::Closed) => Ok(()),
            (S::Closing | S::Closed | S::Unknown, _) => {
                self.unlink();
                self.set_state(S::Closed)
            }
            _ => Ok(()),
        }
    }

    /// Writes a node of our directory, or what is told in its place.
    fn tell(&mut self, key: &'static str, value: &str) -> Result<(), String> {
        let value = self.lies.iter().find(|(lie, _)| *lie == key).map_or(value, |(_, value)| value);
        self.store.write(&format!("{}/{key}", self.dir), value.as_bytes()).map_err(failed(key))
    }

    fn offer(&mut self) -> Result<(), String> {
        for (key, value) in
            [("feature-flush-cache", "1"), ("max-ring-page-order", "0"), ("feature-persistent", "0")]
        {
            self.tell(key, value)?;
        }
        Ok(())
    }

    /// From Initialised to Connected.
    fn connect(&mut self) -> Result<(), String> {
        let number = |store: &mut Xenstore<Xen>, path: String| {
            let number = store.read_number(&path).map_err(failed("the frontend's offer"))?;
            u32::try_from(number).map_err(failed("the frontend's offer"))
        };
        let (gref, port) =
            (format!("{}/ring-ref", self.frontend), format!("{}/event-channel", self.frontend));
        if self.store.read(&gref).is_err() {
            // A ring of several pages, since an attack offered one: this back end has no use for it.
            return self.set_state(XenbusState::Closing);
        }
        let (gref, port) = (number(&mut self.store, gref)?, number(&mut self.store, port)?);
        let link = Link::new(&self.xen, self.grants, self.peer, gref, port)?;
        self.link = Some(link);
        self.connections = self.connections.wrapping_add(1);
        for (key, value) in
            [("sectors", format!("{SECTORS}").as_str()), ("sector-size", "512"), ("info", "0")]
        {
            self.tell(key, value)?;
        }
        self.set_state(XenbusState::Connected)
    }

    /// The next request, honest in everything else, until then. `None`: none came.
    pub fn next_request(&mut self, deadline_ns: u64) -> Result<Option<Request>, String> {
        while self.xen.now_ns() < deadline_ns {
            self.looks = self.looks.wrapping_add(1);
            if self.looks.is_multiple_of(LOOKS) {
                self.follow()?;
            }
            if let Some(request) = self.link.as_mut().and_then(|link| link.take(self.grants)) {
                return Ok(Some(request));
            }
            Delay::new(&self.xen).delay_us(IDLE_US);
        }
        Ok(None)
    }

    /// Serves requests as they should be until `count` are done. Fails if they are not within that time.
    pub fn honest(&mut self, count: u64, for_ns: u64) -> Result<(), String> {
        let until_ns = self.xen.now_ns().saturating_add(for_ns);
        let goal = self.served.saturating_add(count);
        while self.served < goal {
            let Some(request) = self.next_request(until_ns)? else {
                return Err(format!("{} of {count} requests came", count - (goal - self.served)));
            };
            self.serve(&request);
        }
        Ok(())
    }

    /// Serves whatever comes for that long.
    pub fn honest_for(&mut self, for_ns: u64) -> Result<(), String> {
        let until_ns = self.xen.now_ns().saturating_add(for_ns);
        while let Some(request) = self.next_request(until_ns)? {
            self.serve(&request);
        }
        Ok(())
    }

    /// Does what the request asks for, and answers.
    pub fn serve(&mut self, request: &Request) {
        let status = self.work(request);
        self.served = self.served.saturating_add(u64::from(status == BLKIF_RSP_OKAY));
        self.answer(Response { status, ..response_to(request) });
    }

    /// Puts a response into the ring and shows it.
    pub fn answer(&mut self, response: Response) {
        if let Some(link) = &mut self.link {
            link.respond(self.grants, &response);
            link.push(&self.xen, self.grants);
        }
    }

    /// Moves the data of a request; the status.
    pub fn work(&mut self, request: &Request) -> i16 {
        match request.operation {
            BLKIF_OP_READ | BLKIF_OP_WRITE => {}
            BLKIF_OP_FLUSH_DISKCACHE => return BLKIF_RSP_OKAY,
            _ => return BLKIF_RSP_EOPNOTSUPP,
        }
        let mut sector = usize::try_from(request.sector_number).unwrap_or(usize::MAX);
        for segment in segments(request) {
            let count = usize::from(segment.last_sect).saturating_sub(segment.first_sect.into()) + 1;
            let from = sector.saturating_mul(SECTOR);
            let Some(data) = self.disk.get_mut(from..from.saturating_add(count * SECTOR)) else {
                return BLKIF_RSP_ERROR;
            };
            let at = address(segment.gref) + u64::from(segment.first_sect) * SECTOR as u64;
            let moved = match request.operation {
                BLKIF_OP_READ => self.grants.write(at, data),
                _ => self.grants.read(at, data),
            };
            if moved.is_err() {
                return BLKIF_RSP_ERROR;
            }
            sector += count;
        }
        BLKIF_RSP_OKAY
    }
}

/// The segments of a read or write.
pub fn segments(request: &Request) -> impl Iterator<Item = Segment> {
    request.seg.into_iter().take(request.nr_segments.into())
}

/// Where a granted page is, for [`GrantMap`].
pub fn address(gref: u32) -> u64 {
    GRANT_BIT | u64::from(gref) << PAGE_SHIFT
}

/// A good response.
pub fn response_to(request: &Request) -> Response {
    Response { id: request.id, operation: request.operation, status: BLKIF_RSP_OKAY, ..Response::default() }
}

/// The first frontend that the toolstack names, and our directory for it.
fn named(store: &mut Xenstore<Xen>) -> Option<(String, DomId)> {
    let peer = store.directory(BACKENDS).ok()?.first()?.to_string();
    let device = store.directory(&format!("{BACKENDS}/{peer}")).ok()?.first()?.to_string();
    let dir = format!("{BACKENDS}/{peer}/{device}");
    // The last node that libxl writes before it waits.
    store.read(&format!("{dir}/state")).ok()?;
    Some((dir, DomId(peer.parse().ok()?)))
}
