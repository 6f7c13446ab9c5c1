//! The requests that the server holds, found again by the cookie that it echoes.
//!
//! A cookie is a slot's number and the slot's generation, both ours. A cookie that is unknown, answered
//! already, or of an earlier use of its slot finds nothing.

use crate::error::SubmitError;
use crate::export::Export;
use crate::wire::{
    CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, Request,
};
use alloc::vec::Vec;

/// What the server is asked to do. Offsets and lengths are whole blocks, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Reads.
    Read {
        /// Where on the export.
        offset: u64,
        /// How much; at most [`Export::max_payload_bytes`].
        len_bytes: u32,
    },
    /// Writes the data that follows the header.
    Write {
        /// Where on the export.
        offset: u64,
        /// How much; at most [`Export::max_payload_bytes`].
        len_bytes: u32,
        /// Complete only when it is durable ([`Export::fua`]).
        durable: bool,
    },
    /// Makes every write durable that has completed before.
    Flush,
    /// Gives up the content of a range.
    Trim {
        /// Where on the export.
        offset: u64,
        /// How much.
        len_bytes: u32,
    },
    /// Writes zeros. The range stays allocated.
    WriteZeroes {
        /// Where on the export.
        offset: u64,
        /// How much.
        len_bytes: u32,
        /// Complete only when it is durable ([`Export::fua`]).
        durable: bool,
    },
}

impl Command {
    /// Whether the export can do it.
    pub(crate) fn check(self, export: &Export) -> Result<(), SubmitError> {
        let data = |len_bytes: u32| len_bytes <= export.max_payload_bytes;
        let can = |can: bool| if can { Ok(()) } else { Err(SubmitError::Unsupported) };
        let (offset, len_bytes, short) = match self {
            Command::Flush => return can(export.flush),
            Command::Read { offset, len_bytes } => (offset, len_bytes, data(len_bytes)),
            Command::Write { offset, len_bytes, durable } => {
                // The server would refuse it, but the server is not trusted.
                can(!export.read_only && (export.fua || !durable))?;
                (offset, len_bytes, data(len_bytes))
            }
            Command::Trim { offset, len_bytes } => {
                can(!export.read_only && export.trim)?;
                (offset, len_bytes, true)
            }
            Command::WriteZeroes { offset, len_bytes, durable } => {
                can(!export.read_only && export.write_zeroes && (export.fua || !durable))?;
                (offset, len_bytes, true)
            }
        };
        if short && export.contains(offset, len_bytes) { Ok(()) } else { Err(SubmitError::BadRange) }
    }

    /// The request under that cookie.
    pub(crate) fn request(self, cookie: u64) -> Request {
        let fua = |durable: bool| if durable { CMD_FLAG_FUA } else { 0 };
        let (kind, flags, offset, len_bytes) = match self {
            Command::Read { offset, len_bytes } => (CMD_READ, 0, offset, len_bytes),
            Command::Write { offset, len_bytes, durable } => (CMD_WRITE, fua(durable), offset, len_bytes),
            Command::Flush => (CMD_FLUSH, 0, 0, 0),
            Command::Trim { offset, len_bytes } => (CMD_TRIM, 0, offset, len_bytes),
            Command::WriteZeroes { offset, len_bytes, durable } => {
                (CMD_WRITE_ZEROES, CMD_FLAG_NO_HOLE | fua(durable), offset, len_bytes)
            }
        };
        Request { flags, kind, cookie, offset, len_bytes }
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    /// The caller's own id.
    pub(crate) id: u64,
    /// Data that comes with a reply without error.
    pub(crate) read_bytes: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: u32,
    request: Option<InFlight>,
}

/// A fixed number of slots.
#[derive(Debug)]
pub(crate) struct Requests {
    slots: Vec<Slot>,
    /// Numbers of the empty ones.
    free: Vec<u16>,
}

impl Requests {
    pub(crate) fn new(count: u16) -> Requests {
        Requests { slots: alloc::vec![Slot::default(); count.into()], free: (0..count).rev().collect() }
    }

    /// Keeps a request; its cookie. `None` if every slot is taken.
    pub(crate) fn insert(&mut self, id: u64, command: Command) -> Option<u64> {
        let number = *self.free.last()?;
        let slot = self.slots.get_mut(usize::from(number))?;
        let read_bytes = if let Command::Read { len_bytes, .. } = command { len_bytes } else { 0 };
        slot.request = Some(InFlight { id, read_bytes });
        self.free.pop();
        Some((u64::from(slot.generation) << 32) | u64::from(number))
    }

    /// The request of that cookie.
    pub(crate) fn get(&self, cookie: u64) -> Option<InFlight> {
        let slot = self.slots.get(usize::from(number(cookie)?))?;
        // An answer to an earlier use of the slot: the same request answered twice, for instance.
        slot.request.filter(|_| u64::from(slot.generation) == cookie >> 32)
    }

    /// Ends the request of that cookie.
    pub(crate) fn remove(&mut self, cookie: u64) {
        let slot = number(cookie).and_then(|number| Some((number, self.slots.get_mut(usize::from(number))?)));
        if let Some((number, slot)) = slot
            && slot.request.take().is_some()
        {
            slot.generation = slot.generation.wrapping_add(1);
            // Never grows: there are no more free numbers than slots.
            self.free.push(number);
        }
    }

    /// The requests under way, in no order.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        self.slots.iter().filter_map(|slot| slot.request.map(|request| request.id))
    }
}

/// The slot that a cookie names.
fn number(cookie: u64) -> Option<u16> {
    u16::try_from(cookie & 0xffff_ffff).ok()
}
