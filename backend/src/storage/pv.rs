//! A PV disk of another domain, over blkfront.
//!
//! Guest frames cannot be granted again, so data goes through blkfront's bounce pages. A
//! request longer than one ring request can be is split into pieces of equal length, which
//! finish in any order; the request is over with its last piece. The ring carries the
//! request's slot and the piece's number, so nothing is searched for.
//!
//! The connection may break at any time; `pv/failover.rs` says what happens then.

mod failover;
mod piece;

use super::remote::{Cache, Progress, Refusal, Requests, Timeout, piece};
use super::{Discard, Geometry, Io, Operation, Outcome, Storage, Submitted, Ticket};
use crate::limit::{Limiter, warn_limited};
use drivers::BlkFront;
use drivers::blkfront::{Completion, Health, IoError, Reconnect};
use kernel::{DomId, Hypervisor, Port};
use piece::{PAGE_BYTES, piece_bytes, submit_piece};

/// Longest range of one discard: 2 GiB.
const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// Longest range of zeros in one request: 16 MiB, which go over the ring as pages.
const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 15;

/// The connection, or the way to the next one.
#[expect(clippy::large_enum_variant, reason = "there is one for each disk, on the heap")]
enum Link<H: Hypervisor> {
    Up(BlkFront<H>),
    Down(Reconnect<H>),
}

/// The engine.
pub struct PvDisk<H: Hypervisor> {
    /// `None` only while one becomes the other.
    link: Option<Link<H>>,
    /// What the guest was told, but for the length.
    geometry: Geometry,
    /// The storage backend's domain, of the connection there is or was last.
    domid: DomId,
    requests: Requests,
    cache: Cache,
    timeout: Timeout,
    limiter: Limiter,
}

impl<H: Hypervisor> PvDisk<H> {
    /// Serves from a connected blkfront. Without a storage backend for longer than
    /// `backend_timeout_ns` (`None`: no limit), requests fail until there is one again.
    #[must_use]
    pub fn new(front: BlkFront<H>, backend_timeout_ns: Option<u64>) -> PvDisk<H> {
        PvDisk {
            geometry: geometry_of(&front),
            domid: front.backend_domid(),
            link: Some(Link::Up(front)),
            requests: Requests::new(),
            cache: Cache::default(),
            timeout: Timeout::new(backend_timeout_ns),
            limiter: Limiter::new(),
        }
    }

    /// Gives the connection back, if there is one, for its orderly end. Requests under way are
    /// lost.
    #[must_use]
    pub fn into_front(self) -> Option<BlkFront<H>> {
        match self.link {
            Some(Link::Up(front)) => Some(front),
            _ => None,
        }
    }

    fn up(&self) -> Option<&BlkFront<H>> {
        match &self.link {
            Some(Link::Up(front)) => Some(front),
            _ => None,
        }
    }

    fn up_mut(&mut self) -> Option<&mut BlkFront<H>> {
        match &mut self.link {
            Some(Link::Up(front)) => Some(front),
            _ => None,
        }
    }

    /// How often the storage backend was notified, over the present connection.
    #[must_use]
    pub fn sends(&self) -> u64 {
        self.up().map_or(0, BlkFront::sends)
    }

    /// Whether requests can be sent off now.
    fn is_connected(&self) -> bool {
        self.up().is_some_and(|front| front.health() == Health::Connected)
    }

    /// Submits the pieces that are left, as far as there is room.
    fn submit_pieces(&mut self, io: &Io<'_>, slot: u16) -> Progress {
        let PvDisk { link, geometry, requests, .. } = self;
        requests.submit_pieces(io, slot, |request| {
            // Without a connection it waits for the next one.
            let Some(Link::Up(front)) = link else { return Err(Refusal::NoRoom) };
            submit_piece(front, geometry, io, slot, request)
        })
    }

    /// Takes a request out if it is over.
    fn retire(&mut self, io: &Io<'_>, slot: u16) -> Option<(Ticket, Outcome)> {
        let (ticket, outcome) = self.requests.retire(io, slot, &mut self.cache)?;
        // Not piece by piece: one of which a part was done is done again as a whole, so that part is not to be lost.
        if outcome == Outcome::Done && ticket.operation().is_write() {
            self.cache.note_written();
        }
        Some((ticket, outcome))
    }

    /// Takes note of one completed piece; returns its request's slot.
    fn complete_piece(&mut self, io: &Io<'_>, completion: Completion) -> Option<u16> {
        // It came over the connection.
        let Some(Link::Up(front)) = &mut self.link else { return None };
        // As `submit_piece` made it; blkfront lets no other id through.
        let slot = u16::try_from(completion.id >> 16).ok()?;
        let index = u16::try_from(completion.id & 0xffff).ok()?;
        let mut request = self.requests.get_mut(slot);
        let mut outcome = match completion.outcome {
            Ok(()) => Outcome::Done,
            Err(IoError::Unsupported) => Outcome::Unsupported,
            Err(IoError::Failed) => Outcome::IoError,
        };
        if let Some(bounce) = completion.bounce {
            // Only what a read has brought is the guest's. What a failed one left in the pages is not copied.
            if let (Some(request), Outcome::Done) = (&mut request, outcome)
                && let operation @ Operation::Read { .. } = request.ticket.operation()
                && let Some((skip, len)) = piece(piece_bytes(&self.geometry), operation, index)
                && io.scatter(&request.ticket, skip..skip.saturating_add(len), front.pages(&bounce)).is_err()
            {
                // The guest has no memory there, or has taken its buffers back.
                outcome = Outcome::IoError;
            }
            // The response says that blkback has done with them.
            front.give_back(bounce);
        }
        let request = request?;
        request.outstanding = request.outstanding.saturating_sub(1);
        // The first error of several pieces is the request's.
        if request.outcome == Outcome::Done {
            request.outcome = outcome;
        }
        Some(slot)
    }

