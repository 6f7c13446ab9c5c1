//! Requests on ranges without data: discard, write zeroes, secure erase (virtio 1.3, section
//! 5.2.6).
//!
//! Their data is an array of ranges. Each entry is copied and judged when the request is
//! taken, so that a bad one spoils nothing, and once more when its turn comes, because the
//! guest may have changed it: what is executed is the copy that was judged last.

use super::header::HEADER_BYTES;
use super::reject::{Rejected, check_blocks};
use crate::storage::{Geometry, Operation, SECTOR_BYTES};
use crate::virtq::ChainView;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VIRTIO_BLK_T_DISCARD`.
pub(super) const T_DISCARD: u32 = 11;
/// `VIRTIO_BLK_T_WRITE_ZEROES`.
pub(super) const T_WRITE_ZEROES: u32 = 13;
/// `VIRTIO_BLK_T_SECURE_ERASE`.
pub(super) const T_SECURE_ERASE: u32 = 14;

/// Ranges of one request at most.
pub(super) const MAX_RANGES: u32 = 32;
/// `VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP`: zeros may be kept by giving the space back.
const FLAG_UNMAP: u32 = 1;

/// `struct virtio_blk_discard_write_zeroes`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Entry {
    sector: U64,
    num_sectors: U32,
    flags: U32,
}

const ENTRY_BYTES: u64 = size_of::<Entry>() as u64;

/// What to do with the ranges.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RangeKind {
    Discard,
    WriteZeroes,
    SecureErase,
}

/// The ranges of a request that are still to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ranges {
    kind: RangeKind,
    /// Index of the next one.
    next: u8,
    count: u8,
}

impl RangeKind {
    /// The kind of a request of type `number`.
    pub(super) fn new(number: u32) -> Option<RangeKind> {
        match number {
            T_DISCARD => Some(RangeKind::Discard),
            T_WRITE_ZEROES => Some(RangeKind::WriteZeroes),
            T_SECURE_ERASE => Some(RangeKind::SecureErase),
            _ => None,
        }
    }

    /// Sectors of the longest range; `None` if the disk cannot do it.
    fn max_sectors(self, geometry: &Geometry) -> Option<u32> {
        match self {
            RangeKind::Discard => geometry.discard.map(|discard| discard.max_sectors),
            RangeKind::SecureErase => {
                geometry.discard.filter(|discard| discard.secure).map(|discard| discard.max_sectors)
            }
            RangeKind::WriteZeroes => Some(geometry.max_write_zeroes_sectors).filter(|&sectors| sectors > 0),
        }
    }

    fn judge(self, entry: &Entry, geometry: &Geometry) -> Result<Operation, Rejected> {
        let max_sectors = self.max_sectors(geometry).ok_or(Rejected::NotOffered)?;
        // Only for zeroes does the driver choose whether the blocks may be given back.
        let allowed = if self == RangeKind::WriteZeroes { FLAG_UNMAP } else { 0 };
        let flags = entry.flags.get();
        if flags & !allowed != 0 {
            return Err(Rejected::Flags(flags));
        }
        let (first_sector, sectors) = (entry.sector.get(), entry.num_sectors.get());
        if sectors > max_sectors {
            return Err(Rejected::Data);
        }
        let len_bytes = u64::from(sectors).saturating_mul(SECTOR_BYTES);
        check_blocks(geometry, first_sector, len_bytes)?;
        Ok(match self {
            RangeKind::Discard => Operation::Discard { first_sector, len_bytes, secure: false },
            RangeKind::SecureErase => Operation::Discard { first_sector, len_bytes, secure: true },
            RangeKind::WriteZeroes => Operation::WriteZeroes { first_sector, len_bytes },
        })
    }
}

impl Ranges {
    /// Judges all ranges of a chain, whose array follows the header.
    pub(super) fn parse(
        kind: RangeKind,
        view: ChainView<'_>,
        geometry: &Geometry,
    ) -> Result<Ranges, Rejected> {
        if geometry.read_only {
            return Err(Rejected::ReadOnly);
        }
        if kind.max_sectors(geometry).is_none() {
            return Err(Rejected::NotOffered);
        }
        let bytes = view.readable_bytes().saturating_sub(HEADER_BYTES);
        let count = bytes / ENTRY_BYTES;
        if count == 0 || count > u64::from(MAX_RANGES) || !bytes.is_multiple_of(ENTRY_BYTES) {
            return Err(Rejected::Data);
        }
        let mut ranges = Ranges { kind, next: 0, count: u8::try_from(count).unwrap_or(0) };
        let mut verdict = Ok(());
        for _ in 0..count {
            match ranges.take(view, geometry) {
                Ok(_) => {}
                // An unknown flag decides the status, whatever else is wrong.
                Err(flags @ Rejected::Flags(_)) => return Err(flags),
                Err(rejected) => verdict = verdict.and(Err(rejected)),
            }
        }
        verdict.map(|()| Ranges { next: 0, ..ranges })
    }

    /// Whether the ranges' new content must be as durable as a write.
    pub(super) fn store_data(&self) -> bool {
        self.kind != RangeKind::Discard
    }

    /// The next range, copied and judged; `None` after the last.
    pub(super) fn take(
        &mut self,
        view: ChainView<'_>,
        geometry: &Geometry,
    ) -> Result<Option<Operation>, Rejected> {
        if self.next >= self.count {
            return Ok(None);
        }
        let at = HEADER_BYTES.saturating_add(u64::from(self.next).saturating_mul(ENTRY_BYTES));
        let mut bytes = [0; size_of::<Entry>()];
        if view.readable(at..at.saturating_add(ENTRY_BYTES)).read(&mut bytes) != Ok(bytes.len()) {
            return Err(Rejected::Data);
        }
        let entry = Entry::read_from_bytes(&bytes).map_err(|_| Rejected::Data)?;
        self.next = self.next.saturating_add(1);
        self.kind.judge(&entry, geometry).map(Some)
    }
}
