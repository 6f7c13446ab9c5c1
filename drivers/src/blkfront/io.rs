//! Requests out, completions in.

use super::pool::Bounce;
use super::slots::{InFlight, Mismatch};
use super::wire::{self, Direction, RequestKind, Transfer};
use super::{BlkFront, Completion, Health, IoError, Op, PeerFault, SubmitError};
use crate::gnttab::GrantedPage;
use crate::ring::{ResponseOverrun, RingFull};
use kernel::{Hypervisor, Order};
use xen_pv_sys::io::blkif::{
    BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_OKAY, MAX_SEGMENTS_PER_REQUEST, Response, SECTOR_SIZE, Segment,
};
use zerocopy::{FromZeros, IntoBytes};

impl<H: Hypervisor> BlkFront<H> {
    /// Queues one request under the caller's `id`; blkback sees it after
    /// [`BlkFront::kick`].
    ///
    /// # Errors
    /// Why not, and the request itself, pages and all.
    pub fn submit(&mut self, id: u64, op: Op) -> Result<(), (SubmitError, Op)> {
        // Judged before the ring has any of it: what is queued there cannot be taken back.
        if let Err(error) = self.check(&op) {
            return Err((error, op));
        }
        // As many slots as entries: without a slot there is no entry either.
        let Some(wire_id) = self.slots.next_id() else { return Err((SubmitError::RingFull, op)) };
        let handle = self.handle;
        let transfer = |direction, sector_number| Transfer { direction, id: wire_id, handle, sector_number };
        let queued = match &op {
            Op::Read { first_sector, bounce, len_bytes } => {
                self.queue_data(transfer(Direction::Read, *first_sector), bounce, *len_bytes)
            }
            Op::Write { first_sector, bounce, len_bytes } => {
                self.queue_data(transfer(Direction::Write, *first_sector), bounce, *len_bytes)
            }
            Op::Flush => self.ring.queue(wire::flush(wire_id, handle).as_bytes()).map(|()| None),
            Op::Discard { first_sector, sectors, secure } => {
                let request = wire::discard(wire_id, handle, *first_sector, *sectors, *secure);
                self.ring.queue(request.as_bytes()).map(|()| None)
            }
        };
        let Ok(indirect_page) = queued else { return Err((SubmitError::RingFull, op)) };
        let indirect = indirect_page.is_some();
        let (kind, bounce) = match op {
            Op::Read { bounce, .. } => {
                (RequestKind::Data { direction: Direction::Read, indirect }, Some(bounce))
            }
            Op::Write { bounce, .. } => {
                (RequestKind::Data { direction: Direction::Write, indirect }, Some(bounce))
            }
            Op::Flush => (RequestKind::Flush, None),
            Op::Discard { .. } => (RequestKind::Discard, None),
        };
        let kept = self.slots.insert(InFlight { caller_id: id, kind, bounce, indirect_page });
        debug_assert!(kept.is_ok(), "next_id promised a slot");
        Ok(())
    }

    fn check(&self, op: &Op) -> Result<(), SubmitError> {
        // Nobody would answer, and the pages would stay away until the next connection.
        if self.health != Health::Connected {
            return Err(SubmitError::NotConnected);
        }
        let geometry = &self.geometry;
        match op {
            Op::Read { first_sector, bounce, len_bytes } => {
                self.check_data(*first_sector, bounce, *len_bytes)
            }
            // Blkback would refuse it, but blkback is not trusted.
            Op::Write { .. } | Op::Discard { .. } if geometry.read_only => Err(SubmitError::Unsupported),
            Op::Write { first_sector, bounce, len_bytes } => {
                self.check_data(*first_sector, bounce, *len_bytes)
            }
            Op::Flush if geometry.flush => Ok(()),
            Op::Flush => Err(SubmitError::Unsupported),
            Op::Discard { first_sector, sectors, secure } => match geometry.discard {
                Some(discard) if discard.secure || !secure => {
                    let inside = geometry.contains(*first_sector, *sectors);
                    if inside { Ok(()) } else { Err(SubmitError::BadRange) }
                }
                _ => Err(SubmitError::Unsupported),
            },
        }
    }

    fn check_data(&self, first_sector: u64, bounce: &Bounce, len_bytes: u32) -> Result<(), SubmitError> {
        let bytes = u64::from(len_bytes);
        let sectors = bytes.checked_div(SECTOR_SIZE).unwrap_or(0);
        let pages = wire::pages_for(len_bytes);
        let good = bytes.is_multiple_of(SECTOR_SIZE)
            && self.geometry.contains(first_sector, sectors)
            && pages <= u32::from(self.max_pages)
            && self.pool.owns(bounce)
            && pages <= u32::from(bounce.page_count());
        if good { Ok(()) } else { Err(SubmitError::BadRange) }
    }

