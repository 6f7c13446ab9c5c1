//! The first instructions: the Image header, then everything that must hold before Rust runs
//! with caches on.
//!
//! Xen's loader (tools/libs/guest/xg_dom_armzimageloader.c) puts the file at RAM's start plus
//! `text_offset` and ignores `image_size`: memory past the end of the file is ours only as
//! long as the device tree is not there, which is checked. x0 holds the device tree's address;
//! MMU and caches are off, FP and SIMD trap, all interrupts but debug are masked.

use super::{mmu, vectors};
use core::arch::global_asm;
use xen_pv_sys::arch_arm::HYPERCALL_TAG;
use xen_pv_sys::sched::{SCHEDOP_SHUTDOWN, SHUTDOWN_CRASH};
use xen_pv_sys::xen::HYPERVISOR_SCHED_OP;

/// `SCTLR_EL1`: M, C, I on, SA (stack alignment), WXN (writable is never executable), and the
/// bits that Armv8.0 defines as one.
const SCTLR: u64 = (1 << 0) | (1 << 2) | (1 << 3) | (1 << 12) | (1 << 19) | SCTLR_RES1;
const SCTLR_RES1: u64 = (1 << 11) | (1 << 20) | (1 << 22) | (1 << 23) | (1 << 28) | (1 << 29);
/// `TCR_EL1` without IPS: 39-bit addresses, walks write-back and inner shareable, no upper half.
const TCR: u64 = 25 | (1 << 8) | (1 << 10) | (3 << 12) | (1 << 23);
/// `MAIR_EL1`: attribute 0 is Normal, write-back, allocating; attribute 1 is Device-nGnRE.
const MAIR: u64 = 0x04ff;

global_asm!(
    r#"
    .section .head, "ax"
    .global _start
_start:
    b       1f
    .word   0
    .quad   0                               // text_offset
    .quad   __image_size                    // image_size
    .quad   0xa                             // little-endian, 4 KiB pages, anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .word   0
1:
    mrs     x19, cntvct_el0
    mov     x20, x0
    msr     daifset, #0xf

    // Code is linked to a fixed address: refuse to run anywhere else.
    adr     x1, _start
    ldr     x2, 8f
    cmp     x1, x2
    b.ne    9f
    // The device tree must not lie where .bss and the stacks go.
    adrp    x3, __image_end
    cmp     x20, x2
    b.lo    2f
    cmp     x20, x3
    b.lo    9f
2:
    // The target's ABI uses SIMD registers: let it. Nothing saves them, as nothing interrupts.
    mov     x1, #(3 << 20)
    msr     cpacr_el1, x1
    adrp    x1, {vectors}
    add     x1, x1, :lo12:{vectors}
    msr     vbar_el1, x1
    isb
    adrp    x1, __stack_top
    mov     sp, x1

    // Zeroes for everything from the kept part to the end of .bss, and .data.
    adrp    x1, __kept_start
    add     x1, x1, :lo12:__kept_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
3:  cmp     x1, x2
    b.hs    4f
    stp     xzr, xzr, [x1], #16
    b       3b
4:  adrp    x1, __data_start
    add     x1, x1, :lo12:__data_start
    adrp    x2, __data_end
    add     x2, x2, :lo12:__data_end
    adrp    x3, __pristine_start
    add     x3, x3, :lo12:__pristine_start
30: cmp     x1, x2
    b.hs    31f
    ldp     x4, x5, [x3], #16
    stp     x4, x5, [x1], #16
    b       30b
31:
    bl      {build_image_map}
    mov     x21, x0

    // What was written so far went past the caches: drop lines that others left there.
    mrs     x1, ctr_el0
    ubfx    x1, x1, #16, #4
    mov     x2, #4
    lsl     x2, x2, x1
    adrp    x1, __rodata_end
    adrp    x3, __image_end
5:  dc      ivac, x1
    add     x1, x1, x2
    cmp     x1, x3
    b.lo    5b
    ic      iallu
    tlbi    vmalle1
    dsb     sy
    isb

    mov     x1, #{mair}
    msr     mair_el1, x1
    ldr     x1, 6f
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #0xf
    mov     x3, #5                          // at most 48 bits of physical address
    cmp     x2, x3
    csel    x2, x2, x3, lo
    orr     x1, x1, x2, lsl #32
    msr     tcr_el1, x1
    msr     ttbr0_el1, x21
    isb
    ldr     x1, 7f
    msr     sctlr_el1, x1
    isb

    mov     x29, xzr
    mov     x0, x20
    mov     x1, x19
    bl      {start}
    b       9f

    // A restart in place: as above, but with MMU and caches on and left alone. What is written
    // here is data, and all of it is written by the same cacheable way by which it is read, so
    // neither caches nor TLB need anything. x0, x1: what `start` gets.
    .global {restart}
{restart}:
    msr     daifset, #0xf
    adrp    x2, __stack_top
    mov     sp, x2
    adrp    x2, __bss_start
    add     x2, x2, :lo12:__bss_start
    adrp    x3, __bss_end
    add     x3, x3, :lo12:__bss_end
40: cmp     x2, x3
    b.hs    41f
    stp     xzr, xzr, [x2], #16
    b       40b
41: adrp    x2, __data_start
    add     x2, x2, :lo12:__data_start
    adrp    x3, __data_end
    add     x3, x3, :lo12:__data_end
    adrp    x4, __pristine_start
    add     x4, x4, :lo12:__pristine_start
42: cmp     x2, x3
    b.hs    43f
    ldp     x5, x6, [x4], #16
    stp     x5, x6, [x2], #16
    b       42b
43: mov     x29, xzr
    bl      {start}

    // Cannot run: end the domain as crashed.
9:  mov     x0, #{shutdown}
    adr     x1, 10f
    mov     x16, #{sched_op}
    hvc     #{tag}
    b       9b
    .balign 8
6:  .quad   {tcr}
7:  .quad   {sctlr}
8:  .quad   __image_start
10: .word   {crash}
    .word   0
    .previous
    "#,
    vectors = sym vectors::vector_table,
    build_image_map = sym mmu::build_image_map,
    start = sym start,
    restart = sym pilotfish_restart,
    mair = const MAIR,
    tcr = const TCR,
    sctlr = const SCTLR,
    shutdown = const SCHEDOP_SHUTDOWN,
    sched_op = const HYPERVISOR_SCHED_OP,
    tag = const HYPERCALL_TAG,
    crash = const SHUTDOWN_CRASH,
);

unsafe extern "C" {
    /// Zeroes .bss, puts .data back, empties the stack, and calls `start` with its arguments.
    fn pilotfish_restart(dtb: u64, entry_counter: u64) -> !;
}

/// Starts the image again in place. Only what lies in `.bss.kept` outlives it.
///
/// # Safety
/// Nothing that this incarnation made is used any more: not by this CPU (it does not come back), not
/// by anyone else, but for memory that the next incarnation leaves alone.
pub(crate) unsafe fn restart(dtb: u64, entry_counter: u64) -> ! {
    // SAFETY: the image's code and constants are read-only and so as they were; the assembly
    // above makes all other statics as they are at boot and drops both stacks; that the rest
    // is not used is the caller's promise.
    unsafe { pilotfish_restart(dtb, entry_counter) }
}

/// The first Rust code with caches on.
extern "C" fn start(dtb: u64, entry_counter: u64) -> ! {
    super::pilotfish_start(dtb, entry_counter)
}
