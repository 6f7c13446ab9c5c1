//! Memory: the heap, pages that others share with us, and the guest's RAM: all of it, or
//! what it grants.

mod copy;
pub mod foreign;
pub mod granted;
pub(crate) mod heap;
pub(crate) mod magic;
#[cfg(feature = "model")]
pub mod model;
mod order;
pub mod shared;
#[cfg(target_os = "none")]
pub(crate) mod uni_cell;
mod way;
