//! The Xen PV ABI as plain `no_std` types and numbers: one module per public header.
//!
//! No code here traps or allocates. Every size, offset and constant is compared with
//! Debian's `libxen-dev` headers by the ABI check in `tests/`.
//! Field layouts are those of a little-endian aarch64 guest.
#![no_std]
#![forbid(unsafe_code)]

pub mod arch_arm;
pub mod dm_op;
pub mod errno;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod io;
pub mod memory;
pub mod sched;
pub mod vcpu;
pub mod xen;

/// Bytes in a Xen page (`XEN_PAGE_SIZE`): 4 KiB on every architecture.
pub const PAGE_SIZE: usize = 4096;
/// `log2(PAGE_SIZE)`.
pub const PAGE_SHIFT: u32 = 12;
