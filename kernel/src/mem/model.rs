//! Who decides what shared memory holds, in place of this CPU: for `tests/proofs` (feature `model`).
//!
//! A model sees each access that this thread makes to a [`SharedPage`](crate::SharedPage) and each full
//! barrier, before it is made. It may answer by itself, as a weaker CPU would, or let others run first.
//! Without one, everything is as ever.

extern crate std;

use super::order::Order;
use alloc::rc::Rc;
use core::cell::RefCell;

/// A memory that is not this CPU's. Addresses are those of the pages' bytes.
pub trait MemoryModel {
    /// A word of `bytes` bytes is loaded. `None`: as it stands in this CPU's memory.
    fn load(&self, at: usize, bytes: usize, order: Order) -> Option<u64>;

    /// A word of `bytes` bytes is stored. False: to this CPU's memory.
    fn store(&self, at: usize, bytes: usize, value: u64, order: Order) -> bool;

    /// The `bits` of a word of 8 bytes are cleared in one go. What it was; `None`: see this CPU's memory.
    fn clear_bits(&self, at: usize, bits: u64) -> Option<u64>;

    /// Bytes are about to be copied out of this CPU's memory, or into it (`write`).
    fn copy(&self, at: usize, bytes: usize, write: bool);

    /// Orders everything before against everything after.
    fn full_barrier(&self);
}

std::thread_local! {
    static MODEL: RefCell<Option<Rc<dyn MemoryModel>>> = const { RefCell::new(None) };
}

/// A model in use; dropped, it is none any more.
#[derive(Debug)]
#[must_use = "the model is used only as long as this lives"]
pub struct Installed(());

impl Drop for Installed {
    fn drop(&mut self) {
        // Not while it is borrowed: what it holds may reach shared memory as it goes.
        let model = MODEL.with(RefCell::take);
        drop(model);
    }
}

/// Has `model` see the accesses of this thread from now on.
pub fn install(model: Rc<dyn MemoryModel>) -> Installed {
    MODEL.with(|place| place.replace(Some(model)));
    Installed(())
}

/// The model of this thread. A clone, so that it may reach shared memory itself.
pub(crate) fn current() -> Option<Rc<dyn MemoryModel>> {
    // At the thread's end there is none.
    MODEL.try_with(|place| place.borrow().clone()).ok().flatten()
}

/// Shows the model a copy of `bytes` bytes.
pub(crate) fn see_copy(from: usize, to: usize, bytes: usize) {
    if let Some(model) = current() {
        model.copy(from, bytes, false);
        model.copy(to, bytes, true);
    }
}
