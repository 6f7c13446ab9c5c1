//! A static for a machine with one vCPU and no interrupts.

use core::cell::{Cell, UnsafeCell};

/// A value that only one borrower at a time can reach.
pub(crate) struct UniCell<T> {
    value: UnsafeCell<T>,
    taken: Cell<bool>,
}

// SAFETY: used in statics of the stub only (this module does not exist on a host). There is
// one vCPU, no interrupt is ever unmasked, and an exception never returns: two contexts do
// not run at the same time, so neither `Cell` nor `UnsafeCell` is raced.
unsafe impl<T> Sync for UniCell<T> {}

impl<T> UniCell<T> {
    pub(crate) const fn new(value: T) -> UniCell<T> {
        UniCell { value: UnsafeCell::new(value), taken: Cell::new(false) }
    }

    /// Runs `f` on the value. `None` if it is borrowed already: from inside another `with`,
    /// or without end, if an exception interrupted one.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.taken.replace(true) {
            return None;
        }
        // SAFETY: `taken` was false, so no other borrow lives; it stays true until this one
        // has ended (a panic in `f` ends the domain and leaves it true).
        let result = f(unsafe { &mut *self.value.get() });
        self.taken.set(false);
        Some(result)
    }
}
