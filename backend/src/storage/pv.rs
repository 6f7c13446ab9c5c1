//! A PV disk of another domain, over blkfront.
//!
//! Guest frames cannot be granted again, so data goes through blkfront's bounce pages. A
//! request longer than one ring request can be is split into pieces of equal length, which
//! finish in any order; the request is over with its last piece. The ring carries the
//! request's slot and the piece's number, so nothing is searched for.

use super::{Discard, Geometry, Io, Outcome, Storage, Submitted};
use crate::blk::{Operation, Ticket};
use crate::limit::{Limiter, warn_limited};
use alloc::vec::Vec;
use drivers::BlkFront;
use drivers::blkfront::{Bounce, Completion, Health, IoError, Op, SubmitError};
use kernel::{Hypervisor, Port, SharedPage};

const PAGE_BYTES: u64 = xen_pv_sys::PAGE_SIZE as u64;
/// Requests under way at most.
const REQUESTS: u16 = 512;

/// Longest range of one discard: 2 GiB.
const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// Longest range of zeros in one request: 16 MiB, which go over the ring as pages.
const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 15;

/// A request that the engine owns.
struct InFlight {
    ticket: Ticket,
    /// Pieces in all, and how many have been submitted.
    pieces: u16,
    issued: u16,
    outstanding: u16,
    outcome: Outcome,
}

impl InFlight {
    /// Nothing more will be submitted for it, and nothing is under way.
    fn is_over(&self) -> bool {
        self.outstanding == 0 && (self.issued == self.pieces || self.outcome != Outcome::Done)
    }
}

/// Whether all pieces of a request could be submitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Issue {
    All,
    NoRoom,
}

/// The engine.
pub struct PvDisk<H: Hypervisor> {
    front: BlkFront<H>,
    requests: Vec<Option<InFlight>>,
    free: Vec<u16>,
    /// The one request of which pieces are still to be submitted.
    partial: Option<u16>,
    limiter: Limiter,
}

impl<H: Hypervisor> PvDisk<H> {
    /// Serves from a connected blkfront.
    #[must_use]
    pub fn new(front: BlkFront<H>) -> PvDisk<H> {
        let requests = core::iter::repeat_with(|| None).take(usize::from(REQUESTS)).collect();
        let free = (0..REQUESTS).rev().collect();
        PvDisk { front, requests, free, partial: None, limiter: Limiter::new() }
    }

    /// The connection, for its watch events.
    pub fn front(&mut self) -> &mut BlkFront<H> {
        &mut self.front
    }

    /// Gives the connection back, for its orderly end. Requests under way are lost.
    #[must_use]
    pub fn into_front(self) -> BlkFront<H> {
        self.front
    }

    /// Bytes of every piece but the last. A multiple of a page, so of any logical block.
    fn piece_bytes(&self) -> u64 {
        u64::from(self.front.max_pages_per_request()).max(1).saturating_mul(PAGE_BYTES)
    }

    fn pieces(&self, operation: Operation) -> Option<u16> {
        if let Operation::Discard { .. } = operation {
            // It carries no data.
            return Some(1);
        }
        match super::byte_range(operation) {
            Some((_, len_bytes)) => u16::try_from(len_bytes.div_ceil(self.piece_bytes())).ok(),
            None => Some(1),
        }
    }

    /// Offset and length of a piece in its request's data.
    fn piece(&self, operation: Operation, index: u16) -> Option<(u64, u64)> {
        let (_, len_bytes) = super::byte_range(operation)?;
        let skip = u64::from(index).checked_mul(self.piece_bytes())?;
        let left = len_bytes.checked_sub(skip)?;
        Some((skip, left.min(self.piece_bytes())))
    }

