//! Instructions that Xen traps or that make it work, for the hostile test images.

use core::arch::asm;

/// Calls firmware as a guest does (SMC Calling Convention): here Xen answers.
///
/// # Safety
/// The function neither ends nor starts a vCPU, nor writes to memory.
pub(crate) unsafe fn smccc(function: u64, args: [u64; 3]) -> u64 {
    let result;
    // SAFETY: the caller's promise; the convention lets the callee change x0 to x17.
    unsafe {
        asm!(
            "hvc #0",
            inlateout("x0") function => result,
            inlateout("x1") args[0] => _,
            inlateout("x2") args[1] => _,
            inlateout("x3") args[2] => _,
            lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _,
            lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _,
            lateout("x12") _, lateout("x13") _, lateout("x14") _, lateout("x15") _,
            lateout("x16") _, lateout("x17") _,
            options(nostack),
        );
    }
    result
}

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
