//! Calls of firmware (SMC Calling Convention), for test images. In a guest Xen answers them.

use core::arch::asm;

/// Calls a function of firmware; what it answers.
///
/// # Safety
/// What the function does is sound.
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
