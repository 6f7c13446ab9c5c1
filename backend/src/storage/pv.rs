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

use super::{Discard, Geometry, Io, Operation, Outcome, Storage, Submitted, Ticket};
use crate::limit::{Limiter, warn_limited};
use alloc::boxed::Box;
use drivers::BlkFront;
use drivers::blkfront::{Completion, Health, IoError, Reconnect};
use heapless::Deque;
use kernel::{DomId, Hypervisor, Port};
use piece::{PAGE_BYTES, Refusal, piece, piece_bytes, submit_piece};

/// Requests under way at most.
const REQUESTS: usize = 512;
/// Longest range of one discard: 2 GiB.
const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// Longest range of zeros in one request: 16 MiB, which go over the ring as pages.
const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 15;

/// A request that the engine owns.
struct InFlight {
    ticket: Ticket,
    /// Its place among all requests ever submitted.
    sequence: u64,
    /// Pieces in all, and how many have been submitted.
    pieces: u16,
    submitted: u16,
    outstanding: u16,
    outcome: Outcome,
    /// For a flush: the writes that it makes durable, see [`Cache`].
    covers: u64,
}

impl InFlight {
    /// Nothing more will be submitted for it, and nothing is under way.
    fn is_over(&self) -> bool {
        // After an error the pieces under way are still awaited: their pages are in use.
        self.outstanding == 0 && (self.submitted == self.pieces || self.outcome != Outcome::Done)
    }
}

/// Whether all pieces of a request could be submitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    All,
    NoRoom,
}

/// What the storage backend may hold in a volatile cache.
#[derive(Default)]
struct Cache {
    /// Writes and discards completed so far.
    completed: u64,
    /// How many of them a flush has made durable.
    durable: u64,
    /// Some were lost with their storage backend: the next flush has to fail.
    lost: bool,
}

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
    requests: Box<[Option<InFlight>]>,
    free: heapless::Vec<u16, REQUESTS>,
    /// Requests of which pieces are still to be submitted, in the order to submit them. One
    /// at most, unless the connection broke.
    queue: Deque<u16, REQUESTS>,
    sequence: u64,
    /// Pieces at the storage backend.
    outstanding: u32,
    cache: Cache,
    timeout: failover::BackendTimeout,
    limiter: Limiter,
}

