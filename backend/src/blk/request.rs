//! What a chain asks for, whatever its framing (virtio 1.3, section 5.2.6).

use super::ranges::{RangeKind, Ranges};
use crate::guest_mem::{GuestAddr, GuestMemory};
use crate::storage::{Geometry, SECTOR_BYTES};
use crate::virtq::chain::Runs;
use crate::virtq::{Chain, QueueFault, Segment, SegmentPool};
use core::fmt;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VIRTIO_BLK_T_IN`.
pub const T_IN: u32 = 0;
/// `VIRTIO_BLK_T_OUT`.
pub const T_OUT: u32 = 1;
/// `VIRTIO_BLK_T_FLUSH`.
pub const T_FLUSH: u32 = 4;
/// `VIRTIO_BLK_T_GET_ID`.
pub const T_GET_ID: u32 = 8;

/// `struct virtio_blk_req` up to the data.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Header {
    kind: U32,
    reserved: U32,
    sector: U64,
}

pub(super) const HEADER_BYTES: u64 = size_of::<Header>() as u64;
/// The status byte.
const STATUS_BYTES: u64 = 1;

/// What a storage engine is asked to do. Sectors are 512 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Read into the guest.
    Read {
        /// Where on the disk.
        first_sector: u64,
        /// How much; whole sectors, at least one.
        len_bytes: u64,
    },
    /// Write from the guest.
    Write {
        /// Where on the disk.
        first_sector: u64,
        /// How much; whole sectors, at least one.
        len_bytes: u64,
    },
    /// Make every completed write durable.
    Flush,
    /// Give up the content of a range; what it reads as afterwards is open.
    Discard {
        /// Where on the disk.
        first_sector: u64,
        /// How much; whole sectors, at least one.
        len_bytes: u64,
        /// The content must not be recoverable.
        secure: bool,
    },
    /// Write zeros. Whether the space is given back for them is the engine's choice.
    WriteZeroes {
        /// Where on the disk.
        first_sector: u64,
        /// How much; whole sectors, at least one.
        len_bytes: u64,
    },
}

/// Bytes that an engine moves at once at most: more takes several turns. In tests so few that their
/// requests do.
pub(crate) const AT_ONCE_BYTES: u64 = if cfg!(test) { 64 << 10 } else { 1 << 20 };
/// Bytes that a device moves each way before others get a turn; the last request may go beyond.
pub(crate) const TURN_BYTES: u64 = 2 * AT_ONCE_BYTES;

impl Operation {
    /// What it counts in a turn of its device.
    pub(super) fn turn_bytes(self) -> u64 {
        match self {
            Operation::Flush => 0,
            Operation::Read { len_bytes, .. }
            | Operation::Write { len_bytes, .. }
            | Operation::WriteZeroes { len_bytes, .. }
            | Operation::Discard { len_bytes, .. } => len_bytes.min(AT_ONCE_BYTES),
        }
    }
}

/// A request in flight: the right and the duty to answer it.
#[must_use = "a dropped ticket leaves the guest waiting"]
#[derive(Debug, Eq, PartialEq)]
pub struct Ticket {
    pub(crate) queue: u16,
    /// The queue's epoch when the request was taken.
    pub(crate) epoch: u32,
    pub(crate) chain: Chain,
    pub(crate) operation: Operation,
    /// What follows the operation, if there is an array of ranges.
    pub(crate) ranges: Option<Ranges>,
    /// Bytes to report if it goes well, from the first writable byte on.
    pub(crate) written_bytes: u64,
    /// A write that must be durable before it is answered.
    pub(crate) flush_after: bool,
}

impl Ticket {
    /// What to do.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// The data of a write.
    pub(crate) fn data_out(
        &self,
        pool: &SegmentPool,
        skip_bytes: u64,
        len_bytes: u64,
    ) -> Runs<impl Iterator<Item = Segment>> {
        pool.readable(&self.chain, HEADER_BYTES.saturating_add(skip_bytes), len_bytes)
    }

    /// The data of a read, without the status byte.
    pub(crate) fn data_in(
        &self,
        pool: &SegmentPool,
        skip_bytes: u64,
        len_bytes: u64,
    ) -> Runs<impl Iterator<Item = Segment>> {
        let data = self.chain.writable_bytes().saturating_sub(STATUS_BYTES);
        pool.writable(&self.chain, skip_bytes, len_bytes.min(data.saturating_sub(skip_bytes)))
    }

    /// Something to name in an error about an orphan: no address of it may be used.
    pub(crate) const fn status_addr(&self) -> GuestAddr {
        GuestAddr::new(0)
    }
}

/// What a chain asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Request {
    /// Work for the storage engine.
    Storage(Operation),
    /// Work on each of these ranges.
    Ranges(Ranges),
    /// The device's serial number.
    GetId,
}

/// Why a request is answered with an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rejected {
    /// Fewer than 16 readable bytes, or they cannot be read.
    Header,
    /// Buffers of the wrong direction or length for the operation.
    Data,
    /// Beyond the end of the disk, or not whole logical blocks of it.
    Range,
    /// A write to a read-only disk.
    ReadOnly,
    /// An unknown type.
    Unsupported(u32),
    /// An operation that the disk cannot do.
    NotOffered,
    /// Flags of a range that are unknown, or wrong for the operation.
    Flags(u32),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejected::Header => "no header",
            Rejected::Data => "buffers unfit for the operation",
            Rejected::Range => "outside the disk or not whole blocks",
            Rejected::ReadOnly => "the disk is read-only",
            Rejected::Unsupported(kind) => return write!(f, "unknown type {kind}"),
            Rejected::NotOffered => "an operation that was not offered",
            Rejected::Flags(flags) => return write!(f, "unfit flags {flags:#x}"),
        })
    }
}

impl Request {
    /// Judges a chain. The header is copied once.
    ///
    /// # Errors
    /// The outer error is the queue's: the chain has no byte for a status. The inner one is
    /// the request's own.
    pub(super) fn parse(
        chain: &Chain,
        pool: &SegmentPool,
        mem: &dyn GuestMemory,
        geometry: &Geometry,
    ) -> Result<Result<Request, Rejected>, QueueFault> {
        if chain.writable_bytes() < STATUS_BYTES {
            return Err(QueueFault::NoStatusByte);
        }
        Ok(Self::judge(chain, pool, mem, geometry))
    }

    fn judge(
        chain: &Chain,
        pool: &SegmentPool,
        mem: &dyn GuestMemory,
        geometry: &Geometry,
    ) -> Result<Request, Rejected> {
        // Aligned, for a copy in words.
        let mut words = [0u64; size_of::<Header>() / 8];
        let copied = pool.readable(chain, 0, HEADER_BYTES).read(mem, words.as_mut_bytes());
        if copied != Ok(size_of::<Header>()) {
            return Err(Rejected::Header);
        }
        let header: Header = zerocopy::transmute!(words);
        let out_bytes = chain.readable_bytes().saturating_sub(HEADER_BYTES);
        let in_bytes = chain.writable_bytes().saturating_sub(STATUS_BYTES);
        let first_sector = header.sector.get();
        match header.kind.get() {
            T_IN => {
                check_data(geometry, first_sector, in_bytes, out_bytes)?;
                Ok(Request::Storage(Operation::Read { first_sector, len_bytes: in_bytes }))
            }
            T_OUT if geometry.read_only => Err(Rejected::ReadOnly),
            T_OUT => {
                check_data(geometry, first_sector, out_bytes, in_bytes)?;
                Ok(Request::Storage(Operation::Write { first_sector, len_bytes: out_bytes }))
            }
            T_FLUSH if geometry.flush => Ok(Request::Storage(Operation::Flush)),
            T_GET_ID => Ok(Request::GetId),
            other => {
                let kind = RangeKind::new(other).ok_or(Rejected::Unsupported(other))?;
                if in_bytes > 0 {
                    return Err(Rejected::Data);
                }
                Ranges::parse(kind, chain, HEADER_BYTES, pool, mem, geometry).map(Request::Ranges)
            }
        }
    }
}

/// Whole logical blocks on the disk, and no buffer of the other direction.
fn check_data(
    geometry: &Geometry,
    first_sector: u64,
    len_bytes: u64,
    other_bytes: u64,
) -> Result<(), Rejected> {
    if other_bytes > 0 {
        return Err(Rejected::Data);
    }
    check_blocks(geometry, first_sector, len_bytes)
}

/// Whole logical blocks on the disk, at least one.
pub(super) fn check_blocks(geometry: &Geometry, first_sector: u64, len_bytes: u64) -> Result<(), Rejected> {
    if len_bytes == 0 || !len_bytes.is_multiple_of(SECTOR_BYTES) {
        return Err(Rejected::Data);
    }
    let block_bytes = u64::from(geometry.block_size_bytes).max(SECTOR_BYTES);
    let block_sectors = block_bytes / SECTOR_BYTES;
    if !first_sector.is_multiple_of(block_sectors) || !len_bytes.is_multiple_of(block_bytes) {
        return Err(Rejected::Range);
    }
    let end = first_sector.checked_add(len_bytes / SECTOR_BYTES);
    if end.is_some_and(|end| end <= geometry.capacity_sectors) { Ok(()) } else { Err(Rejected::Range) }
}
