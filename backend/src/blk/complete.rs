//! The end of a request: status byte, then used element (virtio 1.3, section 5.2.6).

use super::header::STATUS_BYTES;
use super::reject::Rejected;
use crate::storage::Outcome;
use crate::virtq::ChainView;

/// `VIRTIO_BLK_S_OK`.
pub const S_OK: u8 = 0;
/// `VIRTIO_BLK_S_IOERR`.
pub const S_IOERR: u8 = 1;
/// `VIRTIO_BLK_S_UNSUPP`.
pub const S_UNSUPP: u8 = 2;

impl From<Outcome> for BlkStatus {
    fn from(outcome: Outcome) -> BlkStatus {
        BlkStatus(match outcome {
            Outcome::Done => S_OK,
            Outcome::IoError => S_IOERR,
            Outcome::Unsupported => S_UNSUPP,
        })
    }
}

impl From<Rejected> for BlkStatus {
    fn from(rejected: Rejected) -> BlkStatus {
        BlkStatus(match rejected {
            Rejected::Unsupported(_) | Rejected::NotOffered | Rejected::Flags(_) => S_UNSUPP,
            Rejected::Header | Rejected::Data | Rejected::Range | Rejected::ReadOnly => S_IOERR,
        })
    }
}

/// A request's status byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct BlkStatus(pub(super) u8);

/// How a request is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    pub(super) status: BlkStatus,
    /// Data that was written, in bytes from the first writable one on.
    pub(super) data_bytes: u64,
}

impl Answer {
    /// Without data.
    pub(super) fn bare(status: impl Into<BlkStatus>) -> Answer {
        Answer { status: status.into(), data_bytes: 0 }
    }

    /// Writes the status byte. Returns the used length.
    ///
    /// That counts what was written without a gap from the start of the writable part (section
    /// 2.7.8.2): the status byte counts only if the data before it is complete.
    #[inline]
    pub(super) fn write(self, view: ChainView<'_>) -> u32 {
        // The status is the last writable byte; `Request::parse` made sure that there is one.
        let at = view.writable_bytes().saturating_sub(STATUS_BYTES);
        // Without its page the status cannot be told, but the driver gets its buffers back.
        let told = view.write_last(self.status.0);
        let written = if told && self.data_bytes == at { view.writable_bytes() } else { self.data_bytes };
        u32::try_from(written).unwrap_or(u32::MAX)
    }
}
