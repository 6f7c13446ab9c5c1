//! How an access to the target's RAM fails.

use core::fmt;
use xen_pv_sys::errno::Errno;

/// Why an access to guest memory failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The range wraps or goes beyond [`ADDRESS_LIMIT`](super::ADDRESS_LIMIT).
    OutOfRange,
    /// A word's address is not a multiple of its size.
    Misaligned,
    /// Xen does not map that page: usually because it is not RAM.
    Unmappable(Errno),
    /// The page of our own that data goes to or comes from is too small. A bug of the caller's.
    OutOfPage,
}

/// A failed access, with the guest physical address that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ForeignFault {
    /// The guest physical address.
    pub gpa: u64,
    /// What was wrong with it.
    pub reason: Reason,
}

impl fmt::Display for ForeignFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest address {:#x}: ", self.gpa)?;
        match self.reason {
            Reason::OutOfRange => f.write_str("out of range"),
            Reason::Misaligned => f.write_str("misaligned"),
            Reason::Unmappable(errno) => write!(f, "{errno}"),
            Reason::OutOfPage => f.write_str("beyond our page"),
        }
    }
}

impl core::error::Error for ForeignFault {}
