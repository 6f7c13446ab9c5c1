//! Memory: the heap, pages that others share with us, and the guest's RAM.

pub mod foreign;
pub(crate) mod heap;
pub(crate) mod magic;
pub mod shared;
#[cfg(target_os = "none")]
pub(crate) mod uni_cell;
