//! Addresses that stand for grants.

use core::fmt;
use xen_pv_sys::{PAGE_SHIFT, PAGE_SIZE};

/// Set in each address that stands for a grant.
pub const GRANT_BIT: u64 = 1 << 63;

/// An access that failed, with the address that the guest named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GrantFault {
    /// The address.
    pub addr: u64,
}

impl fmt::Display for GrantFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant address {:#x}", self.addr)
    }
}

impl core::error::Error for GrantFault {}

/// The grant that `addr` stands for. `None`: none.
#[inline]
pub(super) fn grant_of(addr: u64) -> Option<u32> {
    if addr & GRANT_BIT == 0 {
        return None;
    }
    u32::try_from((addr & !GRANT_BIT) >> PAGE_SHIFT).ok()
}

/// Offset in the page.
#[inline]
pub(super) fn offset_in_page(addr: u64) -> usize {
    // Below 4096: fits.
    usize::try_from(addr % PAGE_SIZE as u64).unwrap_or(0)
}

/// Bytes from `addr` to the end of its page.
#[inline]
pub(super) fn room(addr: u64) -> usize {
    PAGE_SIZE - offset_in_page(addr)
}
