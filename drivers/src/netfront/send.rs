//! Frames out.
//!
//! A frame takes as many pages as it fills, and a request of the ring for each. The first request says what
//! netback has to do with the frame; if it has to be cut, extra information follows it.
//!
//! The first page is the one that is not full. Linux' netback copies the first 128 bytes of a frame and maps what
//! is left of each page: so it maps a single page for a request to write 4 KiB.

use super::{HEADER_BYTES, Health, NetFront, PeerFault, SendError, TX_PAGES, TxSlot};
use core::iter;
use core::num::{NonZeroU16, NonZeroUsize};
use kernel::Hypervisor;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::netif::{
    EXTRA_TYPE_GSO, ExtraInfo, GSO_TYPE_TCPV4, MAX_TX_SIZE, NETIF_RSP_NULL, NETIF_RSP_OKAY,
    NETTXF_CSUM_BLANK, NETTXF_DATA_VALIDATED, NETTXF_EXTRA_INFO, NETTXF_MORE_DATA, TxRequest, TxResponse,
};
use zerocopy::{FromZeros, IntoBytes};

/// What netback shall do with a frame.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offload {
    /// Make the TCP checksum. In its place stands the sum of the pseudo header.
    pub checksum: bool,
    /// Cut a TCP packet of IPv4 so that each segment carries so many bytes at most. The checksums then are
    /// netback's as well.
    pub segment_bytes: Option<NonZeroU16>,
}

/// The headers of Ethernet, IPv6 and TCP: they are never torn apart.
const HEADERS_BYTES: usize = 74;

/// Bytes of a frame of that length that lie in its first page. The others fill theirs, but for the last, if
/// little is left for the first.
#[must_use]
pub fn first_part_bytes(len: usize) -> usize {
    let rest = len % PAGE_SIZE;
    if rest < HEADERS_BYTES { len.min(PAGE_SIZE) } else { rest }
}

impl<H: Hypervisor> NetFront<H> {
    /// Bytes of the longest frame that netback cuts; `None`: it cuts none.
    #[must_use]
    pub fn uncut_max_bytes(&self) -> Option<NonZeroUsize> {
        if self.cuts { NonZeroUsize::new(MAX_TX_SIZE) } else { None }
    }

    /// Pages of the longest frame.
    fn pages_max(&self) -> usize {
        self.uncut_max_bytes().map_or(self.frame_max_bytes(), NonZeroUsize::get).div_ceil(PAGE_SIZE)
    }

    /// Whether [`NetFront::send`] has room for a frame, however long it is.
    pub fn can_send(&mut self) -> bool {
        self.has_room(1)
    }

    /// Whether there is room for that many frames, or for as many as there ever is.
    pub fn has_room(&mut self, frames: usize) -> bool {
        if self.wanted(frames) > 0 {
            self.reap();
        }
        self.health == Health::Connected && self.wanted(frames) == 0
    }

    /// How many answers have to come at least before there is room for that many frames.
    pub(super) fn wanted(&self, frames: usize) -> usize {
        let pages_max = self.pages_max();
        let all = usize::from(TX_PAGES).checked_div(pages_max).unwrap_or(1);
        let frames = frames.min(all);
        let pages = frames.saturating_mul(pages_max);
        // Each frame may have extra information.
        let places = pages.saturating_add(frames);
        let free = self.tx.entries().saturating_sub(self.tx.in_flight());
        let free = usize::try_from(free).unwrap_or(0);
        pages.saturating_sub(self.tx_free.len()).max(places.saturating_sub(free))
    }

