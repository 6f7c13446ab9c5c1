//! Frames out and in.

use super::{FRAME_MAX_BYTES, HEADER_BYTES, Health, NetFront, PeerFault, SendError};
use crate::ring::ResponseOverrun;
use kernel::Hypervisor;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::netif::{
    NETIF_RSP_OKAY, NETRXF_CSUM_BLANK, NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, RxRequest, RxResponse, TxRequest,
    TxResponse,
};
use zerocopy::{FromZeros, IntoBytes};

/// What a response of the receive ring means.
#[derive(Debug, Eq, PartialEq)]
enum Verdict {
    Frame { offset: usize, len: usize },
    Drop,
    Fault(PeerFault),
}

/// Judges a response that is in its turn.
fn judge(response: RxResponse, frame_max: usize) -> Verdict {
    let RxResponse { offset, flags, status, .. } = response;
    if flags & (NETRXF_MORE_DATA | NETRXF_EXTRA_INFO) != 0 {
        return Verdict::Fault(PeerFault::BadFlags(flags));
    }
    // Below 0 it is an error: the place comes back empty.
    let Ok(len) = u16::try_from(status) else { return Verdict::Drop };
    let (from, bytes) = (usize::from(offset), usize::from(len));
    if from.saturating_add(bytes) > PAGE_SIZE {
        return Verdict::Fault(PeerFault::OutOfPage { offset, len });
    }
    // Whoever sent it may be at fault, not netback. Nobody made the checksum of one that is marked so.
    let good = (HEADER_BYTES..=frame_max).contains(&bytes) && flags & NETRXF_CSUM_BLANK == 0;
    if good { Verdict::Frame { offset: from, len: bytes } } else { Verdict::Drop }
}

impl<H: Hypervisor> NetFront<H> {
    /// Bytes of the longest frame of this interface.
    #[must_use]
    pub fn frame_max_bytes(&self) -> usize {
        HEADER_BYTES.saturating_add(self.mtu_bytes.into())
    }

    /// Whether [`NetFront::send`] has room for a frame.
    pub fn can_send(&mut self) -> bool {
        if self.tx_free.is_empty() {
            self.reap();
        }
        self.health == Health::Connected && !self.tx_free.is_empty()
    }

    /// Queues a frame; netback sees it after [`NetFront::kick`].
    ///
    /// # Errors
    /// Why not.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        let size = u16::try_from(frame.len()).map_err(|_| SendError::BadLength)?;
        if !(HEADER_BYTES..=self.frame_max_bytes()).contains(&frame.len()) {
            return Err(SendError::BadLength);
        }
        if !self.can_send() {
            let connected = self.health == Health::Connected;
            return Err(if connected { SendError::Full } else { SendError::NotConnected });
        }
        let number = *self.tx_free.last().ok_or(SendError::Full)?;
        let slot = self.tx_slots.get_mut(usize::from(number)).ok_or(SendError::Full)?;
        slot.page.page().write(0, frame).map_err(|_| SendError::BadLength)?;
        let id = u16::from_le_bytes([number, slot.generation]);
        let request = TxRequest { gref: slot.page.gref().0, offset: 0, flags: 0, id, size };
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
        let mut response = RxResponse::new_zeroed();
        loop {
            // Rings that were broken once are not read again.
            if self.health != Health::Connected {
                return None;
            }
            match self.rx.next_response(response.as_mut_bytes()) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(overrun) => {
                    self.break_off(PeerFault::ResponseOverrun(overrun));
                    return None;
                }
            }
            // Places come back in their order, so there is no choice of which page is meant.
            let place = u16::try_from(self.rx_taken & self.rx.entries().wrapping_sub(1)).unwrap_or(u16::MAX);
            if response.id != place {
                self.break_off(PeerFault::UnknownId(response.id));
                return None;
            }
            self.rx_taken = self.rx_taken.wrapping_add(1);
            let copied = match judge(response, self.frame_max_bytes()) {
                Verdict::Fault(fault) => {
                    self.break_off(fault);
                    return None;
                }
                Verdict::Drop => None,
                Verdict::Frame { offset, len } => self.copy(place, offset, frame.get_mut(..len)),
            };
            self.offer_place(place);
            match copied {
                Some(len) => return Some(len),
                None => self.counts.rx_dropped = self.counts.rx_dropped.saturating_add(1),
            }
        }
    }

    fn copy(&self, place: u16, offset: usize, frame: Option<&mut [u8]>) -> Option<usize> {
        let frame = frame?;
        self.rx_pages.get(usize::from(place))?.page().read(offset, frame).ok()?;
        Some(frame.len())
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
        if self.health != Health::Connected {
            return false;
        }
        let tx = if self.tx_free.is_empty() { self.tx.final_check(1) } else { Ok(false) };
        let rx = self.rx.final_check(1);
        match (tx, rx) {
            (Ok(tx), Ok(rx)) => tx || rx,
            (Err(overrun), _) | (_, Err(overrun)) => self.on_overrun(overrun),
        }
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
