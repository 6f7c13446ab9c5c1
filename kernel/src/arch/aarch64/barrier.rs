//! Barriers that Rust's `fence` does not express, and the generic timer's counter.

use core::arch::asm;

/// Makes page-table writes visible to the table walker before going on.
#[inline]
pub(super) fn after_table_write() {
    // SAFETY: barriers have no effect but order.
    unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
}

/// `CNTVCT_EL0`: the virtual counter. `isb` keeps it from being read early.
#[inline]
pub(crate) fn counter() -> u64 {
    let ticks;
    // SAFETY: reads a register that EL1 may always read.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags)) };
    ticks
}

/// `CNTFRQ_EL0`: ticks of [`counter`] per second.
#[inline]
pub(crate) fn counter_hz() -> u64 {
    let hz;
    // SAFETY: reads a register that EL1 may always read.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nomem, nostack, preserves_flags)) };
    hz
}

/// Stops this CPU for good: all that is left when Xen does not even end the domain.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: waits for an interrupt; none is unmasked.
        unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }
}
