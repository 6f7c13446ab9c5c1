//! An access of the guest to a device's registers, and its reply: what carries it (`ioreq`) and
//! what it reaches (`mmio`) have these words in common.

/// How wide an access is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Width {
    /// 1 byte.
    One,
    /// 2 bytes.
    Two,
    /// 4 bytes.
    Four,
    /// 8 bytes.
    Eight,
}

impl Width {
    /// The width of `size_bytes` bytes, if a CPU makes such accesses.
    #[must_use]
    pub const fn new(size_bytes: u32) -> Option<Width> {
        match size_bytes {
            1 => Some(Width::One),
            2 => Some(Width::Two),
            4 => Some(Width::Four),
            8 => Some(Width::Eight),
            _ => None,
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Width::One => 1,
            Width::Two => 2,
            Width::Four => 4,
            Width::Eight => 8,
        }
    }

    /// The bits of `value` that belong to the access. Xen 4.17 passes whole registers.
    #[must_use]
    pub const fn mask(self, value: u64) -> u64 {
        match self {
            Width::One => value & 0xff,
            Width::Two => value & 0xffff,
            Width::Four => value & 0xffff_ffff,
            Width::Eight => value,
        }
    }
}

/// What an access does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The guest loads.
    Read,
    /// The guest stores this value, already masked to the width.
    Write(u64),
}

/// One MMIO access.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Access {
    /// Guest physical address, or the offset in a device's window.
    pub addr: u64,
    /// How wide.
    pub width: Width,
    /// Which way.
    pub direction: Direction,
}

impl Access {
    /// The same access relative to a window of `len_bytes` at `base`, if it lies inside.
    #[must_use]
    pub fn within(self, base: u64, len_bytes: u64) -> Option<Access> {
        let addr = self.addr.checked_sub(base)?;
        let end = addr.checked_add(self.width.bytes())?;
        (end <= len_bytes).then_some(Access { addr, ..self })
    }
}

/// What a read returns; ignored for a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reply(pub u64);

impl Reply {
    /// What an absent device returns.
    pub const ALL_ONES: Reply = Reply(u64::MAX);
    /// Nothing to say: the answer to a write.
    pub const NONE: Reply = Reply(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_must_lie_wholly_inside_a_window() {
        let at = |addr| Access { addr, width: Width::Four, direction: Direction::Read };
        assert_eq!(at(0x1fc).within(0, 0x200).map(|access| access.addr), Some(0x1fc));
        assert_eq!(at(0x1fd).within(0, 0x200), None);
        assert_eq!(at(0xfff).within(0x1000, 0x200), None);
        assert_eq!(at(u64::MAX).within(0x1000, 0x200), None);
    }
}
