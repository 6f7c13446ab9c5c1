//! What only this architecture knows: entry, exceptions, page tables, the hypercall
//! instruction, barriers and the counter.

mod barrier;
mod copy;
mod entry;
#[cfg(feature = "raw")]
pub(crate) mod hammer;
mod hvc;
pub(crate) mod image;
mod mmu;
#[cfg(feature = "guest")]
mod registers;
mod vectors;

pub(crate) use barrier::{counter, counter_hz, halt};
pub(crate) use copy::copy_blocks;
pub(crate) use entry::restart;
pub(crate) use hvc::hypercall;
pub(crate) use mmu::map_block;
#[cfg(feature = "guest")]
pub(crate) use mmu::map_registers;
#[cfg(feature = "guest")]
pub(crate) use registers::{read_register, write_register};
