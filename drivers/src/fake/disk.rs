//! The fake blkback's disk: what is cached and what is durable, and requests on it.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use kernel::fake::FakeXen;
use kernel::{DomId, GrantRef, SharedPage};
use xen_pv_sys::io::blkif::{
    BLKIF_DISCARD_SECURE, BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ,
    BLKIF_OP_WRITE, BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_ERROR, BLKIF_RSP_OKAY, MAX_SEGMENTS_PER_REQUEST, Request,
    RequestDiscard, RequestIndirect, Segment,
};
use zerocopy::FromBytes;

/// Requests served, by kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
    /// Secure ones among them.
    pub secure_discards: u64,
    /// Reads and writes among them whose segments stood in a page of their own.
    pub indirect: u64,
    /// Requests refused as malformed.
    pub malformed: u64,
}

/// A disk with a volatile cache.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What reads see.
    pub cached: Vec<u8>,
    /// What a power cut leaves.
    pub durable: Vec<u8>,
    /// What was done.
    pub counts: Counts,
}

/// The pages that the frontend granted.
pub(super) struct Grants {
    me: FakeXen,
    owner: DomId,
    persistent: bool,
    mapped: BTreeMap<u32, SharedPage>,
}

impl Grants {
    pub(super) fn new(me: FakeXen, owner: DomId, persistent: bool) -> Grants {
        Grants { me, owner, persistent, mapped: BTreeMap::new() }
    }

    /// Maps a page, runs `with` on it and unmaps it, unless it may stay.
    fn with<T>(&mut self, gref: u32, write: bool, with: impl FnOnce(&SharedPage) -> T) -> Option<T> {
        if let Some(page) = self.mapped.get(&gref) {
            return Some(with(page));
        }
        // As in Linux: what may stay mapped is mapped writable.
        let page = self.me.map_grant(self.owner, GrantRef(gref), write || self.persistent).ok()?;
        let result = with(&page);
        if self.persistent {
            self.mapped.insert(gref, page);
        } else {
            self.me.unmap_grant(self.owner, GrantRef(gref)).expect("just mapped");
        }
        Some(result)
    }

    pub(super) fn unmap_all(&mut self) {
        for gref in core::mem::take(&mut self.mapped).into_keys() {
            self.me.unmap_grant(self.owner, GrantRef(gref)).expect("mapped");
        }
    }

    pub(super) fn mapped(&self) -> usize {
        self.mapped.len()
    }
}

/// A request to read or write, whichever layout it came in.
struct Transfer {
    operation: u8,
    first_sector: u64,
    segments: Vec<Segment>,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(sectors: u64) -> Disk {
        let bytes = vec![0; usize::try_from(sectors * 512).expect("a small disk")];
        Disk { cached: bytes.clone(), durable: bytes, counts: Counts::default() }
    }

    /// Loses what was not flushed.
    pub fn power_cut(&mut self) {
        self.cached.clone_from(&self.durable);
    }