impl<H: Hypervisor> PvDisk<H> {
    /// Serves from a connected blkfront. Without a storage backend for longer than
    /// `backend_timeout_ns` (`None`: no limit), requests fail until there is one again.
    #[must_use]
    pub fn new(front: BlkFront<H>, backend_timeout_ns: Option<u64>) -> PvDisk<H> {
        let mut free = heapless::Vec::new();
        for slot in (0u16..).take(REQUESTS) {
            let _ = free.push(slot);
        }
        let requests = core::iter::repeat_with(|| None).take(REQUESTS).collect();
        PvDisk {
            geometry: geometry_of(&front),
            domid: front.backend_domid(),
            link: Some(Link::Up(front)),
            requests,
            free,
            queue: Deque::new(),
            sequence: 0,
            outstanding: 0,
            cache: Cache::default(),
            timeout: failover::BackendTimeout::new(backend_timeout_ns),
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

    fn pieces(&self, operation: Operation) -> Option<u16> {
        if let Operation::Discard { .. } = operation {
            // It carries no data.
            return Some(1);
        }
        match operation.byte_range() {
            // The usual one; a division costs more than the comparison.
            Some((_, len_bytes)) if len_bytes <= piece_bytes(&self.geometry) => Some(1),
            Some((_, len_bytes)) => u16::try_from(len_bytes.div_ceil(piece_bytes(&self.geometry))).ok(),
            None => Some(1),
        }
    }

    /// Submits the pieces that are left, as far as there is room.
    fn submit_pieces(&mut self, io: &Io<'_>, slot: u16) -> Progress {
        let Some(Some(request)) = self.requests.get_mut(usize::from(slot)) else { return Progress::All };
        // After an error the request fails as a whole: further pieces would be work for nothing.
        while request.submitted < request.pieces && request.outcome == Outcome::Done {
            if !io.is_live(&request.ticket) {
                // Nobody waits for it; what is under way will still come back.
                request.outcome = Outcome::IoError;
                break;
            }
            // Without a connection it waits for the next one.
            let Some(Link::Up(front)) = &mut self.link else { return Progress::NoRoom };
            match submit_piece(front, &self.geometry, io, slot, request) {
                Ok(()) => {
                    self.outstanding = self.outstanding.saturating_add(1);
                    request.submitted = request.submitted.saturating_add(1);
                    request.outstanding = request.outstanding.saturating_add(1);
                }
                Err(Refusal::NoRoom) => return Progress::NoRoom,
                // It counts as submitted, and no response is awaited.
                Err(Refusal::NotNeeded) => request.submitted = request.submitted.saturating_add(1),
                Err(Refusal::Failed(outcome)) => request.outcome = outcome,
            }
        }
        Progress::All
    }

    /// Takes a request out if it is over.
    fn retire(&mut self, slot: u16) -> Option<(Ticket, Outcome)> {
        let entry = self.requests.get_mut(usize::from(slot))?;
        let request = entry.as_ref().filter(|request| request.is_over())?;
        // A failed flush makes nothing durable, a failed write promises nothing.
        if request.outcome == Outcome::Done {
            self.cache.note(request);
        }
        let InFlight { ticket, outcome, .. } = entry.take()?;
        // There is room for every slot.
        let _ = self.free.push(slot);
        // Only the first one can be over before all of it was submitted.
        if self.queue.front() == Some(&slot) {
            self.queue.pop_front();
        }
        Some((ticket, outcome))
    }

    /// Takes note of one completed piece; returns its request's slot.
    fn complete_piece(&mut self, io: &Io<'_>, completion: Completion) -> Option<u16> {
        // It came over the connection.
        let Some(Link::Up(front)) = &mut self.link else { return None };
        self.outstanding = self.outstanding.saturating_sub(1);
        // As `submit_piece` made it; blkfront lets no other id through.
        let slot = u16::try_from(completion.id >> 16).ok()?;
        let index = u16::try_from(completion.id & 0xffff).ok()?;
        let mut request = self.requests.get_mut(usize::from(slot)).and_then(Option::as_mut);
        let mut outcome = match completion.outcome {
            Ok(()) => Outcome::Done,
            Err(IoError::Unsupported) => Outcome::Unsupported,
            Err(IoError::Failed) => Outcome::IoError,
        };
        if let Some(bounce) = completion.bounce {
            // Only what a read has brought is the guest's. What a failed one left in the pages is not copied.
            if let (Some(request), Outcome::Done) = (&mut request, outcome)
                && let operation @ Operation::Read { .. } = request.ticket.operation()
                && let Some((skip, len)) = piece(&self.geometry, operation, index)
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
        while let Some(&slot) = self.queue.front() {
            // It stays the first, so that requests keep their order.
            if self.submit_pieces(io, slot) == Progress::NoRoom {
                return None;
            }
            self.queue.pop_front();
            // Without a piece on its way no completion would ever bring it back.
            if let Some(finished) = self.retire(slot) {
                return Some(finished);
            }
        }
        None
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
        if connected && !self.queue.is_empty() {
            return Submitted::Full(ticket);
        }
        // The guest has to learn that writes were lost, and only a flush can say so.
        if ticket.operation() == Operation::Flush && self.cache.take_lost() {
            self.report_lost();
            return Submitted::Done(ticket, Outcome::IoError);
        }
        // More pieces than the id in the ring has numbers for.
        let Some(pieces) = self.pieces(ticket.operation()) else {
            return Submitted::Done(ticket, Outcome::IoError);
        };
        let Some(slot) = self.free.pop() else { return Submitted::Full(ticket) };
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(entry) = self.requests.get_mut(usize::from(slot)) {
            *entry = Some(InFlight {
                ticket,
                sequence: self.sequence,
                pieces,
                submitted: 0,
                outstanding: 0,
                outcome: Outcome::Done,
                covers: self.cache.completed,
            });
        }
        // There is room for every slot.
        if !connected || self.submit_pieces(io, slot) == Progress::NoRoom {
            let _ = self.queue.push_back(slot);
        }
        // It may be over already: refused, or a flush that this storage backend does not need.
        match self.retire(slot) {
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
            if let Some(finished) = slot.and_then(|slot| self.retire(slot)) {
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
