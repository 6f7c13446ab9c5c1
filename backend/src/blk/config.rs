//! What the device offers: feature bits and configuration space (virtio 1.3, sections 5.2.3
//! and 5.2.4).

use super::ranges::MAX_RANGES;
use super::rings::GrantedQueues;
use crate::journal::JournalError;
use crate::mmio::Identity;
use crate::mmio::regs::{F_ACCESS_PLATFORM, F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1};
use crate::storage::{Discard, Geometry, SECTOR_BYTES};
use crate::virtq::QUEUE_SIZE_MAX;
use alloc::vec::Vec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// Virtio's number for a block device.
pub const DEVICE_ID_BLOCK: u32 = 2;
/// "PiFi": tells guests nothing that they need.
pub const VENDOR_ID: u32 = 0x6946_6950;
/// Least `seg_max` told: half a megabyte from scattered pages is worth one request, also if
/// the engine takes it in pieces.
const SEG_MAX_LEAST: u32 = 126;
/// Largest `seg_max` told: with header and status, 256 descriptors.
const SEG_MAX_MOST: u32 = 254;
/// Least `size_max` told: a guest's page may be of 64 KiB, and no segment limit may be less.
const SIZE_MAX_LEAST: u32 = 1 << 16;
/// Largest `size_max` told.
const SIZE_MAX_MOST: u32 = 1 << 20;

/// Optimal I/O size told. Linux reads ahead by twice of it, where it reads ahead by 128 KiB otherwise: one
/// request after the other, so that each byte waits for a round trip.
const OPT_IO_BYTES: u32 = 256 << 10;

/// `VIRTIO_BLK_F_SIZE_MAX`.
pub const F_SIZE_MAX: u64 = 1 << 1;
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

/// `VIRTIO_BLK_F_DISCARD`.
pub const F_DISCARD: u64 = 1 << 13;
/// `VIRTIO_BLK_F_WRITE_ZEROES`.
pub const F_WRITE_ZEROES: u64 = 1 << 14;
/// `VIRTIO_BLK_F_SECURE_ERASE`.
pub const F_SECURE_ERASE: u64 = 1 << 16;

/// Place of `capacity`, 8 bytes.
pub const CAPACITY: usize = 0;
/// Place of `size_max`, 4 bytes, with `seg_max` behind it.
const SIZE_MAX: usize = 8;
/// Bytes of what one grant is about.
const PAGE_BYTES: u32 = 4096;
/// Place of `writeback`, one byte.
pub const WRITEBACK: usize = 32;

/// `struct virtio_blk_config` up to `secure_erase_sector_alignment`.
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
    max_discard_sectors: U32,
    max_discard_seg: U32,
    discard_sector_alignment: U32,
    max_write_zeroes_sectors: U32,
    max_write_zeroes_seg: U32,
    write_zeroes_may_unmap: u8,
    unused1: [u8; 3],
    max_secure_erase_sectors: U32,
    max_secure_erase_seg: U32,
    secure_erase_sector_alignment: U32,
}

/// What a disk offers the driver: with `grants` to one that grants its memory.
pub(super) fn offer(geometry: &Geometry, queues: u16, grants: Option<&GrantedQueues>) -> (Identity, Vec<u8>) {
    let (access, queue_size_max) = match grants {
        Some(grants) => (F_ACCESS_PLATFORM, grants.size),
        None => (0, QUEUE_SIZE_MAX),
    };
    let features = features(geometry, queues) | access;
    let identity =
        Identity { device_id: DEVICE_ID_BLOCK, vendor_id: VENDOR_ID, features, queues, queue_size_max };
    let mut space = space(geometry, queues);
    if let Some(grants) = grants {
        // Each segment is a grant, so none is longer than a page.
        let limits = [PAGE_BYTES, grants.seg_max.into()].map(u32::to_le_bytes);
        for (to, from) in space.iter_mut().skip(SIZE_MAX).zip(limits.as_flattened()) {
            *to = *from;
        }
    }
    (identity, space)
}

