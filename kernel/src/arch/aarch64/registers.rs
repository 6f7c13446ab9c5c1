//! Register accesses that a hypervisor can emulate: one plain load or store each, without
//! write-back, so that the trap's syndrome says what was meant.

use core::arch::asm;

/// Reads a register.
///
/// # Safety
/// `at` is aligned and mapped as registers.
#[inline]
pub(crate) unsafe fn read_register(at: *const u32) -> u32 {
    let value;
    // SAFETY: the caller's promise. Not `nomem`: what a device does to memory is seen after it.
    unsafe { asm!("ldr {:w}, [{}]", out(reg) value, in(reg) at, options(nostack, preserves_flags)) };
    value
}

/// Writes a register, after everything that was written to memory before.
///
/// # Safety
/// `at` is aligned and mapped as registers.
#[inline]
pub(crate) unsafe fn write_register(at: *mut u32, value: u32) {
    // SAFETY: the caller's promise. The barrier is for the device, which may be on another CPU.
    unsafe {
        asm!("dsb ish", "str {:w}, [{}]", in(reg) value, in(reg) at, options(nostack, preserves_flags));
    }
}
