//! What frames a request's data (virtio 1.3, section 5.2.6).

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
pub(super) struct Header {
    pub(super) kind: U32,
    reserved: U32,
    pub(super) sector: U64,
}

pub(super) const HEADER_BYTES: u64 = size_of::<Header>() as u64;
/// The status byte.
pub(super) const STATUS_BYTES: u64 = 1;
