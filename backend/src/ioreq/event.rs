//! What a guest's access means, decoded from one copy of its ioreq slot
//! (`public/hvm/ioreq.h`).

use crate::access::{Access, Direction, Width};
use core::fmt;
use xen_pv_sys::dm_op::ioreq;

/// What Xen asks the device model.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// An access to a claimed address.
    Mmio(Access),
    /// Guest frames changed: drop every mapping of guest memory, then answer.
    Invalidate,
}

/// A slot's content that no access of an Arm guest produces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// A type other than COPY and INVALIDATE.
    Type(u8),
    /// A size that is no access width.
    Size(u32),
    /// A repeat count other than 1.
    Count(u32),
    /// `data_is_ptr`, which Arm never sets.
    DataIsPtr,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Type(kind) => write!(f, "ioreq of type {kind}"),
            Malformed::Size(size) => write!(f, "ioreq of {size} bytes"),
            Malformed::Count(count) => write!(f, "ioreq with count {count}"),
            Malformed::DataIsPtr => f.write_str("ioreq with data_is_ptr"),
        }
    }
}

/// The fields of a slot, copied out once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RawSlot {
    /// Guest physical address.
    pub addr: u64,
    /// Data of a write.
    pub data: u64,
    /// Repeat count.
    pub count: u32,
    /// Bytes of the access.
    pub size_bytes: u32,
    /// State, `data_is_ptr`, direction.
    pub bits: u8,
    /// `IOREQ_TYPE_*`.
    pub kind: u8,
}

impl RawSlot {
    /// What is asked for.
    ///
    /// # Errors
    /// [`Malformed`] names the field; such a slot is answered as an absent device would.
    pub fn decode(&self) -> Result<Event, Malformed> {
        match self.kind {
            // Its other fields mean nothing: count is 0, data is all ones.
            ioreq::TYPE_INVALIDATE => return Ok(Event::Invalidate),
            ioreq::TYPE_COPY => {}
            other => return Err(Malformed::Type(other)),
        }
        if self.bits & ioreq::DATA_IS_PTR != 0 {
            return Err(Malformed::DataIsPtr);
        }
        if self.count != 1 {
            return Err(Malformed::Count(self.count));
        }
        let width = Width::new(self.size_bytes).ok_or(Malformed::Size(self.size_bytes))?;
        let direction = if self.bits & ioreq::DIR_READ != 0 {
            Direction::Read
        } else {
            Direction::Write(width.mask(self.data))
        };
        Ok(Event::Mmio(Access { addr: self.addr, width, direction }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: RawSlot = RawSlot {
        addr: 0x0200_0000,
        data: u64::MAX,
        count: 1,
        size_bytes: 4,
        bits: ioreq::DIR_READ | ioreq::STATE_READY,
        kind: ioreq::TYPE_COPY,
    };

    #[test]
    fn a_write_is_masked_to_its_width() {
        let write = RawSlot { bits: ioreq::STATE_READY, data: 0xdead_beef_1122_3344, ..READ };
        for (size_bytes, value) in [(1, 0x44), (2, 0x3344), (4, 0x1122_3344), (8, 0xdead_beef_1122_3344)] {
            let Ok(Event::Mmio(access)) = (RawSlot { size_bytes, ..write }).decode() else {
                panic!("a valid access");
            };
            assert_eq!(access.direction, Direction::Write(value));
        }
    }

    #[test]
    fn an_invalidate_needs_no_count() {
        let slot = RawSlot { kind: ioreq::TYPE_INVALIDATE, count: 0, bits: ioreq::STATE_READY, ..READ };
        assert_eq!(slot.decode(), Ok(Event::Invalidate));
    }

    #[test]
    fn what_arm_never_sends_is_malformed() {
        assert_eq!((RawSlot { kind: 0, ..READ }).decode(), Err(Malformed::Type(0)));
        assert_eq!((RawSlot { size_bytes: 3, ..READ }).decode(), Err(Malformed::Size(3)));
        assert_eq!((RawSlot { count: 2, ..READ }).decode(), Err(Malformed::Count(2)));
        assert_eq!((RawSlot { count: 0, ..READ }).decode(), Err(Malformed::Count(0)));
        let bits = READ.bits | ioreq::DATA_IS_PTR;
        assert_eq!((RawSlot { bits, ..READ }).decode(), Err(Malformed::DataIsPtr));
    }
}
