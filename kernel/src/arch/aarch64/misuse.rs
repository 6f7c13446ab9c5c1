//! Instructions that Xen traps or that make it work, for the hostile test images.

use core::arch::asm;

pub(crate) use super::smccc::smccc;

/// Sets the virtual timer: when it fires and whether it may.
pub(crate) fn virtual_timer(compare: u64, control: u64) {
    // SAFETY: interrupts are masked for good, so the timer's changes nothing but Xen's work.
    unsafe {
        asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb", in(reg) compare, in(reg) control, options(nomem, nostack));
    }
}

/// Sets the physical timer, which Xen emulates.
pub(crate) fn physical_timer(compare: u64, control: u64) {
    // SAFETY: as above.
    unsafe {
        asm!("msr cntp_cval_el0, {}", "msr cntp_ctl_el0, {}", "isb", in(reg) compare, in(reg) control, options(nomem, nostack));
    }
}

/// Cleans a line of the cache by set and way, which Xen makes a flush of all of the domain's memory, and then
/// writes a control register, which Xen traps from then on.
pub(crate) fn clean_by_set_way() {
    // SAFETY: a clean and invalidate loses no data, and the register keeps its value.
    unsafe {
        asm!(
            "dc cisw, xzr",
            "mrs {control}, sctlr_el1",
            "msr sctlr_el1, {control}",
            "isb",
            control = out(reg) _,
            options(nostack),
        );
    }
}