    /// Queues a read or write; returns the page that holds its segments, if one was needed.
    fn queue_data(
        &mut self,
        transfer: Transfer,
        bounce: &Bounce,
        len_bytes: u32,
    ) -> Result<Option<u16>, RingFull> {
        let segments = wire::segments(self.pool.pages(bounce).map(GrantedPage::gref), len_bytes);
        let count = wire::pages_for(len_bytes);
        // What fits into the entry itself needs no page of its own, and blkback no mapping of one.
        if count as usize <= MAX_SEGMENTS_PER_REQUEST {
            let request = wire::direct(transfer, segments);
            return self.ring.queue(wire::used(&request)).map(|()| None);
        }
        // Every indirect request holds 12 pages of the pool or more, and there is an
        // indirect page for each 12: one is free, or the ring is full.
        let index = *self.indirect_free.last().ok_or(RingFull)?;
        let page = self.indirect.get(usize::from(index)).ok_or(RingFull)?;
        for (place, segment) in segments.enumerate() {
            let word: u64 = zerocopy::transmute!(segment);
            let at = place.saturating_mul(size_of::<Segment>());
            let written = page.page().store(at, word, Order::Relaxed);
            debug_assert!(written.is_ok());
        }
        let count = u16::try_from(count).map_err(|_| RingFull)?;
        let request = wire::indirect(transfer, count, page.gref());
        // The page is taken only if the entry is: a full ring leaves everything as it was.
        self.ring.queue(request.as_bytes())?;
        self.indirect_free.pop();
        Ok(Some(index))
    }

    /// Shows the queued requests to blkback; notifies it if it asked for that.
    pub fn kick(&mut self) {
        // Blkback asks for an event only when it sleeps (`req_event`): while it works, this costs no hypercall.
        if self.health == Health::Connected && self.ring.publish() {
            self.sends = self.sends.wrapping_add(1);
            if let Err(errno) = self.port.notify() {
                self.break_off(PeerFault::Unreachable(errno));
            }
        }
    }

    /// How many times [`BlkFront::next_completion`] would find something: one load, nothing taken
    /// or judged.
    #[must_use]
    pub fn responses(&self) -> u32 {
        if self.health == Health::Connected { self.ring.responses() } else { 0 }
    }

    /// The next completion, if one has arrived. `None` as well once the connection is
    /// broken: see [`BlkFront::health`].
    pub fn next_completion(&mut self) -> Option<Completion> {
        // A ring that was broken once is not read again: its next response would be as good as the last.
        if self.health != Health::Connected {
            return None;
        }
        let mut response = Response::new_zeroed();
        match self.ring.next_response(response.as_mut_bytes()) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(overrun) => {
                self.break_off(PeerFault::ResponseOverrun(overrun));
                return None;
            }
        }
        let Response { id, operation, status, .. } = response;
        let request = match self.slots.take(id, operation) {
            Ok(request) => request,
            Err(mismatch) => {
                self.break_off(match mismatch {
                    Mismatch::UnknownId => PeerFault::UnknownId(id),
                    Mismatch::WrongOperation => PeerFault::WrongOperation { id, operation },
                });
                return None;
            }
        };
        // There is room: it held all of them at the start.
        let _full = request.indirect_page.and_then(|page| self.indirect_free.push(page).err());
        let outcome = match status {
            BLKIF_RSP_OKAY => Ok(()),
            // It may offer a feature and then turn out not to have it: Linux's does so with flushes.
            BLKIF_RSP_EOPNOTSUPP => Err(IoError::Unsupported),
            _ => Err(IoError::Failed),
        };
        Some(Completion { id: request.caller_id, outcome, bounce: request.bounce })
    }

    /// Asks for an event once there are `batch` responses, or all that are due. True if there are
    /// responses now: call [`BlkFront::next_completion`] again before sleeping.
    pub fn enable_events(&mut self, batch: u32) -> bool {
        if self.health != Health::Connected {
            return false;
        }
        self.ring.final_check(batch).unwrap_or_else(|overrun: ResponseOverrun| {
            self.break_off(PeerFault::ResponseOverrun(overrun));
            true
        })
    }

    /// Ends the use of the ring. Requests under way keep their pages: blkback may
    /// still write to them. Also for the caller, of a blkback that it has lost patience with.
    pub fn break_off(&mut self, fault: PeerFault) {
        // The first fault is the one that explains the others.
        if self.health == Health::Connected {
            log::error!("blkfront {}: {fault}; the connection is given up", self.session.paths.frontend);
            self.health = Health::Broken(fault);
        }
    }
}
