//! Bulk copies: of memory that others may change meanwhile, and the compiler's own.

use core::arch::{asm, global_asm};

// Every move of a structure of more than 32 bytes is a call of `memcpy`, since this target
// asks for aligned accesses. The one that comes with Rust goes word by word, and where the two
// addresses do not agree byte by byte; this one takes its place. It may run before the MMU is on,
// when accesses have to be aligned. Once it is on, all memory is Normal and any address does: data of
// a network lie behind headers of any length.
global_asm!(
    r#"
    .section .text.memcpy, "ax"
    .global memcpy
    .type memcpy, %function
memcpy:
    mov     x3, x0
    orr     x4, x0, x1
    tst     x4, #7
    b.eq    0f
    cmp     x2, #16
    b.lo    5f
    mrs     x4, sctlr_el1
    tbz     x4, #0, 5f
0:  subs    x2, x2, #32
    b.lo    2f
1:  ldp     x4, x5, [x1], #16
    ldp     x6, x7, [x1], #16
    subs    x2, x2, #32
    stp     x4, x5, [x3], #16
    stp     x6, x7, [x3], #16
    b.hs    1b
2:  adds    x2, x2, #24
    b.lt    4f
3:  ldr     x4, [x1], #8
    subs    x2, x2, #8
    str     x4, [x3], #8
    b.ge    3b
4:  add     x2, x2, #8
5:  cbz     x2, 7f
6:  ldrb    w4, [x1], #1
    subs    x2, x2, #1
    strb    w4, [x3], #1
    b.ne    6b
7:  ret
    .size memcpy, . - memcpy
"#
);

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
