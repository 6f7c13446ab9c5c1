//! The end of a request: status byte, then used element (virtio 1.3, section 5.2.6).

use super::reject::Rejected;
use crate::guest_mem::GuestMemory;
use crate::storage::Outcome;
use crate::virtq::{Chain, Queue, QueueFault, SegmentPool};

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

/// Writes the status byte and gives the chain back. `data_bytes` of data were written, from
/// the first writable byte on.
///
/// The used length counts what was written without a gap from the start of the writable
/// part (section 2.7.8.2): the status byte counts only if the data before it is complete.
///
/// # Errors
/// [`QueueFault`] if the used ring cannot be reached.
pub(super) fn write_status(
    mem: &dyn GuestMemory,
    queue: &mut Queue,
    pool: &mut SegmentPool,
    chain: Chain,
    status: BlkStatus,
    data_bytes: u64,
) -> Result<(), QueueFault> {
    // The status is the last writable byte; `parse` made sure that there is one.
    let at = chain.writable_bytes().saturating_sub(1);
    let told = pool.last_byte(&chain).map(|addr| mem.write(addr, &[status.0]));
    // Without its page the status cannot be told, but the driver gets its buffers back.
    let written = match told {
        Some(Ok(())) if data_bytes == at => at.saturating_add(1),
        _ => data_bytes,
    };
    queue.add_used(mem, pool, chain, u32::try_from(written).unwrap_or(u32::MAX))
}
