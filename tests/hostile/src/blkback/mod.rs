//! A block back end of our own, honest until it is told otherwise (`public/io/blkif.h`).
//!
//! It serves one frontend from a disk in its memory. It follows the frontend's xenbus states, so that a
//! connection that one of them broke is made again.

mod attacks;
mod link;

use crate::back_end::{BackEnd, address, failed};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
pub use attacks::{ALL, Attack};
use drivers::Xenstore;
use kernel::{Delay, DelayNs, Hypervisor, Xen};
pub use link::Link;
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
    /// Our place in xenstore, and the frontend's memory.
    pub end: BackEnd,
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

impl Blkback {
    /// Waits for the toolstack to name a frontend.
    pub fn wait(xen: Xen) -> Result<Blkback, String> {
        let (end, disk, lies) = (BackEnd::wait(xen, BACKENDS)?, vec![0; SECTORS * SECTOR], Vec::new());
        Ok(Blkback { end, disk, link: None, lies, looks: 0, served: 0, connections: 0 })
    }

    /// Ends the connection, if there is one, on our side.
    pub fn unlink(&mut self) {
        if let Some(link) = self.link.take() {
            link.end(&self.end.xen, self.end.grants);
        }
    }

    /// Does what an honest back end does with the frontend's state.
    pub fn follow(&mut self) -> Result<(), String> {
        use XenbusState as S;
        let (front, ours) = self.end.states()?;
        match (front, ours) {
            (S::Initialising, S::InitWait) => Ok(()),
            (S::Initialising, _) => {
                self.unlink();
                self.offer()?;
                self.end.set_state(S::InitWait)
            }
            (S::Initialised, S::InitWait) => self.connect(),
            // A connection of ours that the frontend does not know of, or the other way round.
            (S::Connected | S::Initialised, S::Connected) if self.link.is_some() => Ok(()),
            (S::Connected | S::Initialised, S::Closing) => Ok(()),
            (S::Connected | S::Initialised, _) => self.end.set_state(S::Closing),
            (S::Closed | S::Closing | S::Unknown, S::Closed) => Ok(()),
            (S::Closing | S::Closed | S::Unknown, _) => {
                self.unlink();
                self.end.set_state(S::Closed)
            }
            _ => Ok(()),
        }
    }

    /// Writes a node of our directory, or what is told in its place.
    fn tell(&mut self, key: &'static str, value: &str) -> Result<(), String> {
        let value = self.lies.iter().find(|(lie, _)| *lie == key).map_or(value, |(_, value)| value);
        self.end.store.write(&format!("{}/{key}", self.end.dir), value.as_bytes()).map_err(failed(key))
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
            (format!("{}/ring-ref", self.end.frontend), format!("{}/event-channel", self.end.frontend));
        if self.end.store.read(&gref).is_err() {
            // A ring of several pages, since an attack offered one: this back end has no use for it.
            return self.end.set_state(XenbusState::Closing);
        }
        let (gref, port) = (number(&mut self.end.store, gref)?, number(&mut self.end.store, port)?);
        let link = Link::new(&self.end.xen, self.end.grants, self.end.peer, gref, port)?;
        self.link = Some(link);
        self.connections = self.connections.wrapping_add(1);
        for (key, value) in
            [("sectors", format!("{SECTORS}").as_str()), ("sector-size", "512"), ("info", "0")]
        {
            self.tell(key, value)?;
        }
        self.end.set_state(XenbusState::Connected)
    }

    /// The next request, honest in everything else, until then. `None`: none came.
    pub fn next_request(&mut self, deadline_ns: u64) -> Result<Option<Request>, String> {
        while self.end.xen.now_ns() < deadline_ns {
            self.looks = self.looks.wrapping_add(1);
            if self.looks.is_multiple_of(LOOKS) {
                self.follow()?;
            }
            if let Some(request) = self.link.as_mut().and_then(|link| link.ring.take(self.end.grants)) {
                return Ok(Some(request));
            }
            Delay::new(&self.end.xen).delay_us(IDLE_US);
        }
        Ok(None)
    }

    /// Serves requests as they should be until `count` are done. Fails if they are not within that time.
    pub fn honest(&mut self, count: u64, for_ns: u64) -> Result<(), String> {
        let until_ns = self.end.xen.now_ns().saturating_add(for_ns);
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
        let until_ns = self.end.xen.now_ns().saturating_add(for_ns);
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
            link.ring.respond(self.end.grants, &response);
            link.push(&self.end.xen, self.end.grants);
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
                BLKIF_OP_READ => self.end.grants.write(at, data),
                _ => self.end.grants.read(at, data),
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

/// A good response.
pub fn response_to(request: &Request) -> Response {
    Response { id: request.id, operation: request.operation, status: BLKIF_RSP_OKAY, ..Response::default() }
}