    /// Submits what waits for room; returns the first request that is over by that.
    fn resume_queued(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        while let Some(slot) = self.requests.first_waiting() {
            // It stays the first, so that requests keep their order.
            if self.submit_pieces(io, slot) == Progress::NoRoom {
                return None;
            }
            self.requests.end_wait();
            // Without a piece on its way no completion would ever bring it back.
            if let Some(finished) = self.retire(io, slot) {
                return Some(finished);
            }
        }
        None
    }
}

/// How many pieces an operation takes.
fn pieces(geometry: &Geometry, operation: Operation) -> Option<u16> {
    if let Operation::Discard { .. } = operation {
        // It carries no data.
        return Some(1);
    }
    match operation.byte_range() {
        // The usual one; a division costs more than the comparison.
        Some((_, len_bytes)) if len_bytes <= piece_bytes(geometry) => Some(1),
        Some((_, len_bytes)) => u16::try_from(len_bytes.div_ceil(piece_bytes(geometry))).ok(),
        None => Some(1),
    }
}

fn geometry_of<H: Hypervisor>(front: &BlkFront<H>) -> Geometry {
    let geometry = front.geometry();
    let piece_bytes = u64::from(front.max_pages_per_request()).saturating_mul(PAGE_BYTES);
    Geometry {
        capacity_sectors: geometry.sectors,
        block_size_bytes: geometry.sector_size_bytes,
        physical_block_size_bytes: geometry.physical_sector_size_bytes,
        transfer_bytes: u32::try_from(piece_bytes).unwrap_or(u32::MAX),
        read_only: geometry.read_only,
        flush: geometry.flush,
        discard: geometry.discard.map(|discard| Discard {
            granularity_bytes: discard.granularity_bytes,
            max_sectors: MAX_DISCARD_SECTORS,
            secure: discard.secure,
        }),
        max_write_zeroes_sectors: MAX_WRITE_ZEROES_SECTORS,
    }
}

impl<H: Hypervisor> Storage for PvDisk<H> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn port(&self) -> Option<Port> {
        self.up().map(BlkFront::port)
    }

    fn submit(&mut self, io: &Io<'_>, ticket: Ticket) -> Submitted {
        // The guest's own timeouts end what nobody answers; more requests would only pile up.
        if self.timeout.is_over() {
            warn_limited!(self.limiter, "a request failed: the disk has no storage backend");
            return Submitted::Done(ticket, Outcome::IoError);
        }
        let connected = self.is_connected();
        // What waits for room comes first. Without a connection everything queues up.
        if connected && self.requests.waiting() > 0 {
            return Submitted::Full(ticket);
        }
        // The guest has to learn that writes were lost, and only a flush can say so.
        if ticket.operation() == Operation::Flush && self.cache.take_lost() {
            self.report_lost();
            return Submitted::Done(ticket, Outcome::IoError);
        }
        // More pieces than the id in the ring has numbers for.
        let Some(pieces) = pieces(&self.geometry, ticket.operation()) else {
            return Submitted::Done(ticket, Outcome::IoError);
        };
        let slot = match self.requests.insert(ticket, pieces, &self.cache) {
            Ok(slot) => slot,
            Err(ticket) => return Submitted::Full(ticket),
        };
        if !connected || self.submit_pieces(io, slot) == Progress::NoRoom {
            self.requests.wait(slot);
        }
        // It may be over already: refused, or a flush that this storage backend does not need.
        match self.retire(io, slot) {
            Some((ticket, outcome)) => Submitted::Done(ticket, outcome),
            None => Submitted::Pending,
        }
    }

    fn kick(&mut self) {
        if let Some(front) = self.up_mut() {
            front.kick();
        }
    }

    fn responses(&self) -> u32 {
        self.up().map_or(0, BlkFront::responses)
    }

    fn next_completion(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        while let Some(completion) = self.up_mut().and_then(BlkFront::next_completion) {
            self.timeout.on_response();
            let slot = self.complete_piece(io, completion);
            if let Some(finished) = slot.and_then(|slot| self.retire(io, slot)) {
                self.timeout.on_done();
                return Some(finished);
            }
        }
        // Each completion made room. Without a connection, some requests need not wait for one.
        if self.is_connected() { self.resume_queued(io) } else { self.fail_next(io) }
    }

    fn enable_events(&mut self, completions: u32) -> bool {
        match self.up_mut() {
            // A broken connection sends no event, and somebody has to see to it (`failover.rs`).
            Some(front) => front.health() != Health::Connected || front.enable_events(completions),
            None => false,
        }
    }
}
