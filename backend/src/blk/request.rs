//! What a chain asks for, whatever its framing (virtio 1.3, section 5.2.6).

use super::header::{HEADER_BYTES, Header, STATUS_BYTES, T_FLUSH, T_GET_ID, T_IN, T_OUT};
use super::ranges::{RangeKind, Ranges};
use super::reject::{Rejected, check_data};
use crate::storage::{AT_ONCE_BYTES, DataRun, Geometry, Operation};
use crate::virtq::{ChainView, QueueFault};
use zerocopy::IntoBytes;

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
    /// An error.
    Rejected(Rejected),
}

impl Request {
    /// Judges a chain. The header is copied once.
    ///
    /// # Errors
    /// The queue's: the chain has no byte for a status, so not even an error can be answered.
    #[inline]
    pub(super) fn parse(view: ChainView<'_>, geometry: &Geometry) -> Result<Request, QueueFault> {
        if view.writable_bytes() < STATUS_BYTES {
            return Err(QueueFault::NoStatusByte);
        }
        Ok(Self::judge(view, geometry).unwrap_or_else(Request::Rejected))
    }

    #[inline]
    fn judge(view: ChainView<'_>, geometry: &Geometry) -> Result<Request, Rejected> {
        // Aligned, for a copy in words.
        let mut words = [0u64; size_of::<Header>() / 8];
        let copied = view.readable(0..HEADER_BYTES).read(words.as_mut_bytes());
        if copied != Ok(size_of::<Header>()) {
            return Err(Rejected::Header);
        }
        let header: Header = zerocopy::transmute!(words);
        let out_bytes = view.readable_bytes().saturating_sub(HEADER_BYTES);
        let in_bytes = view.writable_bytes().saturating_sub(STATUS_BYTES);
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
                // None of these returns more than a status.
                if in_bytes > 0 {
                    return Err(Rejected::Data);
                }
                Ranges::parse(kind, view, geometry).map(Request::Ranges)
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
