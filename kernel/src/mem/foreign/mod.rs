//! The target's RAM, reached through a window of bounded size.
//!
//! The window has slots of 2 MiB. A guest's address leads to a chunk (its 2 MiB), a chunk to a
//! slot: those of the chunks used last are remembered, others are found by two indexed
//! look-ups, and only a miss costs hypercalls, taking a new slot, or if there is none, one that
//! was not used lately. A page that cannot be mapped fails its own access and no other. Guest
//! memory is only ever copied, by loads and stores, never referenced, and never the object of a
//! read-modify-write.
//!
//! An address is the guest's allegation. One outside RAM costs one failed hypercall.
//!
//! # Stale pages
//!
//! When the guest's frames change (`IOREQ_TYPE_INVALIDATE`), everything that is mapped becomes
//! stale at once, without a hypercall: [`ForeignMap::invalidate`] counts an epoch on. A stale page
//! is never used:
//!
//! - A page is used only if `Chunks` says so, or if its chunk is remembered.
//! - `Chunks` says so of a page that is in its slot's `pages`, and only if the slot's epoch is the
//!   present one. A page comes into `pages` only when Xen has just mapped it for the slot's
//!   chunk, and only after the slot was brought to the present epoch, which takes all out
//!   (`Slot::settle`); when the slot changes hands, they are taken out as well (`Slot::retire`).
//! - A chunk is remembered only while it is whole by that rule, and all are forgotten at an
//!   invalidation and before anything is mapped or given another chunk. Sweeping takes nothing out
//!   of a slot of the present epoch.
//! - No pointer outlives the access that it was made for; accesses and invalidations are methods of
//!   one object that is not shared between threads.
//!
//! What is stale is still mapped in Xen, and so kept from its owner. [`ForeignMap::sweep`] unmaps a
//! few pages at a time, until none is left; a page that is wanted before is unmapped and mapped
//! again: never mapped over, so that each page that Xen maps is unmapped once.
//! What an earlier incarnation had mapped (see [`restart`](crate::restart)) is stale from the beginning.
//! The end of the map unmaps nothing: Xen does, with our domain.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod chunks;
mod fault;
#[cfg(feature = "fake")]
mod host;
mod map;
mod pages;
#[cfg(test)]
mod tests;
mod window;

pub use chunks::MapUse;
pub use fault::{ForeignFault, Reason};
#[cfg(feature = "fake")]
pub use host::HostWindow;
pub use map::ForeignMap;
pub use pages::{CHUNK_PAGES, PageSet};
pub use window::{ADDRESS_LIMIT, Mapped, Window};
