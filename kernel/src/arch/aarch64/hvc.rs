//! The hypercall instruction (`public/arch-arm.h`, "Hypercall calling convention").

use core::arch::asm;
use xen_pv_sys::arch_arm::HYPERCALL_TAG;

/// Calls Xen: the number goes into x16, arguments into x0 to x4, the result comes in x0.
///
/// # Safety
/// Every argument that is an address must be valid for what the hypercall does with it, and
/// the hypercall must not change memory or mappings that Rust relies on.
#[inline]
pub(crate) unsafe fn hypercall(number: u64, args: [u64; 5]) -> i64 {
    let result;
    // SAFETY: Xen preserves all registers but those listed; what it does to memory is the
    // caller's promise.
    unsafe {
        asm!(
            "hvc #{tag}",
            tag = const HYPERCALL_TAG,
            inlateout("x0") args[0] => result,
            inlateout("x1") args[1] => _,
            inlateout("x2") args[2] => _,
            inlateout("x3") args[3] => _,
            inlateout("x4") args[4] => _,
            inlateout("x16") number => _,
            options(nostack),
        );
    }
    result
}