    /// Queues a frame; netback sees it after [`NetFront::kick`].
    ///
    /// # Errors
    /// Why not.
    pub fn send(&mut self, frame: &[u8], offload: Offload) -> Result<(), SendError> {
        let longest = match (offload.segment_bytes, self.uncut_max_bytes()) {
            (Some(_), Some(longest)) => longest.get(),
            (Some(_), None) => return Err(SendError::BadLength),
            (None, _) => self.frame_max_bytes(),
        };
        let total = u16::try_from(frame.len()).map_err(|_| SendError::BadLength)?;
        if !(HEADER_BYTES..=longest).contains(&frame.len()) {
            return Err(SendError::BadLength);
        }
        if !self.can_send() {
            let connected = self.health == Health::Connected;
            return Err(if connected { SendError::Full } else { SendError::NotConnected });
        }
        let is_cut = offload.segment_bytes.is_some();
        let mut flags = if is_cut { NETTXF_EXTRA_INFO } else { 0 };
        if offload.checksum || is_cut {
            flags |= NETTXF_CSUM_BLANK | NETTXF_DATA_VALIDATED;
        }
        // The first request has the length of the whole frame.
        let mut size = total;
        let (first, rest) = frame.split_at_checked(first_part_bytes(frame.len())).unwrap_or((frame, &[]));
        let mut parts = iter::once(first).chain(rest.chunks(PAGE_SIZE)).peekable();
        while let Some(part) = parts.next() {
            flags |= if parts.peek().is_some() { NETTXF_MORE_DATA } else { 0 };
            self.send_part(part, size, flags)?;
            if let Some(segment_bytes) = offload.segment_bytes.filter(|_| flags & NETTXF_EXTRA_INFO != 0) {
                self.send_extra(segment_bytes)?;
            }
            flags = 0;
            size = parts.peek().and_then(|next| u16::try_from(next.len()).ok()).unwrap_or(0);
        }
        Ok(())
    }

    /// There is room: see [`NetFront::can_send`].
    fn send_part(&mut self, part: &[u8], size: u16, flags: u16) -> Result<(), SendError> {
        let number = *self.tx_free.last().ok_or(SendError::Full)?;
        let slot = self.tx_slots.get_mut(usize::from(number)).ok_or(SendError::Full)?;
        slot.page.page().write(0, part).map_err(|_| SendError::BadLength)?;
        let id = u16::from_le_bytes([number, slot.generation]);
        let request = TxRequest { gref: slot.page.gref().0, offset: 0, flags, id, size };
        // There is a place: see `wanted`.
        self.tx.queue(request.as_bytes()).map_err(|_| SendError::Full)?;
        slot.in_flight = true;
        self.tx_free.pop();
        Ok(())
    }

    fn send_extra(&mut self, segment_bytes: NonZeroU16) -> Result<(), SendError> {
        let extra = ExtraInfo {
            kind: EXTRA_TYPE_GSO,
            gso_size: segment_bytes.get(),
            gso_kind: GSO_TYPE_TCPV4,
            ..ExtraInfo::new_zeroed()
        };
        self.tx.queue(extra.as_bytes()).map_err(|_| SendError::Full)?;
        self.tx_extras = self.tx_extras.saturating_add(1);
        Ok(())
    }

    /// Takes back the pages of frames that are sent.
    pub(super) fn reap(&mut self) {
        let mut response = TxResponse::new_zeroed();
        while self.health == Health::Connected {
            match self.tx.next_response(response.as_mut_bytes()) {
                Ok(true) => {}
                Ok(false) => return,
                Err(overrun) => return self.break_off(PeerFault::ResponseOverrun(overrun)),
            }
            if !self.take_answer(response) {
                return self.break_off(PeerFault::UnknownId(response.id));
            }
        }
    }

    /// False if there is nothing that it could answer.
    fn take_answer(&mut self, TxResponse { id, status }: TxResponse) -> bool {
        if status == NETIF_RSP_NULL {
            let was_due = self.tx_extras > 0;
            self.tx_extras = self.tx_extras.saturating_sub(1);
            return was_due;
        }
        let Some(number) = take_back(&mut self.tx_slots, id) else { return false };
        // Never grows: there are no more free numbers than slots.
        self.tx_free.push(number);
        if status != NETIF_RSP_OKAY {
            self.counts.tx_failed = self.counts.tx_failed.saturating_add(1);
        }
        true
    }
}

/// The number of the slot in flight that has that id. It is not in flight any more.
fn take_back<H: Hypervisor>(slots: &mut [TxSlot<H>], id: u16) -> Option<u8> {
    let [number, generation] = id.to_le_bytes();
    let slot = slots.get_mut(usize::from(number))?;
    if !slot.in_flight || slot.generation != generation {
        return None;
    }
    slot.in_flight = false;
    slot.generation = slot.generation.wrapping_add(1);
    Some(number)
}