/// Feature bits for such a disk with so many queues.
#[must_use]
pub fn features(geometry: &Geometry, queues: u16) -> u64 {
    let ring = F_VERSION_1 | F_EVENT_IDX | F_INDIRECT_DESC;
    let always = ring | F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_TOPOLOGY;
    let read_only = if geometry.read_only { F_RO } else { 0 };
    let flush = if geometry.flush { F_FLUSH | F_CONFIG_WCE } else { 0 };
    let many = if queues > 1 { F_MQ } else { 0 };
    always | read_only | flush | many | range_features(geometry)
}

/// What concerns ranges without data. None of it suits a disk that cannot be written.
pub(super) fn range_features(geometry: &Geometry) -> u64 {
    if geometry.read_only {
        return 0;
    }
    let discard = match geometry.discard {
        Some(Discard { secure: true, .. }) => F_DISCARD | F_SECURE_ERASE,
        Some(_) => F_DISCARD,
        None => 0,
    };
    let write_zeroes = if geometry.max_write_zeroes_sectors > 0 { F_WRITE_ZEROES } else { 0 };
    discard | write_zeroes
}

/// The configuration space for such a disk with so many queues.
#[must_use]
pub fn space(geometry: &Geometry, queues: u16) -> Vec<u8> {
    let block = geometry.block_size_bytes.max(512);
    // Advice: writes of whole physical blocks spare a read.
    let physical = geometry.physical_block_size_bytes.max(block);
    let per_physical = physical.checked_div(block).unwrap_or(1).max(1);
    let features = range_features(geometry);
    let if_offered = |feature, value: u32| if features & feature != 0 { value } else { 0 }.into();
    let (max_discard, granularity) =
        geometry.discard.map_or((0, 0), |discard| (discard.max_sectors, discard.granularity_bytes));
    // Advice for splitting. No coarser than what is discarded in one go.
    let alignment =
        u32::try_from(u64::from(granularity) / SECTOR_BYTES).unwrap_or(1).clamp(1, max_discard.max(1));
    let config = BlkConfig {
        capacity: geometry.capacity_sectors.into(),
        // One segment, or pages of 4 KiB, as the engine moves them in one go.
        size_max: geometry.transfer_bytes.clamp(SIZE_MAX_LEAST, SIZE_MAX_MOST).into(),
        seg_max: (geometry.transfer_bytes / 4096).clamp(SEG_MAX_LEAST, SEG_MAX_MOST).into(),
        cylinders: 0.into(),
        heads: 0,
        sectors: 0,
        blk_size: block.into(),
        physical_block_exp: u8::try_from(per_physical.ilog2()).unwrap_or(0),
        alignment_offset: 0,
        min_io_size: u16::try_from(per_physical).unwrap_or(u16::MAX).into(),
        opt_io_size: OPT_IO_BYTES.checked_div(block).unwrap_or(0).max(per_physical).into(),
        // After reset the cache is used; see `cache.rs`.
        writeback: u8::from(geometry.flush),
        unused0: 0,
        // Valid only with VIRTIO_BLK_F_MQ.
        num_queues: if queues > 1 { queues } else { 0 }.into(),
        max_discard_sectors: if_offered(F_DISCARD, max_discard),
        max_discard_seg: if_offered(F_DISCARD, MAX_RANGES),
        discard_sector_alignment: if_offered(F_DISCARD, alignment),
        max_write_zeroes_sectors: if_offered(F_WRITE_ZEROES, geometry.max_write_zeroes_sectors),
        max_write_zeroes_seg: if_offered(F_WRITE_ZEROES, MAX_RANGES),
        // Zeros are written: no engine gives the space back for them.
        write_zeroes_may_unmap: 0,
        unused1: [0; 3],
        max_secure_erase_sectors: if_offered(F_SECURE_ERASE, max_discard),
        max_secure_erase_seg: if_offered(F_SECURE_ERASE, MAX_RANGES),
        secure_erase_sector_alignment: if_offered(F_SECURE_ERASE, alignment),
    };
    config.as_bytes().to_vec()
}

