//! What a chain asks for, whatever its framing (virtio 1.3, section 5.2.6).

use super::ranges::{RangeKind, Ranges};
use super::reject::{Rejected, check_data};
use crate::guest_mem::GuestMemory;
use crate::storage::{AT_ONCE_BYTES, DataRun, Geometry, Operation};
use crate::virtq::{Chain, QueueFault, SegmentPool};
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

/// Bytes that a device moves each way before others get a turn; the last request may go beyond.
pub(crate) const TURN_BYTES: u64 = 2 * AT_ONCE_BYTES;

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

/// Where an operation's data lies in its chain.
pub(super) fn data_run(operation: Operation) -> DataRun {
    match operation {
        Operation::Read { len_bytes, .. } => DataRun { start_bytes: 0, len_bytes },
        Operation::Write { len_bytes, .. } => DataRun { start_bytes: HEADER_BYTES, len_bytes },
        Operation::Flush | Operation::Discard { .. } | Operation::WriteZeroes { .. } => DataRun::default(),
    }
}
