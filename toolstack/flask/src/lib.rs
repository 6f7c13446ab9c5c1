//! The FLASK policy of one guest and its stub: the module for Xen's own policy, the labels that the two
//! domains have under it, and the rights that a stub needs.
//!
//! The names of the types follow from the guest's name alone, so that a policy can be written before
//! the guest exists, and no two guests share a type.
#![forbid(unsafe_code)]

mod label;
mod module;
mod reach;
mod right;

pub use label::Pair;
pub use module::Module;
pub use reach::Reach;
pub use right::{Object, Right, rights};
