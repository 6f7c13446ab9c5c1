//! What only this architecture knows: entry, exceptions, page tables, the hypercall
//! instruction, barriers and the counter.

mod barrier;
#[cfg(feature = "hostile")]
pub(crate) mod contention;
mod copy;
mod entry;
mod hvc;
pub(crate) mod image;
#[cfg(feature = "hostile")]
pub(crate) mod misuse;
mod mmu;
#[cfg(feature = "guest")]
mod registers;
#[cfg(feature = "guest")]
mod secondary;
#[cfg(any(feature = "hostile", feature = "guest"))]
mod smccc;
mod vectors;

unsafe extern "Rust" {
    /// Runs the image: defined in `boot/start.rs`. By its symbol, because `arch` lies below all that it
    /// brings up.
    safe fn pilotfish_start(dtb: u64, entry_counter: u64) -> !;
    /// Ends this incarnation, and perhaps the domain, with `why`: defined in `log/panic.rs`.
    safe fn pilotfish_die(why: core::fmt::Arguments<'_>) -> !;
}

pub(crate) use barrier::{counter, counter_hz, halt};
pub(crate) use copy::copy_blocks;
pub(crate) use entry::restart;
pub(crate) use hvc::hypercall;
pub(crate) use mmu::map_block;
#[cfg(feature = "guest")]
pub(crate) use mmu::map_registers;
#[cfg(feature = "guest")]
pub(crate) use registers::{
    read_register, read_register_8, read_register_16, read_register_64, write_register, write_register_8,
    write_register_16, write_register_64,
};
#[cfg(feature = "guest")]
pub(crate) use secondary::{Start, is_off};
