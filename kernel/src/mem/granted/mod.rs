//! The target's memory as far as the target grants it, page by page.
//!
//! A guest with grant DMA (Linux: `CONFIG_XEN_VIRTIO`) names pages by grants. An address has bit 63 set;
//! below it stands the grant in the place of a frame's number (Linux, `drivers/xen/grant-dma-ops.c`). A run
//! of bytes over several pages has grants that follow each other.
//!
//! - **Rings** are mapped from [`GrantMap::keep`] to [`GrantMap::release`]: single words of them are read
//!   and written all the time.
//! - **Everything else** Xen copies, and nothing is mapped: a page that the guest has taken back fails its
//!   own copy and no other. Copies between guest and pages of ours are collected; one hypercall does up to
//!   [`BATCH`] of them ([`GrantMap::finish_copies`]).
//!
//! An address without bit 63 is refused. No foreign page is ever mapped from here.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod address;
mod batch;
mod grants;
mod map;
mod rings;
#[cfg(test)]
mod tests;

pub use address::{GRANT_BIT, GrantFault};
pub use batch::BATCH;
pub use grants::{GrantStatus, GuestGrants, RingPage};
pub use map::{GrantMap, GrantUse};
