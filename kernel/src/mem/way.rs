//! Which way bytes go between a guest and us.

use super::copy::copy_shared;

/// Which way a copy goes.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// From the guest's memory to ours.
    FromGuest,
    /// From ours to the guest's.
    ToGuest,
}

impl Way {
    /// Copies between guest memory and ours.
    ///
    /// # Safety
    /// Both are valid for `len` bytes: what is copied from for reading, the other for writing.
    #[inline]
    pub(crate) unsafe fn copy(self, guest: *mut u8, ours: *mut u8, len: usize) {
        let (from, to) = match self {
            Way::FromGuest => (guest, ours),
            Way::ToGuest => (ours, guest),
        };
        // SAFETY: the caller's promise.
        unsafe { copy_shared(from, to, len) };
    }
}
