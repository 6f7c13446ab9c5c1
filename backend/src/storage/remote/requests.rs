//! The requests that an engine owns.
//!
//! A request longer than the connection carries at once goes in pieces of equal length, which finish in any
//! order; the request is over with its last piece. When the connection breaks, all that is not over is held,
//! and submitted again, whole, over the next one.

use super::Cache;
use crate::storage::{Io, Operation, Outcome, Ticket};
use alloc::boxed::Box;
use heapless::Deque;

/// Requests under way at most.
const REQUESTS: usize = 512;

/// A request that the engine owns.
pub(in crate::storage) struct InFlight {
    pub(in crate::storage) ticket: Ticket,
    /// Its place among all requests ever submitted.
    sequence: u64,
    /// Pieces in all, and how many have been submitted.
    pub(in crate::storage) pieces: u16,
    pub(in crate::storage) submitted: u16,
    pub(in crate::storage) outstanding: u16,
    pub(in crate::storage) outcome: Outcome,
    /// For a flush: the writes that it makes durable, see [`Cache`].
    covers: u64,
}

impl InFlight {
    /// Nothing more will be submitted for it, and nothing is under way.
    fn is_over(&self) -> bool {
        // After an error the pieces under way are still awaited: their pages are in use.
        self.outstanding == 0 && (self.submitted == self.pieces || self.outcome != Outcome::Done)
    }

    /// It is answered now. What that means for the cache, if it is a flush: one that failed makes nothing durable,
    /// and tells of what is lost only a guest that still waits for it.
    fn note_flush(&self, io: &Io<'_>, cache: &mut Cache) {
        if self.ticket.operation() != Operation::Flush {
            return;
        }
        if self.outcome == Outcome::Done {
            cache.note_flushed(self.covers);
        } else if io.is_live(&self.ticket) {
            cache.note_told(self.covers);
        }
    }
}

/// Whether all pieces of a request could be submitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::storage) enum Progress {
    All,
    NoRoom,
}

/// Why a piece was not submitted.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) enum Refusal {
    /// Not now: there is no room for it, or no connection.
    NoRoom,
    /// It is as good as done.
    NotNeeded,
    /// It never can be.
    Failed(Outcome),
}

/// The requests.
pub(in crate::storage) struct Requests {
    slots: Box<[Option<InFlight>]>,
    free: heapless::Vec<u16, REQUESTS>,
    /// Requests of which pieces are still to be submitted, in the order to submit them. One
    /// at most, unless the connection broke.
    queue: Deque<u16, REQUESTS>,
    sequence: u64,
}

impl Requests {
    pub(in crate::storage) fn new() -> Requests {
        let mut free = heapless::Vec::new();
        for slot in (0u16..).take(REQUESTS) {
            let _ = free.push(slot);
        }
        let slots = core::iter::repeat_with(|| None).take(REQUESTS).collect();
        Requests { slots, free, queue: Deque::new(), sequence: 0 }
    }

    /// Takes a request of so many pieces; its slot. The ticket comes back if there is none.
    #[inline]
    pub(in crate::storage) fn insert(
        &mut self,
        ticket: Ticket,
        pieces: u16,
        cache: &Cache,
    ) -> Result<u16, Ticket> {
        let Some(slot) = self.free.pop() else { return Err(ticket) };
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(entry) = self.slots.get_mut(usize::from(slot)) {
            *entry = Some(InFlight {
                ticket,
                sequence: self.sequence,
                pieces,
                submitted: 0,
                outstanding: 0,
                outcome: Outcome::Done,
                covers: cache.completed(),
            });
        }
        Ok(slot)
    }

    /// Whether there are none.
    pub(in crate::storage) fn is_empty(&self) -> bool {
        self.free.len() == REQUESTS
    }

    /// The request in that slot.
    #[inline]
    pub(in crate::storage) fn get_mut(&mut self, slot: u16) -> Option<&mut InFlight> {
        self.slots.get_mut(usize::from(slot)).and_then(Option::as_mut)
    }

    /// The first request that waits for room or a connection.
    #[inline]
    pub(in crate::storage) fn first_waiting(&self) -> Option<u16> {
        self.queue.front().copied()
    }

    /// How many wait.
    #[inline]
    pub(in crate::storage) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Has the request wait, behind the others.
    #[inline]
    pub(in crate::storage) fn wait(&mut self, slot: u16) {
        // There is room for every slot.
        let _ = self.queue.push_back(slot);
    }

    /// All of the first one that waits was submitted.
    #[inline]
    pub(in crate::storage) fn end_wait(&mut self) {
        self.queue.pop_front();
    }

