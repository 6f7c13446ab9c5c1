//! Frames out and in.

use super::{
    FRAME_MAX_BYTES, HEADER_BYTES, Health, MTU_USUAL_BYTES, NetFront, PARTS_MAX, PeerFault, SendError,
};
use crate::ring::ResponseOverrun;
use kernel::Hypervisor;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::netif::{
    NETIF_RSP_OKAY, NETRXF_CSUM_BLANK, NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, NETTXF_MORE_DATA, RxRequest,
    RxResponse, TxRequest, TxResponse,
};
use zerocopy::{FromZeros, IntoBytes};

/// A part of a frame: where it lies in its page, in bytes.
#[derive(Clone, Copy, Debug)]
struct Part {
    offset: u16,
    len: u16,
}

/// What a response of the receive ring means.
enum Verdict {
    Part(Part),
    Useless,
    Fault(PeerFault),
}

/// Judges a response that is in its turn.
fn judge(response: RxResponse, in_parts: bool) -> Verdict {
    let RxResponse { offset, flags, status, .. } = response;
    let agreed = if in_parts { NETRXF_EXTRA_INFO } else { NETRXF_EXTRA_INFO | NETRXF_MORE_DATA };
    if flags & agreed != 0 {
        return Verdict::Fault(PeerFault::BadFlags(flags));
    }
    // Below 0 it is an error: the place comes back empty.
    let Ok(len) = u16::try_from(status) else { return Verdict::Useless };
    if usize::from(offset).saturating_add(len.into()) > PAGE_SIZE {
        return Verdict::Fault(PeerFault::OutOfPage { offset, len });
    }
    // Nobody made the checksum of a frame that is marked so.
    if flags & NETRXF_CSUM_BLANK == 0 { Verdict::Part(Part { offset, len }) } else { Verdict::Useless }
}

/// The parts of a frame that have come, in places one after the other.
#[derive(Debug, Default)]
pub(super) struct Chain {
    parts: heapless::Vec<Part, PARTS_MAX>,
    /// Places that it takes.
    places: u16,
    /// One of them is of no use, so the frame is not.
    is_useless: bool,
}

impl Chain {
    /// Takes another part. False: there are too many.
    fn add(&mut self, part: Option<Part>) -> bool {
        self.places = self.places.saturating_add(1);
        match part {
            Some(part) => self.parts.push(part).is_ok(),
            None => {
                self.is_useless = true;
                usize::from(self.places) <= PARTS_MAX
            }
        }
    }

    /// Bytes of the frame, if it is one that the interface has. Whoever sent another may be at fault, not netback.
    fn len(&self, frame_max: usize) -> Option<usize> {
        let len = self.parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len.into()));
        (!self.is_useless && (HEADER_BYTES..=frame_max).contains(&len)).then_some(len)
    }
}

impl<H: Hypervisor> NetFront<H> {
    /// Bytes of the longest frame of this interface.
    #[must_use]
    pub fn frame_max_bytes(&self) -> usize {
        HEADER_BYTES.saturating_add(self.mtu_bytes.into())
    }

    /// Whether frames may come and go in parts.
    pub(super) fn is_in_parts(&self) -> bool {
        self.mtu_bytes > MTU_USUAL_BYTES
    }

    /// Whether there are pages for that many of the longest frames.
    fn has_pages(&self, frames: usize) -> bool {
        self.tx_free.len() >= frames.saturating_mul(self.frame_max_bytes().div_ceil(PAGE_SIZE))
    }

    /// Whether [`NetFront::send`] has room for a frame.
    pub fn can_send(&mut self) -> bool {
        self.has_room(1)
    }

    /// Whether there is room for that many frames.
    pub fn has_room(&mut self, frames: usize) -> bool {
        if !self.has_pages(frames) {
            self.reap();
        }
        self.health == Health::Connected && self.has_pages(frames)
    }

