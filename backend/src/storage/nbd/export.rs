//! What the export is as a disk, and whether it can be the guest's.

use crate::storage::{Discard, Geometry, SECTOR_BYTES};
use nbd::Export;

/// Data of one NBD request at most: two of them fit into what TCP may have to send.
const TRANSFER_MAX_BYTES: u32 = 128 << 10;
/// The largest logical block that virtio's drivers take.
const BLOCK_MAX_BYTES: u32 = 4096;
/// The largest preferred block that is passed on to the guest.
const PREFERRED_MAX_BYTES: u32 = 64 << 10;
/// Longest range of one discard: 2 GiB.
const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// Longest range of zeros in one request: 16 MiB. A server may have to write them.
const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 15;

/// The export as a disk.
pub(super) fn geometry(export: &Export) -> Geometry {
    let block = export.block_bytes;
    let discard = export.trim.then_some(Discard {
        granularity_bytes: export.preferred_block_bytes.clamp(block, PREFERRED_MAX_BYTES),
        max_sectors: MAX_DISCARD_SECTORS,
        secure: false,
    });
    Geometry {
        capacity_sectors: export.size_bytes / SECTOR_BYTES,
        block_size_bytes: block,
        physical_block_size_bytes: export.preferred_block_bytes.clamp(block, PREFERRED_MAX_BYTES),
        transfer_bytes: export.max_payload_bytes.min(TRANSFER_MAX_BYTES),
        read_only: export.read_only,
        flush: export.flush,
        discard,
        max_write_zeroes_sectors: if export.write_zeroes { MAX_WRITE_ZEROES_SECTORS } else { 0 },
    }
}

/// Why it cannot be a guest's disk at all. `writable`: the guest may write to it.
pub(super) fn unusable(export: &Export, writable: bool) -> Option<&'static str> {
    if export.block_bytes > BLOCK_MAX_BYTES {
        Some("the export's blocks are larger than 4096 bytes")
    } else if export.read_only && writable {
        Some("the export is read-only, and the disk is not")
    } else {
        None
    }
}

/// Why it cannot go on as the disk that the guest knows: what that was told cannot be taken back.
pub(super) fn unfit(told: &Geometry, now: &Geometry, writable: bool) -> Option<&'static str> {
    if now.block_size_bytes != told.block_size_bytes {
        Some("the export's block size is another one")
    } else if !writable {
        // The rest is about writes. A server says less of an export that it has made read-only.
        None
    } else if now.flush && !told.flush {
        Some("the export has a write cache, of which the guest knows nothing")
    } else if told.flush && !now.flush {
        Some("the export cannot flush any more")
    } else if told.discard.is_some() && now.discard.is_none() {
        Some("the export cannot discard any more")
    } else if told.max_write_zeroes_sectors > now.max_write_zeroes_sectors {
        Some("the export cannot write zeros any more")
    } else {
        None
    }
}
