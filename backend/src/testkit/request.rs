//! What a driver asks for, and what it gets; how it reaches the device.

use crate::access::Access;
use alloc::vec::Vec;

/// A guest's way to a device's registers; `access.addr` is the offset in the window.
pub trait Bus {
    /// Makes the access and returns what a read gives.
    fn access(&mut self, access: Access) -> u64;
}

/// How a request's bytes are cut into descriptors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Framing {
    /// Header, data, status, one descriptor each, as Linux does.
    Usual,
    /// Pieces of these lengths, over and over, each in a place of its own.
    Pieces(Vec<usize>),
}

/// What to ask for. `kind` and `sector` go into the header unchecked.
#[derive(Clone, Debug)]
pub struct BlkRequest {
    /// `VIRTIO_BLK_T_*`.
    pub kind: u32,
    /// First sector.
    pub sector: u64,
    /// Readable data.
    pub out: Vec<u8>,
    /// Bytes of writable data.
    pub in_len: usize,
}

/// The end of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status byte.
    pub status: u8,
    /// `used.len`.
    pub used_len: u32,
    /// The writable data.
    pub data: Vec<u8>,
}

/// Status of a request that was not written yet.
pub const STATUS_UNTOUCHED: u8 = 0xee;