/// Whether the driver's configuration space and that of the disk as it is now tell of the same
/// disk, its length and its cache's mode aside. Returns the length that the driver knows.
///
/// # Errors
/// [`JournalError::Changed`].
pub(super) fn check_same(now: &[u8], told: &[u8]) -> Result<u64, JournalError> {
    const CAPACITY_END: usize = CAPACITY + 8;
    let may_differ = |at: usize| at < CAPACITY_END || at == WRITEBACK;
    let same = now.len() == told.len()
        && now.iter().zip(told).enumerate().all(|(at, (now, told))| may_differ(at) || now == told);
    let capacity = told.first_chunk().copied().map(u64::from_le_bytes);
    capacity.filter(|_| same).ok_or(JournalError::Changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Geometry = Geometry {
        capacity_sectors: 0x1_0000_0002,
        block_size_bytes: 512,
        physical_block_size_bytes: 4096,
        transfer_bytes: 1 << 20,
        read_only: false,
        flush: true,
        discard: Some(Discard { granularity_bytes: 65536, max_sectors: 1 << 22, secure: true }),
        max_write_zeroes_sectors: 0x8000,
    };

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let bytes = space(&DISK, 4);
        assert_eq!(bytes.len(), 72);
        assert_eq!(bytes[..8], 0x1_0000_0002u64.to_le_bytes());
        assert_eq!(bytes[8..16], [[0, 0, 16, 0], [254, 0, 0, 0]].concat(), "1 MiB, 254 segments");
        assert_eq!(bytes[20..24], 512u32.to_le_bytes());
        assert_eq!(bytes[24], 3, "eight blocks in a physical one");
        assert_eq!(bytes[26..28], 8u16.to_le_bytes());
        assert_eq!((bytes[WRITEBACK], bytes[33]), (1, 0), "a cache, and padding");
        assert_eq!(bytes[34..36], 4u16.to_le_bytes());
        assert_eq!(space(&DISK, 1)[34..36], [0, 0]);
        let words: Vec<_> =
            bytes[36..].chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        assert_eq!(words, [1 << 22, 32, 128, 0x8000, 32, 0, 1 << 22, 32, 128]);
    }

    #[test]
    fn limits_follow_what_the_storage_moves_in_one_go() {
        let cases =
            [(4096, 65536, 126), (45056, 65536, 126), (600 << 10, 600 << 10, 150), (u32::MAX, 1 << 20, 254)];
        for (transfer_bytes, size_max, seg_max) in cases {
            let bytes = space(&Geometry { transfer_bytes, ..DISK }, 1);
            assert_eq!(bytes[8..12], u32::to_le_bytes(size_max), "{transfer_bytes}");
            assert_eq!(bytes[12..16], u32::to_le_bytes(seg_max), "{transfer_bytes}");
        }
        assert_eq!(features(&DISK, 1) & (F_SIZE_MAX | F_SEG_MAX), F_SIZE_MAX | F_SEG_MAX);
    }

    #[test]
    fn blocks_are_told_as_the_storage_has_them() {
        for (block, physical, exponent, io) in
            [(512, 512, 0, 1), (512, 4096, 3, 8), (4096, 4096, 0, 1), (4096, 16384, 2, 4), (4096, 512, 0, 1)]
        {
            let disk = Geometry { block_size_bytes: block, physical_block_size_bytes: physical, ..DISK };
            let bytes = space(&disk, 1);
            assert_eq!(bytes[20..24], block.to_le_bytes());
            assert_eq!((bytes[24], bytes[25]), (exponent, 0));
            assert_eq!(bytes[26..28], u16::to_le_bytes(io));
            assert_eq!(bytes[28..32], u32::to_le_bytes(262_144 / block), "256 KiB are optimal");
        }
    }

    #[test]
    fn fields_of_what_is_not_offered_are_zero() {
        let none = Geometry { discard: None, max_write_zeroes_sectors: 0, ..DISK };
        for geometry in [none, Geometry { read_only: true, ..DISK }] {
            assert_eq!(features(&geometry, 1) & (F_DISCARD | F_WRITE_ZEROES | F_SECURE_ERASE), 0);
            assert_eq!(space(&geometry, 1)[36..], [0; 36]);
        }
        let insecure = DISK.discard.map(|discard| Discard { secure: false, ..discard });
        let insecure = Geometry { discard: insecure, ..DISK };
        assert_eq!(features(&insecure, 1) & (F_DISCARD | F_SECURE_ERASE), F_DISCARD);
        assert_eq!(space(&insecure, 1)[60..], [0; 12]);
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