    /// Submits the pieces that are left, as far as there is room.
    fn issue(&mut self, io: &Io<'_>, slot: u16) -> Issue {
        let Some(mut request) = self.requests.get_mut(usize::from(slot)).and_then(Option::take) else {
            return Issue::All;
        };
        let mut issue = Issue::All;
        while request.issued < request.pieces && request.outcome == Outcome::Done {
            if !io.is_live(&request.ticket) {
                // Nobody waits for it; what is under way will still come back.
                request.outcome = Outcome::IoError;
                break;
            }
            match self.issue_piece(io, slot, &request) {
                Ok(()) => {
                    request.issued = request.issued.saturating_add(1);
                    request.outstanding = request.outstanding.saturating_add(1);
                }
                Err(Refusal::NoRoom) => {
                    issue = Issue::NoRoom;
                    break;
                }
                Err(Refusal::Failed(outcome)) => request.outcome = outcome,
            }
        }
        if let Some(entry) = self.requests.get_mut(usize::from(slot)) {
            *entry = Some(request);
        }
        issue
    }

    fn issue_piece(&mut self, io: &Io<'_>, slot: u16, request: &InFlight) -> Result<(), Refusal> {
        let ticket = &request.ticket;
        let id = (u64::from(slot) << 16) | u64::from(request.issued);
        let op = match ticket.operation() {
            Operation::Flush => Op::Flush,
            Operation::Read { first_sector, .. } => {
                let (skip, len_bytes, bounce) = self.bounce(ticket, request.issued)?;
                Op::Read { first_sector: piece_sector(first_sector, skip), bounce, len_bytes }
            }
            Operation::Write { first_sector, .. } => {
                let (skip, len_bytes, bounce) = self.bounce(ticket, request.issued)?;
                if io.gather(ticket, skip, len_bytes.into(), self.front.pages(&bounce)).is_err() {
                    self.front.give_back(bounce);
                    return Err(Refusal::Failed(Outcome::IoError));
                }
                Op::Write { first_sector: piece_sector(first_sector, skip), bounce, len_bytes }
            }
            // The ring has no such operation, and a discard does not promise zeros.
            Operation::WriteZeroes { first_sector, .. } => {
                let (skip, len_bytes, bounce) = self.bounce(ticket, request.issued)?;
                self.front.pages(&bounce).for_each(SharedPage::zero);
                Op::Write { first_sector: piece_sector(first_sector, skip), bounce, len_bytes }
            }
            Operation::Discard { first_sector, len_bytes, secure } => {
                Op::Discard { first_sector, sectors: len_bytes / super::SECTOR_BYTES, secure }
            }
        };
        self.front.submit(id, op).map_err(|(error, op)| {
            if let Op::Read { bounce, .. } | Op::Write { bounce, .. } = op {
                self.front.give_back(bounce);
            }
            match error {
                SubmitError::RingFull => Refusal::NoRoom,
                SubmitError::Unsupported => Refusal::Failed(Outcome::Unsupported),
                SubmitError::NotConnected | SubmitError::BadRange => Refusal::Failed(Outcome::IoError),
            }
        })
    }

    /// Pages for a piece: its offset in the data, its length, and the pages.
    fn bounce(&mut self, ticket: &Ticket, index: u16) -> Result<(u64, u32, Bounce), Refusal> {
        let failed = Refusal::Failed(Outcome::IoError);
        let (skip, len) = self.piece(ticket.operation(), index).ok_or(failed)?;
        let len_bytes = u32::try_from(len).map_err(|_| failed)?;
        let pages = u16::try_from(len.div_ceil(PAGE_BYTES)).map_err(|_| failed)?;
        let bounce = self.front.take_pages(pages).ok_or(Refusal::NoRoom)?;
        Ok((skip, len_bytes, bounce))
    }

    /// Takes a request out if it is over.
    fn finish(&mut self, slot: u16) -> Option<(Ticket, Outcome)> {
        let entry = self.requests.get_mut(usize::from(slot))?;
        let request = entry.take_if(|request| request.is_over())?;
        self.free.push(slot);
        if self.partial == Some(slot) {
            self.partial = None;
        }
        Some((request.ticket, request.outcome))
    }