    /// Submits the pieces that are left of a request, as far as there is room; `submit` does it for the
    /// next one.
    #[inline(always)]
    pub(in crate::storage) fn submit_pieces(
        &mut self,
        io: &Io<'_>,
        slot: u16,
        mut submit: impl FnMut(&InFlight) -> Result<(), Refusal>,
    ) -> Progress {
        let Some(request) = self.get_mut(slot) else { return Progress::All };
        // After an error the request fails as a whole: further pieces would be work for nothing.
        while request.submitted < request.pieces && request.outcome == Outcome::Done {
            if !io.is_live(&request.ticket) {
                // Nobody waits for it; what is under way will still come back.
                request.outcome = Outcome::IoError;
                break;
            }
            match submit(request) {
                Ok(()) => {
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
    #[inline]
    pub(in crate::storage) fn retire(
        &mut self,
        io: &Io<'_>,
        slot: u16,
        cache: &mut Cache,
    ) -> Option<(Ticket, Outcome)> {
        let entry = self.slots.get_mut(usize::from(slot))?;
        entry.as_ref().filter(|request| request.is_over())?;
        let request = entry.take()?;
        request.note_flush(io, cache);
        let InFlight { ticket, outcome, .. } = request;
        // There is room for every slot.
        let _ = self.free.push(slot);
        // Only the first one can be over before all of it was submitted.
        if self.queue.front() == Some(&slot) {
            self.queue.pop_front();
        }
        Some((ticket, outcome))
    }

    /// The connection broke: everything that is not over waits for the next one.
    pub(in crate::storage) fn hold(&mut self) {
        for request in self.slots.iter_mut().flatten() {
            // Its pages, and what a read has put into them, went with the connection.
            // An outcome stays: what has failed before need not be done again.
            request.submitted = 0;
            request.outstanding = 0;
        }
        // Flushes last: what they cover was completed before the break, and is not among these.
        let order = |slot: u16| {
            let request = self.slots.get(usize::from(slot))?.as_ref()?;
            Some((request.ticket.operation() == Operation::Flush, request.sequence))
        };
        // The library's sort would be 4 KiB of the image, for a few hundred entries at most.
        let mut held: heapless::Vec<u16, REQUESTS> = heapless::Vec::new();
        for slot in (0u16..).take(REQUESTS) {
            let Some(place) = order(slot) else { continue };
            // There is room for every slot.
            let _ = held.insert(held.partition_point(|&other| order(other) < Some(place)), slot);
        }
        self.queue.clear();
        for slot in held {
            let _ = self.queue.push_back(slot);
        }
    }

    /// There is a connection again, which may carry less at once: `pieces` says how many pieces an
    /// operation takes now.
    pub(in crate::storage) fn renew(&mut self, pieces: impl Fn(Operation) -> Option<u16>) {
        for request in self.slots.iter_mut().flatten() {
            let count = pieces(request.ticket.operation());
            // One that is too long for it cannot be; it would fail alone.
            request.pieces = count.unwrap_or(0);
            if count.is_none() {
                request.outcome = Outcome::IoError;
            }
        }
    }

    /// Has every flush fail that is held.
    pub(in crate::storage) fn fail_flushes(&mut self) {
        for request in self.slots.iter_mut().flatten() {
            if request.ticket.operation() == Operation::Flush {
                request.outcome = Outcome::IoError;
            }
        }
    }

    /// Without a connection: the next request that need not wait for one. `all`: none may.
    #[cold]
    #[inline(never)]
    pub(in crate::storage) fn take_failed(
        &mut self,
        io: &Io<'_>,
        all: bool,
        cache: &mut Cache,
    ) -> Option<(Ticket, Outcome)> {
        let at = self.slots.iter().position(|request| {
            request.as_ref().is_some_and(|request| {
                all || request.outcome != Outcome::Done || !io.is_live(&request.ticket)
            })
        })?;
        let mut request = self.slots.get_mut(at)?.take()?;
        let slot = u16::try_from(at).ok()?;
        let _ = self.free.push(slot);
        self.queue.retain(|&queued| queued != slot);
        // It was not refused by itself: the time is over, or nobody waits for it.
        if request.outcome == Outcome::Done {
            request.outcome = Outcome::IoError;
        }
        request.note_flush(io, cache);
        Some((request.ticket, request.outcome))
    }
}

/// Offset and length, in bytes, of a piece in its request's data, if each but the last has `piece_bytes`.
pub(in crate::storage) fn piece(piece_bytes: u64, operation: Operation, index: u16) -> Option<(u64, u64)> {
    let (_, len_bytes) = operation.byte_range()?;
    let skip = u64::from(index).checked_mul(piece_bytes)?;
    let left = len_bytes.checked_sub(skip)?;
    Some((skip, left.min(piece_bytes)))
}
