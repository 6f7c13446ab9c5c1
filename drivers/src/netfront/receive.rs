//! Frames in.
//!
//! A frame is a chain of parts, each in the page of one place of the ring, in the places' order. Behind its
//! first part may come extra information, which says that the frame is a TCP packet longer than the
//! interface's frames. The chain is copied and judged part by part, and its pages are offered again at once.

use super::{FRAME_MAX_BYTES, HEADER_BYTES, Health, NetFront, PeerFault};
use kernel::Hypervisor;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::netif::{
    EXTRA_TYPE_GSO, ExtraInfo, GSO_TYPE_TCPV4, GSO_TYPE_TCPV6, NETRXF_CSUM_BLANK, NETRXF_DATA_VALIDATED,
    NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, NR_SLOTS_MIN, RX_ENTRY_SIZE, RxRequest, RxResponse,
};
use zerocopy::{FromBytes, IntoBytes};

/// What a frame's first part may say. Other parts only say whether another one follows.
const FIRST_FLAGS: u16 = NETRXF_DATA_VALIDATED | NETRXF_CSUM_BLANK | NETRXF_MORE_DATA | NETRXF_EXTRA_INFO;

/// A frame that has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Received {
    /// Its length in bytes.
    pub len: usize,
    /// Netback answers for the checksum of its TCP or UDP part: somebody has verified it, or nobody made it
    /// because the frame did not leave the host's memory.
    pub is_verified: bool,
}

/// What stands in a place of the ring.
struct Part {
    place: u16,
    bytes: [u8; RX_ENTRY_SIZE],
}

/// A frame as far as it has come.
struct Assembly<'a> {
    frame: &'a mut [u8],
    len: usize,
    /// What has come is of use. The rest of a frame that is not is taken all the same.
    is_good: bool,
}

/// Where in its page a part lies. An error of netback's is `None`: the place comes back empty.
fn extent(response: RxResponse) -> Result<Option<(usize, usize)>, PeerFault> {
    let RxResponse { offset, status, .. } = response;
    let Ok(len) = u16::try_from(status) else { return Ok(None) };
    let (from, bytes) = (usize::from(offset), usize::from(len));
    if from.saturating_add(bytes) > PAGE_SIZE {
        return Err(PeerFault::OutOfPage { offset, len });
    }
    Ok(Some((from, bytes)))
}

/// Judges extra information. There is only one sort that we asked for, and only one of it for a frame.
fn judge_extra(extra: ExtraInfo) -> Result<(), PeerFault> {
    let ExtraInfo { kind, flags, gso_size, gso_kind, .. } = extra;
    let is_known = kind == EXTRA_TYPE_GSO && flags == 0;
    if is_known && gso_size > 0 && matches!(gso_kind, GSO_TYPE_TCPV4 | GSO_TYPE_TCPV6) {
        return Ok(());
    }
    Err(PeerFault::BadExtra { kind, flags })
}

impl<H: Hypervisor> NetFront<H> {
    /// Bytes of the longest frame of this interface, but for those that netback cuts or puts together.
    #[must_use]
    pub fn frame_max_bytes(&self) -> usize {
        HEADER_BYTES.saturating_add(self.mtu_bytes.into())
    }

    /// Gives netback the page of that place for a part of a frame.
    pub(super) fn offer_place(&mut self, place: u16) {
        let Some(page) = self.rx_pages.get(usize::from(place)) else { return };
        let request = RxRequest { id: place, pad: 0, gref: page.gref().0 };
        // It fits: there are as many pages as places, and this one is free.
        let queued = self.rx.queue(request.as_bytes());
        debug_assert!(queued.is_ok());
    }

    /// The next frame, copied into `frame`, of which [`FRAME_MAX_BYTES`] are enough for any. `None` if there
    /// is none, and once the connection is broken: see [`NetFront::health`].
    pub fn receive(&mut self, frame: &mut [u8]) -> Option<Received> {
        // Rings that were broken once are not read again.
        while self.health == Health::Connected {
            match self.take_frame(frame) {
                Ok(None) => return None,
                Ok(Some(Some(received))) => return Some(received),
                Ok(Some(None)) => self.counts.rx_dropped = self.counts.rx_dropped.saturating_add(1),
                Err(fault) => self.break_off(fault),
            }
        }
        None
    }

