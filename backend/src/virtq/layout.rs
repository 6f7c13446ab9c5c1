//! Where the parts of a split virtqueue lie in guest memory (virtio 1.3, section 2.7).

use crate::guest_mem::{GuestAddr, GuestRange};
use core::fmt;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The longest queue offered, and the longest chain taken.
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// `VIRTQ_DESC_F_NEXT`.
pub const DESC_F_NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`: the device writes here.
pub const DESC_F_WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`.
pub const DESC_F_INDIRECT: u16 = 4;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
pub const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`.
pub const USED_F_NO_NOTIFY: u16 = 1;

/// `struct virtq_desc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Desc {
    /// Guest physical address.
    pub addr: U64,
    /// Length in bytes.
    pub len: U32,
    /// `DESC_F_*`.
    pub flags: U16,
    /// Index of the next descriptor, with `DESC_F_NEXT`.
    pub next: U16,
}

/// `struct virtq_used_elem`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UsedElem {
    /// Head of the chain.
    pub id: U32,
    /// Bytes written to it.
    pub len: U32,
}

/// Bytes of one descriptor.
pub const DESC_BYTES: u64 = 16;

/// The rule a queue's set-up breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadLayout {
    /// The size is zero, not a power of two, or above the maximum.
    Size(u32),
    /// A part is not aligned as section 2.7 asks, or its end wraps.
    Place(GuestAddr),
}

impl fmt::Display for BadLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLayout::Size(size) => {
                write!(f, "queue size {size} is not a power of two up to {QUEUE_SIZE_MAX}")
            }
            BadLayout::Place(addr) => write!(f, "queue part at {addr} is misaligned or wraps"),
        }
    }
}

/// A queue's checked place: sizes and alignments hold, no part wraps.
///
/// The address methods therefore need no error: they stay below the checked ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    size: u16,
    desc: GuestRange,
    avail: GuestRange,
    used: GuestRange,
}

impl Layout {
    /// Checks what the driver wrote to the queue registers.
    ///
    /// # Errors
    /// [`BadLayout`] names the broken rule.
    pub fn new(size: u32, desc: GuestAddr, avail: GuestAddr, used: GuestAddr) -> Result<Layout, BadLayout> {
        let short = match u16::try_from(size) {
            Ok(short) if short.is_power_of_two() && short <= QUEUE_SIZE_MAX => short,
            _ => return Err(BadLayout::Size(size)),
        };
        let entries = u64::from(short);
        let part = |start: GuestAddr, len_bytes: u64, align_bytes| {
            let range = GuestRange::new(start, len_bytes).ok().filter(|_| start.is_aligned(align_bytes));
            range.ok_or(BadLayout::Place(start))
        };
        Ok(Layout {
            size: short,
            desc: part(desc, entries.saturating_mul(DESC_BYTES), 16)?,
            avail: part(avail, entries.saturating_mul(2).saturating_add(6), 2)?,
            used: part(used, entries.saturating_mul(8).saturating_add(6), 4)?,
        })
    }

    /// The memory of its parts: descriptor table, available ring, used ring.
    #[must_use]
    pub const fn parts(&self) -> [GuestRange; 3] {
        [self.desc, self.avail, self.used]
    }

    /// Entries of the queue.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// Start of the descriptor table.
    #[must_use]
    pub const fn desc_table(&self) -> GuestAddr {
        self.desc.start()
    }

    /// Slot of a free-running index. The size is a power of two.
    fn slot(&self, idx: u16) -> u64 {
        u64::from(idx & self.size.wrapping_sub(1))
    }

    fn at(part: GuestRange, offset: u64) -> GuestAddr {
        // The parts' ends were checked in `new`.
        GuestAddr::new(part.start().raw().wrapping_add(offset))
    }

    /// `avail.flags`.
    #[must_use]
    pub fn avail_flags(&self) -> GuestAddr {
        self.avail.start()
    }

    /// `avail.idx`.
    #[must_use]
    pub fn avail_idx(&self) -> GuestAddr {
        Self::at(self.avail, 2)
    }

    /// `avail.ring[idx % size]`.
    #[must_use]
    pub fn avail_ring(&self, idx: u16) -> GuestAddr {
        Self::at(self.avail, self.slot(idx).wrapping_mul(2).wrapping_add(4))
    }

    /// `used_event`, at the end of the available ring.
    #[must_use]
    pub fn used_event(&self) -> GuestAddr {
        Self::at(self.avail, u64::from(self.size).wrapping_mul(2).wrapping_add(4))
    }

    /// `used.flags`.
    #[must_use]
    pub fn used_flags(&self) -> GuestAddr {
        self.used.start()
    }

    /// `used.idx`.
    #[must_use]
    pub fn used_idx(&self) -> GuestAddr {
        Self::at(self.used, 2)
    }

    /// `used.ring[idx % size]`.
    #[must_use]
    pub fn used_ring(&self, idx: u16) -> GuestAddr {
        Self::at(self.used, self.slot(idx).wrapping_mul(8).wrapping_add(4))
    }

    /// `avail_event`, at the end of the used ring.
    #[must_use]
    pub fn avail_event(&self) -> GuestAddr {
        Self::at(self.used, u64::from(self.size).wrapping_mul(8).wrapping_add(4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: u32, desc: u64, avail: u64, used: u64) -> Result<Layout, BadLayout> {
        Layout::new(size, GuestAddr::new(desc), GuestAddr::new(avail), GuestAddr::new(used))
    }

    #[test]
    fn the_size_is_a_power_of_two_up_to_the_maximum() {
        for size in [0, 3, 255, 257, 1023, 1025, 2048, 0x1_0001, u32::MAX] {
            assert_eq!(layout(size, 0, 0, 0), Err(BadLayout::Size(size)));
        }
        assert!(layout(1, 0, 0, 0).is_ok());
        assert!(layout(1024, 0, 0, 0).is_ok());
    }

    #[test]
    fn each_part_is_aligned_and_does_not_wrap() {
        let place = |addr| Err(BadLayout::Place(GuestAddr::new(addr)));
        assert_eq!(layout(8, 8, 0, 0), place(8));
        assert_eq!(layout(8, 0, 1, 0), place(1));
        assert_eq!(layout(8, 0, 0, 2), place(2));
        let top = u64::MAX - 15;
        assert_eq!(layout(8, top, 0, 0), place(top));
        assert_eq!(layout(8, 0, top, 0), place(top));
        assert_eq!(layout(8, 0, 0, top), place(top));
    }

    #[test]
    fn indices_wrap_inside_the_rings() {
        let layout = layout(8, 0x1000, 0x2000, 0x3000).expect("valid");
        assert_eq!(layout.avail_ring(8), layout.avail_ring(0));
        assert_eq!(layout.avail_ring(65535).raw(), 0x2000 + 4 + 14);
        assert_eq!(layout.used_ring(9).raw(), 0x3000 + 4 + 8);
        assert_eq!(layout.used_event().raw(), 0x2000 + 4 + 16);
        assert_eq!(layout.avail_event().raw(), 0x3000 + 4 + 64);
    }
}
