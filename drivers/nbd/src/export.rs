//! What the server says about the export, checked.

use crate::error::Fault;
use crate::wire::{
    FLAG_CAN_MULTI_CONN, FLAG_HAS_FLAGS, FLAG_READ_ONLY, FLAG_SEND_FLUSH, FLAG_SEND_FUA, FLAG_SEND_TRIM,
    FLAG_SEND_WRITE_ZEROES,
};

/// Bytes of data in one read or write, unless the server says otherwise; more than that could count as an
/// attack ("Size constraints").
const MAX_PAYLOAD_BYTES: u32 = 32 << 20;
/// The preferred block if the server names none.
const PREFERRED_BLOCK_BYTES: u32 = 4096;
/// The largest minimum block that the protocol allows.
const MIN_BLOCK_MAX_BYTES: u32 = 1 << 16;
/// The smallest block that a client should use, whatever the server can.
const SECTOR_BYTES: u32 = 512;

/// Properties of the export.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Export {
    /// Length: whole blocks, at least one. What the server has beyond is out of reach.
    pub size_bytes: u64,
    /// Requests consist of whole blocks: a power of two from 512 to 65536.
    pub block_bytes: u32,
    /// Requests that consist of these cost the server least; a power of two, a block or more. Advice.
    pub preferred_block_bytes: u32,
    /// Data of one read or write at most; whole blocks, at most 32 MiB.
    pub max_payload_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// [`crate::Command::Flush`] is understood. Without it a completed write is all there is.
    pub flush: bool,
    /// A request can be durable when it completes.
    pub fua: bool,
    /// [`crate::Command::Trim`] is understood.
    pub trim: bool,
    /// [`crate::Command::WriteZeroes`] is understood.
    pub write_zeroes: bool,
    /// A flush covers what was completed over other connections.
    pub multi_conn: bool,
}

/// Size and flags, as `NBD_INFO_EXPORT` has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) flags: u16,
}

/// The three numbers of `NBD_INFO_BLOCK_SIZE`, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSize {
    pub(crate) min: u32,
    pub(crate) preferred: u32,
    pub(crate) max_payload: u32,
}

impl BlockSize {
    /// What holds if the server says nothing.
    const DEFAULT: BlockSize =
        BlockSize { min: 1, preferred: PREFERRED_BLOCK_BYTES, max_payload: MAX_PAYLOAD_BYTES };

    fn is_valid(self) -> bool {
        let BlockSize { min, preferred, max_payload } = self;
        min.is_power_of_two()
            && min <= MIN_BLOCK_MAX_BYTES
            && preferred.is_power_of_two()
            && preferred >= min.max(SECTOR_BYTES)
            && max_payload >= preferred
    }
}

impl Export {
    /// Judges what the server said.
    pub(crate) fn new(size: Size, blocks: Option<BlockSize>) -> Result<Export, Fault> {
        let Size { bytes, flags } = size;
        let blocks = blocks.unwrap_or(BlockSize::DEFAULT);
        if flags & FLAG_HAS_FLAGS == 0 {
            return Err(Fault::BadExport("flags"));
        }
        if !blocks.is_valid() {
            return Err(Fault::BadExport("block size"));
        }
        let block_bytes = blocks.min.max(SECTOR_BYTES);
        // A block is a power of two, so this rounds down.
        let whole = |bytes: u64| bytes & !u64::from(block_bytes.wrapping_sub(1));
        let size_bytes = whole(bytes);
        if size_bytes == 0 {
            return Err(Fault::BadExport("size"));
        }
        let max_payload = whole(blocks.max_payload.min(MAX_PAYLOAD_BYTES).into());
        let has = |flag: u16| flags & flag != 0;
        Ok(Export {
            size_bytes,
            block_bytes,
            preferred_block_bytes: blocks.preferred,
            // It fits: it is smaller than the 32 bits that it comes from.
            max_payload_bytes: u32::try_from(max_payload).unwrap_or(block_bytes),
            read_only: has(FLAG_READ_ONLY),
            flush: has(FLAG_SEND_FLUSH),
            fua: has(FLAG_SEND_FUA),
            trim: has(FLAG_SEND_TRIM),
            write_zeroes: has(FLAG_SEND_WRITE_ZEROES),
            multi_conn: has(FLAG_CAN_MULTI_CONN),
        })
    }

    /// Whether the range consists of whole blocks of the export, and of one at least.
    pub(crate) fn contains(&self, offset: u64, len_bytes: u32) -> bool {
        let block = u64::from(self.block_bytes);
        let inside = offset.checked_add(len_bytes.into()).is_some_and(|end| end <= self.size_bytes);
        inside && len_bytes > 0 && offset.is_multiple_of(block) && u64::from(len_bytes).is_multiple_of(block)
    }
}