    /// Queues a frame; netback sees it after [`NetFront::kick`].
    ///
    /// # Errors
    /// Why not.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        let all_bytes = u16::try_from(frame.len()).map_err(|_| SendError::BadLength)?;
        if !(HEADER_BYTES..=self.frame_max_bytes()).contains(&frame.len()) {
            return Err(SendError::BadLength);
        }
        if !self.can_send() {
            let connected = self.health == Health::Connected;
            return Err(if connected { SendError::Full } else { SendError::NotConnected });
        }
        let mut parts = frame.chunks(PAGE_SIZE).peekable();
        // The first part names the length of the whole frame, the others their own.
        let mut size = Some(all_bytes);
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_some() { NETTXF_MORE_DATA } else { 0 };
            let own_bytes = u16::try_from(part.len()).map_err(|_| SendError::BadLength)?;
            self.send_part(part, flags, size.take().unwrap_or(own_bytes))?;
        }
        Ok(())
    }

    /// Queues a part. There is a page for it.
    fn send_part(&mut self, part: &[u8], flags: u16, size: u16) -> Result<(), SendError> {
        let number = *self.tx_free.last().ok_or(SendError::Full)?;
        let slot = self.tx_slots.get_mut(usize::from(number)).ok_or(SendError::Full)?;
        slot.page.page().write(0, part).map_err(|_| SendError::BadLength)?;
        let id = u16::from_le_bytes([number, slot.generation]);
        let request = TxRequest { gref: slot.page.gref().0, offset: 0, flags, id, size };
        // There are more places in the ring than pages.
        self.tx.queue(request.as_bytes()).map_err(|_| SendError::Full)?;
        slot.in_flight = true;
        self.tx_free.pop();
        Ok(())
    }

    /// Takes back the pages of frames that are sent.
    fn reap(&mut self) {
        let mut response = TxResponse::new_zeroed();
        while self.health == Health::Connected {
            match self.tx.next_response(response.as_mut_bytes()) {
                Ok(true) => {}
                Ok(false) => return,
                Err(overrun) => return self.break_off(PeerFault::ResponseOverrun(overrun)),
            }
            let TxResponse { id, status } = response;
            let [number, generation] = id.to_le_bytes();
            let slot = self.tx_slots.get_mut(usize::from(number));
            let Some(slot) = slot.filter(|slot| slot.in_flight && slot.generation == generation) else {
                return self.break_off(PeerFault::UnknownId(id));
            };
            slot.in_flight = false;
            slot.generation = slot.generation.wrapping_add(1);
            // Never grows: there are no more free numbers than slots.
            self.tx_free.push(number);
            if status != NETIF_RSP_OKAY {
                self.counts.tx_failed = self.counts.tx_failed.saturating_add(1);
            }
        }
    }

    /// Gives netback the page of that place for a frame.
    pub(super) fn offer_place(&mut self, place: u16) {
        let Some(page) = self.rx_pages.get(usize::from(place)) else { return };
        let request = RxRequest { id: place, pad: 0, gref: page.gref().0 };
        // It fits: there are as many pages as places, and this one is free.
        let queued = self.rx.queue(request.as_bytes());
        debug_assert!(queued.is_ok());
    }

    /// The next frame: copied into `frame`, and its length. `None` if there is none, and once the
    /// connection is broken: see [`NetFront::health`].
    pub fn receive(&mut self, frame: &mut [u8; FRAME_MAX_BYTES]) -> Option<usize> {
        while let Some(response) = self.next_response() {
            let part = match judge(response, self.is_in_parts()) {
                Verdict::Part(part) => Some(part),
                Verdict::Useless => None,
                Verdict::Fault(fault) => {
                    self.break_off(fault);
                    return None;
                }
            };
            if !self.rx_chain.add(part) {
                self.break_off(PeerFault::EndlessFrame);
                return None;
            }
            // Netback may bring the rest later.
            if response.flags & NETRXF_MORE_DATA != 0 {
                continue;
            }
            let chain = core::mem::take(&mut self.rx_chain);
            let first = self.rx_taken.wrapping_sub(chain.places.into());
            let copied = self.copy(&chain, first, frame);
            (0..chain.places).for_each(|part| self.offer_place(self.place(first.wrapping_add(part.into()))));
            match copied {
                Some(len) => return Some(len),
                None => self.counts.rx_dropped = self.counts.rx_dropped.saturating_add(1),
            }
        }
        None
    }

    /// The place of a response, by how many came before.
    pub(super) fn place(&self, taken: u32) -> u16 {
        u16::try_from(taken & self.rx.entries().wrapping_sub(1)).unwrap_or(u16::MAX)
    }

    /// Takes the next response, if it is the one that is due.
    fn next_response(&mut self) -> Option<RxResponse> {
        // Rings that were broken once are not read again.
        if self.health != Health::Connected {
            return None;
        }
        let mut response = RxResponse::new_zeroed();
        match self.rx.next_response(response.as_mut_bytes()) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(overrun) => {
                self.break_off(PeerFault::ResponseOverrun(overrun));
                return None;
            }
        }
        // Places come back in their order, so there is no choice of which page is meant.
        if response.id != self.place(self.rx_taken) {
            self.break_off(PeerFault::UnknownId(response.id));
            return None;
        }
        self.rx_taken = self.rx_taken.wrapping_add(1);
        Some(response)
    }

    /// Copies a frame out of its places, of which the first is that of the response `first`; its length.
    fn copy(&self, chain: &Chain, first: u32, frame: &mut [u8]) -> Option<usize> {
        let len = chain.len(self.frame_max_bytes())?;
        let mut rest = frame.get_mut(..len)?;
        let mut taken = first;
        for part in &chain.parts {
            let (to, later) = rest.split_at_mut_checked(part.len.into())?;
            let page = self.rx_pages.get(usize::from(self.place(taken)))?.page();
            page.read(part.offset.into(), to).ok()?;
            (rest, taken) = (later, taken.wrapping_add(1));
        }
        Some(len)
    }

    /// Shows queued frames and emptied places to netback; notifies it if it asked for that.
    pub fn kick(&mut self) {
        if self.health != Health::Connected {
            return;
        }
        // Both, whatever the first says: each ring has its own index.
        let (tx, rx) = (self.tx.publish(), self.rx.publish());
        if (tx || rx)
            && let Err(errno) = self.port.notify()
        {
            self.break_off(PeerFault::Unreachable(errno));
        }
    }

    /// How many frames have come: one load, nothing taken or judged.
    #[must_use]
    pub fn received(&self) -> u32 {
        if self.health == Health::Connected { self.rx.responses() } else { 0 }
    }

    /// Asks for an event with the next frame that comes, or is sent if there is no room for another. True
    /// if there is something now: look again before sleeping.
    pub fn enable_events(&mut self) -> bool {
        self.enable_events_for(1)
    }

    /// As [`NetFront::enable_events`], if room for that many frames is wanted.
    pub fn enable_events_for(&mut self, frames: usize) -> bool {
        if self.health != Health::Connected {
            return false;
        }
        let tx = self.await_room(frames);
        let rx = self.rx.final_check(1);
        match (tx, rx) {
            (Ok(tx), Ok(rx)) => tx || rx,
            (Err(overrun), _) | (_, Err(overrun)) => self.on_overrun(overrun),
        }
    }

    /// Asks for an event with the next page that comes back, if there are too few. True if there are enough by now.
    fn await_room(&mut self, frames: usize) -> Result<bool, ResponseOverrun> {
        let mut came = false;
        // Each turn takes pages back. One may not be enough for a frame, and no event was asked for then.
        while self.health == Health::Connected && !self.has_pages(frames) {
            if !self.tx.final_check(1)? {
                return Ok(false);
            }
            self.reap();
            came = true;
        }
        Ok(came)
    }

    /// There is something to look at.
    fn on_overrun(&mut self, overrun: ResponseOverrun) -> bool {
        self.break_off(PeerFault::ResponseOverrun(overrun));
        true
    }

    /// Ends the use of the rings. Frames under way keep their pages: netback may still read and write them.
    pub fn break_off(&mut self, fault: PeerFault) {
        // The first fault is the one that explains the others.
        if self.health == Health::Connected {
            log::error!("netfront {}: {fault}; the connection is given up", self.session.paths.frontend);
            self.health = Health::Broken(fault);
        }
    }
}