    /// Books one completed piece; returns its request's slot.
    fn book(&mut self, io: &Io<'_>, completion: Completion) -> Option<u16> {
        let slot = u16::try_from(completion.id >> 16).ok()?;
        let index = u16::try_from(completion.id & 0xffff).ok()?;
        let place = self.requests.get(usize::from(slot)).and_then(Option::as_ref);
        let operation = place.map(|request| request.ticket.operation());
        let piece = operation.and_then(|operation| self.piece(operation, index));
        let mut outcome = match completion.outcome {
            Ok(()) => Outcome::Done,
            Err(IoError::Unsupported) => Outcome::Unsupported,
            Err(IoError::Failed) => Outcome::IoError,
        };
        if let (Some(request), Some(Operation::Read { .. }), Some((skip, len)), Some(bounce), Outcome::Done) =
            (place, operation, piece, completion.bounce.as_ref(), outcome)
            && io.scatter(&request.ticket, skip, len, self.front.pages(bounce)).is_err()
        {
            outcome = Outcome::IoError;
        }
        if let Some(bounce) = completion.bounce {
            self.front.give_back(bounce);
        }
        let request = self.requests.get_mut(usize::from(slot))?.as_mut()?;
        request.outstanding = request.outstanding.saturating_sub(1);
        if request.outcome == Outcome::Done {
            request.outcome = outcome;
        }
        Some(slot)
    }

    /// After the backend broke the connection: every request has failed.
    fn fail_one(&mut self) -> Option<(Ticket, Outcome)> {
        let slot = self.requests.iter().position(Option::is_some)?;
        let request = self.requests.get_mut(slot)?.take()?;
        self.free.push(u16::try_from(slot).ok()?);
        self.partial = None;
        warn_limited!(self.limiter, "a request failed: the disk's backend is gone");
        Some((request.ticket, Outcome::IoError))
    }

    /// Submits more of the request that did not fit; returns it if it is over by that.
    fn go_on(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        let slot = self.partial?;
        if self.issue(io, slot) == Issue::All {
            self.partial = None;
        }
        self.finish(slot)
    }
}

/// Why a piece was not submitted.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    NoRoom,
    Failed(Outcome),
}

/// A piece's place on the disk. It lies inside the request's range, which was checked.
fn piece_sector(first_sector: u64, skip_bytes: u64) -> u64 {
    first_sector.saturating_add(skip_bytes / super::SECTOR_BYTES)
}

impl<H: Hypervisor> Storage for PvDisk<H> {
    fn geometry(&self) -> Geometry {
        let geometry = self.front.geometry();
        Geometry {
            capacity_sectors: geometry.sectors,
            block_size_bytes: geometry.sector_size_bytes,
            physical_block_size_bytes: geometry.physical_sector_size_bytes,
            transfer_bytes: u32::try_from(self.piece_bytes()).unwrap_or(u32::MAX),
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

    fn port(&self) -> Option<Port> {
        Some(self.front.port())
    }

    fn submit(&mut self, io: &Io<'_>, ticket: Ticket) -> Submitted {
        if self.partial.is_some() {
            return Submitted::Full(ticket);
        }
        let Some(pieces) = self.pieces(ticket.operation()) else {
            return Submitted::Done(ticket, Outcome::IoError);
        };
        let Some(slot) = self.free.pop() else { return Submitted::Full(ticket) };
        if let Some(entry) = self.requests.get_mut(usize::from(slot)) {
            *entry = Some(InFlight { ticket, pieces, issued: 0, outstanding: 0, outcome: Outcome::Done });
        }
        if self.issue(io, slot) == Issue::NoRoom {
            self.partial = Some(slot);
        }
        match self.finish(slot) {
            Some((ticket, outcome)) => Submitted::Done(ticket, outcome),
            None => Submitted::Pending,
        }
    }

    fn kick(&mut self) {
        self.front.kick();
    }

    fn next_completion(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        while let Some(completion) = self.front.next_completion() {
            let slot = self.book(io, completion);
            if let Some(finished) = slot.and_then(|slot| self.finish(slot)) {
                return Some(finished);
            }
        }
        if self.front.health() != Health::Connected {
            return self.fail_one();
        }
        self.go_on(io)
    }

    fn arm(&mut self) -> bool {
        // A broken connection sends no event: what is under way fails now.
        self.front.rearm() || self.front.health() != Health::Connected
    }
}
