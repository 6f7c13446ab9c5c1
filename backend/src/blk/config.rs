//! What the device offers: feature bits and configuration space (virtio 1.3, sections 5.2.3
//! and 5.2.4).

use crate::mmio::regs::{F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1};
use crate::storage::Geometry;
use alloc::vec::Vec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// Virtio's number for a block device.
pub const DEVICE_ID_BLOCK: u32 = 2;
/// "PiFi": tells guests nothing that they need.
pub const VENDOR_ID: u32 = 0x6946_6950;
/// Data segments of a request at most: the longest chain less header and status would be
/// 254; a power of two less two lets a driver fill half a queue with one request.
pub const SEG_MAX: u32 = 126;

/// `VIRTIO_BLK_F_SEG_MAX`.
pub const F_SEG_MAX: u64 = 1 << 2;
/// `VIRTIO_BLK_F_RO`.
pub const F_RO: u64 = 1 << 5;
/// `VIRTIO_BLK_F_BLK_SIZE`.
pub const F_BLK_SIZE: u64 = 1 << 6;
/// `VIRTIO_BLK_F_FLUSH`.
pub const F_FLUSH: u64 = 1 << 9;
/// `VIRTIO_BLK_F_TOPOLOGY`.
pub const F_TOPOLOGY: u64 = 1 << 10;
/// `VIRTIO_BLK_F_CONFIG_WCE`.
pub const F_CONFIG_WCE: u64 = 1 << 11;
/// `VIRTIO_BLK_F_MQ`.
pub const F_MQ: u64 = 1 << 12;

/// Place of `writeback`, one byte.
pub const WRITEBACK: usize = 32;

/// `struct virtio_blk_config` up to `num_queues`.
#[repr(C)]
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
struct BlkConfig {
    capacity: U64,
    size_max: U32,
    seg_max: U32,
    cylinders: U16,
    heads: u8,
    sectors: u8,
    blk_size: U32,
    physical_block_exp: u8,
    alignment_offset: u8,
    min_io_size: U16,
    opt_io_size: U32,
    writeback: u8,
    unused0: u8,
    num_queues: U16,
}

/// Feature bits for such a disk with so many queues.
#[must_use]
pub fn features(geometry: &Geometry, queues: u16) -> u64 {
    let always = F_VERSION_1 | F_EVENT_IDX | F_INDIRECT_DESC | F_SEG_MAX | F_BLK_SIZE | F_TOPOLOGY;
    let read_only = if geometry.read_only { F_RO } else { 0 };
    let flush = if geometry.flush { F_FLUSH | F_CONFIG_WCE } else { 0 };
    let many = if queues > 1 { F_MQ } else { 0 };
    always | read_only | flush | many
}

/// The configuration space for such a disk with so many queues.
#[must_use]
pub fn space(geometry: &Geometry, queues: u16) -> Vec<u8> {
    let block = geometry.block_size_bytes.max(512);
    // Advice: writes of whole physical blocks spare a read.
    let physical = geometry.physical_block_size_bytes.max(block);
    let per_physical = physical.checked_div(block).unwrap_or(1).max(1);
    let config = BlkConfig {
        capacity: geometry.capacity_sectors.into(),
        size_max: 0.into(),
        seg_max: SEG_MAX.into(),
        cylinders: 0.into(),
        heads: 0,
        sectors: 0,
        blk_size: block.into(),
        physical_block_exp: u8::try_from(per_physical.ilog2()).unwrap_or(0),
        alignment_offset: 0,
        min_io_size: u16::try_from(per_physical).unwrap_or(u16::MAX).into(),
        opt_io_size: 0.into(),
        // After reset the cache is used; see `cache.rs`.
        writeback: u8::from(geometry.flush),
        unused0: 0,
        // Valid only with VIRTIO_BLK_F_MQ.
        num_queues: if queues > 1 { queues } else { 0 }.into(),
    };
    config.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Geometry = Geometry {
        capacity_sectors: 0x1_0000_0002,
        block_size_bytes: 512,
        physical_block_size_bytes: 4096,
        read_only: false,
        flush: true,
    };

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let bytes = space(&DISK, 4);
        assert_eq!(bytes.len(), 36);
        assert_eq!(bytes[..8], 0x1_0000_0002u64.to_le_bytes());
        assert_eq!(bytes[12..16], SEG_MAX.to_le_bytes());
        assert_eq!(bytes[20..24], 512u32.to_le_bytes());
        assert_eq!(bytes[24], 3, "eight blocks in a physical one");
        assert_eq!(bytes[26..28], 8u16.to_le_bytes());
        assert_eq!((bytes[WRITEBACK], bytes[33]), (1, 0), "a cache, and padding");
        assert_eq!(bytes[34..36], 4u16.to_le_bytes());
        assert_eq!(space(&DISK, 1)[34..36], [0, 0]);
    }

    #[test]
    fn only_what_the_disk_can_do_is_offered() {
        assert_eq!(features(&DISK, 1) & (F_RO | F_FLUSH | F_CONFIG_WCE | F_MQ), F_FLUSH | F_CONFIG_WCE);
        let other = Geometry { read_only: true, flush: false, ..DISK };
        assert_eq!(features(&other, 2) & (F_RO | F_FLUSH | F_CONFIG_WCE | F_MQ), F_RO | F_MQ);
        // Packed rings, queue reset, notification data: not offered.
        assert_eq!(features(&DISK, 1) & ((1 << 34) | (1 << 40) | (1 << 38)), 0);
    }
}