    /// Serves one ring entry; returns the operation to answer with and the status.
    pub(super) fn serve(&mut self, entry: &[u8], grants: &mut Grants, rules: Rules) -> (u8, i16) {
        let (request, _) = Request::read_from_prefix(entry).expect("an entry");
        let (operation, segments) = match request.operation {
            BLKIF_OP_READ | BLKIF_OP_WRITE => {
                let count = usize::from(request.nr_segments);
                let segments =
                    (1..=MAX_SEGMENTS_PER_REQUEST).contains(&count).then(|| request.seg[..count].to_vec());
                (request.operation, segments)
            }
            BLKIF_OP_INDIRECT => {
                self.counts.indirect += 1;
                let (request, _) = RequestIndirect::read_from_prefix(entry).expect("an entry");
                (request.indirect_op, Self::indirect_segments(&request, grants, rules))
            }
            BLKIF_OP_FLUSH_DISKCACHE if rules.flush => {
                self.counts.flushes += 1;
                self.durable.clone_from(&self.cached);
                return (request.operation, BLKIF_RSP_OKAY);
            }
            BLKIF_OP_DISCARD if rules.discard => {
                let (request, _) = RequestDiscard::read_from_prefix(entry).expect("an entry");
                let secure = request.flag & BLKIF_DISCARD_SECURE != 0;
                if secure && !rules.secure_discard {
                    return (request.operation, BLKIF_RSP_EOPNOTSUPP);
                }
                self.counts.discards += 1;
                self.counts.secure_discards += u64::from(secure);
                let status = match self.range(request.sector_number, request.nr_sectors) {
                    Some(range) if !rules.read_only => {
                        self.cached[range].fill(0);
                        BLKIF_RSP_OKAY
                    }
                    _ => BLKIF_RSP_ERROR,
                };
                return (request.operation, status);
            }
            other => return (other, BLKIF_RSP_EOPNOTSUPP),
        };
        // Both layouts have the sector number in the same place.
        let done = segments
            .map(|segments| Transfer { operation, first_sector: request.sector_number, segments })
            .and_then(|transfer| self.transfer(&transfer, grants, rules));
        self.counts.malformed += u64::from(done.is_none());
        (operation, done.map_or(BLKIF_RSP_ERROR, |()| BLKIF_RSP_OKAY))
    }

    fn indirect_segments(
        request: &RequestIndirect,
        grants: &mut Grants,
        rules: Rules,
    ) -> Option<Vec<Segment>> {
        let count = usize::from(request.nr_segments);
        if count == 0 || count > rules.max_indirect_segments {
            return None;
        }
        let mut segments = Vec::new();
        for (page, gref) in request.indirect_grefs.iter().enumerate().take(count.div_ceil(512)) {
            let here = (count - page * 512).min(512);
            let mut bytes = vec![0; here * 8];
            grants.with(*gref, false, |page| page.read(0, &mut bytes).expect("inside"))?;
            segments.extend(bytes.chunks(8).map(|chunk| Segment::read_from_bytes(chunk).expect("8 bytes")));
        }
        Some(segments)
    }

    fn range(&self, first_sector: u64, sectors: u64) -> Option<core::ops::Range<usize>> {
        let end = first_sector.checked_add(sectors)?.checked_mul(512)?;
        let range = usize::try_from(first_sector * 512).ok()?..usize::try_from(end).ok()?;
        (range.end <= self.cached.len() && !range.is_empty()).then_some(range)
    }

    fn transfer(&mut self, transfer: &Transfer, grants: &mut Grants, rules: Rules) -> Option<()> {
        let &Transfer { operation, first_sector, ref segments } = transfer;
        let good = |segment: &Segment| segment.first_sect <= segment.last_sect && segment.last_sect < 8;
        if !segments.iter().all(good) || (operation == BLKIF_OP_WRITE && rules.read_only) {
            return None;
        }
        let sectors = |segment: &Segment| usize::from(segment.last_sect - segment.first_sect) + 1;
        let total: usize = segments.iter().map(sectors).sum();
        let mut at = self.range(first_sector, total as u64)?.start;
        for segment in segments {
            let (offset, len) = (usize::from(segment.first_sect) * 512, sectors(segment) * 512);
            let place = &mut self.cached[at..at + len];
            let copied = match operation {
                BLKIF_OP_READ => grants.with(segment.gref, true, |page| page.write(offset, place))?,
                BLKIF_OP_WRITE => grants.with(segment.gref, false, |page| page.read(offset, place))?,
                _ => return None,
            };
            copied.expect("inside");
            at += len;
        }
        let counter =
            if operation == BLKIF_OP_READ { &mut self.counts.reads } else { &mut self.counts.writes };
        *counter += 1;
        Some(())
    }
}

/// What blkback accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) read_only: bool,
    pub(super) flush: bool,
    pub(super) discard: bool,
    pub(super) secure_discard: bool,
    pub(super) max_indirect_segments: usize,
}
