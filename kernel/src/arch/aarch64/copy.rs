//! Bulk copies of memory that others may change meanwhile.

use core::arch::asm;

/// Bytes that one round copies.
const BLOCK: usize = 64;

/// Copies the leading whole blocks of `len` bytes, upwards, and returns how many bytes that
/// was. In assembly, since the compiler knows no wide access that others may race with.
///
/// # Safety
/// Both addresses are valid for `len` bytes, reading and writing respectively. They are
/// Normal memory, as all that the MMU maps here, so they need no alignment.
#[inline]
pub(crate) unsafe fn copy_blocks(src: *mut u8, dst: *mut u8, len: usize) -> usize {
    let blocks = len / BLOCK;
    if blocks > 0 {
        // SAFETY: touches `blocks * BLOCK <= len` bytes at each address; the rest is the
        // caller's promise.
        unsafe {
            asm!(
                "2:",
                "ldp {a:q}, {b:q}, [{src}], #32",
                "ldp {c:q}, {d:q}, [{src}], #32",
                "subs {blocks}, {blocks}, #1",
                "stp {a:q}, {b:q}, [{dst}], #32",
                "stp {c:q}, {d:q}, [{dst}], #32",
                "b.ne 2b",
                src = inout(reg) src => _,
                dst = inout(reg) dst => _,
                blocks = inout(reg) blocks => _,
                a = out(vreg) _,
                b = out(vreg) _,
                c = out(vreg) _,
                d = out(vreg) _,
                options(nostack),
            );
        }
    }
    blocks * BLOCK
}
