//! Others run whenever the stub accesses shared memory: each access is a moment at which anything may
//! happen. Between two of them nobody could tell.

use kernel::Order;
use kernel::model::{Installed, MemoryModel, install};
use std::cell::Cell;
use std::rc::Rc;

/// What happens at such a moment.
pub struct Interleaved {
    others: Rc<dyn Fn()>,
    /// Accesses are the others' own, unless it is 0.
    depth: Cell<u32>,
}

impl Interleaved {
    /// `others` decides each time what happens.
    #[must_use]
    pub fn new(others: impl Fn() + 'static) -> Rc<Interleaved> {
        Rc::new(Interleaved { others: Rc::new(others), depth: Cell::new(0) })
    }

    /// From now on, for each access of this thread.
    pub fn install(self: &Rc<Interleaved>) -> Installed {
        install(self.clone())
    }

    /// A moment: of an access, or of a hypercall.
    pub fn moment(&self) {
        if self.depth.get() == 0 {
            self.enter();
            (self.others)();
            self.leave();
        }
    }

    /// From here on accesses are the others' own.
    pub fn enter(&self) {
        self.depth.set(self.depth.get() + 1);
    }

    /// Ends what [`Interleaved::enter`] began.
    pub fn leave(&self) {
        self.depth.set(self.depth.get() - 1);
    }

    /// The stub goes on in the middle of a moment: its panic handler does.
    pub fn by_stub<T>(&self, stub: impl FnOnce() -> T) -> T {
        let before = self.depth.replace(0);
        let result = stub();
        self.depth.set(before);
        result
    }
}

impl MemoryModel for Interleaved {
    fn load(&self, _at: usize, _bytes: usize, _order: Order) -> Option<u64> {
        self.moment();
        None
    }

    fn store(&self, _at: usize, _bytes: usize, _value: u64, _order: Order) -> bool {
        self.moment();
        false
    }

    fn clear_bits(&self, _at: usize, _bits: u64) -> Option<u64> {
        self.moment();
        None
    }

    fn copy(&self, _at: usize, _bytes: usize, write: bool) {
        // One moment for both ends: one of them is private.
        if write {
            self.moment();
        }
    }

    fn full_barrier(&self) {}
}