    /// The next place that netback has filled.
    fn next_part(&mut self) -> Result<Option<Part>, PeerFault> {
        let mut bytes = [0; RX_ENTRY_SIZE];
        if !self.rx.next_response(&mut bytes).map_err(PeerFault::ResponseOverrun)? {
            return Ok(None);
        }
        // Places come back in their order, so there is no choice of which page is meant.
        let place = u16::try_from(self.rx_taken & self.rx.entries().wrapping_sub(1)).unwrap_or(u16::MAX);
        self.rx_taken = self.rx_taken.wrapping_add(1);
        Ok(Some(Part { place, bytes }))
    }

    /// A frame, if there is one; `Some(None)` for one that is of no use.
    fn take_frame(&mut self, frame: &mut [u8]) -> Result<Option<Option<Received>>, PeerFault> {
        let Some(mut part) = self.next_part()? else { return Ok(None) };
        let mut assembly = Assembly { frame, len: 0, is_good: true };
        let first = self.take_part(&part, &mut assembly)?;
        if first.flags & !FIRST_FLAGS != 0 {
            return Err(PeerFault::BadFlags(first.flags));
        }
        // Extra information, and addresses, are of frames that have a beginning.
        assembly.is_good &= assembly.len >= HEADER_BYTES;
        let longest = if first.flags & NETRXF_EXTRA_INFO == 0 {
            self.frame_max_bytes()
        } else {
            self.take_extra()?;
            FRAME_MAX_BYTES
        };
        let (mut flags, mut parts) = (first.flags, 1);
        while flags & NETRXF_MORE_DATA != 0 {
            if parts == NR_SLOTS_MIN {
                return Err(PeerFault::TooManyParts);
            }
            parts = parts.saturating_add(1);
            // Netback shows whole frames, as Linux' netfront wants it.
            part = self.next_part()?.ok_or(PeerFault::Unfinished)?;
            flags = self.take_part(&part, &mut assembly)?.flags;
            if flags & !NETRXF_MORE_DATA != 0 {
                return Err(PeerFault::BadFlags(flags));
            }
        }
        let Assembly { len, is_good, .. } = assembly;
        // Whoever sent it may be at fault, not netback.
        let is_verified = first.flags & (NETRXF_DATA_VALIDATED | NETRXF_CSUM_BLANK) != 0;
        Ok(Some((is_good && len <= longest).then_some(Received { len, is_verified })))
    }

    /// Copies a part behind what has come, and gives its page back.
    fn take_part(&mut self, part: &Part, assembly: &mut Assembly<'_>) -> Result<RxResponse, PeerFault> {
        let response = RxResponse::read_from_bytes(&part.bytes).unwrap_or_default();
        if response.id != part.place {
            return Err(PeerFault::UnknownId(response.id));
        }
        let extent = extent(response)?.filter(|(_, bytes)| *bytes > 0);
        let copied = extent.and_then(|(from, bytes)| {
            let end = assembly.len.saturating_add(bytes);
            let target = assembly.frame.get_mut(assembly.len..end)?;
            self.rx_pages.get(usize::from(part.place))?.page().read(from, target).ok()?;
            Some(end)
        });
        match copied {
            Some(end) => assembly.len = end,
            None => assembly.is_good = false,
        }
        self.offer_place(part.place);
        Ok(response)
    }

    /// The extra information behind a first part. It lies over a response, so that it has no id.
    fn take_extra(&mut self) -> Result<(), PeerFault> {
        let part = self.next_part()?.ok_or(PeerFault::Unfinished)?;
        self.offer_place(part.place);
        judge_extra(ExtraInfo::read_from_bytes(&part.bytes).unwrap_or_default())
    }

    /// How many parts of frames have come: one load, nothing taken or judged.
    #[must_use]
    pub fn received(&self) -> u32 {
        if self.health == Health::Connected { self.rx.responses() } else { 0 }
    }
}
