//! Ring entries of the block protocol (`public/io/blkif.h`).

use core::mem::offset_of;
use kernel::GrantRef;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::blkif::{
    BLKIF_DISCARD_SECURE, BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ,
    BLKIF_OP_WRITE, MAX_INDIRECT_PAGES_PER_REQUEST, MAX_SEGMENTS_PER_REQUEST, Request, RequestDiscard,
    RequestIndirect, SECTOR_SIZE, Segment,
};
use zerocopy::IntoBytes;

/// Direction of a data transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// What a live request asked for, to judge the response's `operation`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RequestKind {
    Data { direction: Direction, indirect: bool },
    Flush,
    Discard,
}

impl Direction {
    fn code(self) -> u8 {
        match self {
            Direction::Read => BLKIF_OP_READ,
            Direction::Write => BLKIF_OP_WRITE,
        }
    }
}

impl RequestKind {
    /// Whether a response may carry `operation`. A blkback answers an indirect request with
    /// the inner operation (Linux) or with the outer one.
    pub(super) fn answered_by(self, operation: u8) -> bool {
        match self {
            RequestKind::Data { direction, indirect } => {
                operation == direction.code() || (indirect && operation == BLKIF_OP_INDIRECT)
            }
            RequestKind::Flush => operation == BLKIF_OP_FLUSH_DISKCACHE,
            RequestKind::Discard => operation == BLKIF_OP_DISCARD,
        }
    }
}

/// Pages that `len_bytes` of dense data take.
pub(super) const fn pages_for(len_bytes: u32) -> u32 {
    len_bytes.div_ceil(PAGE_BYTES)
}

#[expect(clippy::cast_possible_truncation, reason = "4096 and 512 fit")]
const PAGE_BYTES: u32 = PAGE_SIZE as u32;
#[expect(clippy::cast_possible_truncation, reason = "4096 and 512 fit")]
const SECTOR_BYTES: u32 = SECTOR_SIZE as u32;

/// The segments of `len_bytes` (a multiple of 512) of dense data in the granted pages.
pub(super) fn segments(
    grefs: impl Iterator<Item = GrantRef>,
    len_bytes: u32,
) -> impl Iterator<Item = Segment> {
    let mut left = len_bytes;
    grefs.map_while(move |gref| {
        let here = left.min(PAGE_BYTES);
        left = left.saturating_sub(here);
        // At most 8 sectors in a page; none: the data ended before.
        let last_sect = u8::try_from(here / SECTOR_BYTES).ok()?.checked_sub(1)?;
        Some(Segment { gref: gref.0, first_sect: 0, last_sect, pad: 0 })
    })
}

/// What every read and write says of itself, wherever its segments stand.
pub(super) struct Transfer {
    pub direction: Direction,
    /// The id that its response has to have.
    pub id: u64,
    /// Which of the guest's disks.
    pub handle: u16,
    /// Its first sector, of 512 bytes.
    pub sector_number: u64,
}

/// A read or write whose segments stand in the entry itself; at most 11 of them.
pub(super) fn direct(transfer: Transfer, segments: impl Iterator<Item = Segment>) -> Request {
    let Transfer { direction, id, handle, sector_number } = transfer;
    let mut request =
        Request { operation: direction.code(), handle, id, sector_number, ..Request::default() };
    for (to, from) in request.seg.iter_mut().zip(segments.take(MAX_SEGMENTS_PER_REQUEST)) {
        *to = from;
        request.nr_segments = request.nr_segments.saturating_add(1);
    }
    request
}

/// The bytes of a direct request that mean something: up to its last segment.
pub(super) fn used(request: &Request) -> &[u8] {
    let segments = usize::from(request.nr_segments).saturating_mul(size_of::<Segment>());
    let bytes = request.as_bytes();
    bytes.get(..offset_of!(Request, seg).saturating_add(segments)).unwrap_or(bytes)
}

/// A read or write whose `nr_segments` segments stand in one granted page.
pub(super) fn indirect(transfer: Transfer, nr_segments: u16, page: GrantRef) -> RequestIndirect {
    let Transfer { direction, id, handle, sector_number } = transfer;
    let mut indirect_grefs = [0; MAX_INDIRECT_PAGES_PER_REQUEST];
    let [first, ..] = &mut indirect_grefs;
    *first = page.0;
    RequestIndirect {
        operation: BLKIF_OP_INDIRECT,
        indirect_op: direction.code(),
        nr_segments,
        id,
        sector_number,
        handle,
        indirect_grefs,
        ..RequestIndirect::default()
    }
}

/// Makes durable what has been completed.
pub(super) fn flush(id: u64, handle: u16) -> Request {
    Request { operation: BLKIF_OP_FLUSH_DISKCACHE, handle, id, ..Request::default() }
}

/// Gives up the content of sectors.
pub(super) fn discard(
    id: u64,
    handle: u16,
    sector_number: u64,
    nr_sectors: u64,
    secure: bool,
) -> RequestDiscard {
    let flag = if secure { BLKIF_DISCARD_SECURE } else { 0 };
    let operation = BLKIF_OP_DISCARD;
    RequestDiscard { operation, flag, handle, id, sector_number, nr_sectors, ..RequestDiscard::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn segments_cover_the_data_exactly(sectors in 1u32..=2048) {
            let pages = pages_for(sectors * 512);
            let grefs = (0..pages + 3).map(GrantRef);
            let segments: std::vec::Vec<_> = segments(grefs, sectors * 512).collect();
            prop_assert_eq!(segments.len(), pages as usize);
            let covered: u32 = segments.iter().map(|segment| u32::from(segment.last_sect) + 1).sum();
            prop_assert_eq!(covered, sectors);
            prop_assert!(segments.iter().all(|segment| segment.first_sect == 0 && segment.last_sect < 8));
            let dense = segments.iter().rev().skip(1).all(|segment| segment.last_sect == 7);
            prop_assert!(dense, "only the last page may be part full");
        }
    }

    #[test]
    fn a_response_must_name_what_was_asked() {
        let read = RequestKind::Data { direction: Direction::Read, indirect: false };
        assert!(read.answered_by(BLKIF_OP_READ));
        assert!(!read.answered_by(BLKIF_OP_WRITE));
        assert!(!read.answered_by(BLKIF_OP_INDIRECT));
        let long = RequestKind::Data { direction: Direction::Write, indirect: true };
        assert!(long.answered_by(BLKIF_OP_WRITE) && long.answered_by(BLKIF_OP_INDIRECT));
        assert!(!long.answered_by(BLKIF_OP_READ));
        assert!(!RequestKind::Flush.answered_by(BLKIF_OP_DISCARD));
        assert!(!RequestKind::Discard.answered_by(BLKIF_OP_FLUSH_DISKCACHE));
    }
}
