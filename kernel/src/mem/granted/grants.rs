//! What Xen does with another domain's grants: the seam.

use core::fmt;
use core::ptr::NonNull;
use xen_pv_sys::grant_table::GnttabCopy;

/// Why Xen did not do it: `GNTST_*`, negative.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GrantStatus(pub i16);

impl fmt::Display for GrantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant status {}", self.0)
    }
}

/// A page of the guest that is mapped.
#[derive(Clone, Copy, Debug)]
pub struct RingPage {
    /// Its first byte.
    pub base: NonNull<u8>,
    /// What Xen knows the mapping by.
    pub handle: u32,
}

/// The grants that one domain has given to this one.
///
/// # Safety
/// From when `map` returns a page until `unmap` of it, the page at its `base` is valid for reading and
/// writing, by the guest as well. Pages that are mapped at the same time do not overlap.
/// `copy` touches no other memory than the operations name.
pub unsafe trait GuestGrants {
    /// Maps the page of that grant for reading and writing.
    ///
    /// # Errors
    /// [`GrantStatus`]: not granted to us, or not for writing, or no room.
    fn map(&self, gref: u32) -> Result<RingPage, GrantStatus>;

    /// Unmaps a page. The caller does not use it any more.
    ///
    /// # Errors
    /// [`GrantStatus`]: it is not mapped. A bug of the caller's.
    fn unmap(&self, page: RingPage) -> Result<(), GrantStatus>;

    /// The domain whose grants these are.
    fn domain(&self) -> u16;

    /// Copies, and sets the status of each operation. Those that could not be tried have an error, too.
    ///
    /// # Safety
    /// Each operation has a grant of [`GuestGrants::domain`] at one end. At the other end it has
    /// memory of ours, by the number of the page that its address lies in: valid for reading, or for
    /// writing, for the operation's length.
    unsafe fn copy(&self, operations: &mut [GnttabCopy]);
}
