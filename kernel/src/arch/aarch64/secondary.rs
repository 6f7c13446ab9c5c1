//! Another vCPU of a test guest: its first instructions, and how it is switched on and asked after (PSCI).

use super::smccc::smccc;
use super::vectors;
use core::arch::{asm, global_asm};

/// `PSCI_CPU_ON` and `PSCI_AFFINITY_INFO`, by 64-bit calls.
const CPU_ON: u64 = 0xc400_0003;
const AFFINITY_INFO: u64 = 0xc400_0004;
/// What the latter answers of a vCPU that is off.
const OFF: u64 = 1;

/// What a vCPU needs before Rust runs on it. The assembly reads it in this order, with the MMU off.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Start {
    mair: u64,
    tcr: u64,
    ttbr0: u64,
    sctlr: u64,
    stack_top: usize,
    argument: usize,
    entry: extern "C" fn(usize),
}

global_asm!(
    r#"
    .section .text.pilotfish_secondary, "ax"
    .global pilotfish_secondary
pilotfish_secondary:
    msr     daifset, #0xf
    mov     x1, #(3 << 20)
    msr     cpacr_el1, x1
    adrp    x1, {vectors}
    add     x1, x1, :lo12:{vectors}
    msr     vbar_el1, x1
    ldp     x1, x2, [x0]
    ldp     x3, x4, [x0, #16]
    ldp     x5, x6, [x0, #32]
    ldr     x7, [x0, #48]
    msr     mair_el1, x1
    msr     tcr_el1, x2
    msr     ttbr0_el1, x3
    ic      iallu
    tlbi    vmalle1
    dsb     sy
    isb
    msr     sctlr_el1, x4
    isb
    mov     sp, x5
    mov     x29, xzr
    mov     x0, x6
    blr     x7
    // PSCI_CPU_OFF.
    mov     w0, #2
    movk    w0, #0x8400, lsl #16
    hvc     #0
1:  b       1b
    .previous
    "#,
    vectors = sym vectors::vector_table,
);

unsafe extern "C" {
    fn pilotfish_secondary();
}

impl Start {
    /// For a vCPU with the translation of this one, which runs `entry` with `argument` on that stack and then
    /// switches itself off.
    pub(crate) fn new(stack_top: usize, entry: extern "C" fn(usize), argument: usize) -> Start {
        let (mair, tcr, ttbr0, sctlr);
        // SAFETY: reads of registers that this kernel set.
        unsafe {
            asm!(
                "mrs {}, mair_el1", "mrs {}, tcr_el1", "mrs {}, ttbr0_el1", "mrs {}, sctlr_el1",
                out(reg) mair, out(reg) tcr, out(reg) ttbr0, out(reg) sctlr, options(nomem, nostack),
            );
        }
        Start { mair, tcr, ttbr0, sctlr, stack_top, argument, entry }
    }

    /// Switches that vCPU on; whether it was off and there is one.
    ///
    /// # Safety
    /// `self`, the stack and what `entry` does with `argument` are good until the vCPU is off again.
    pub(crate) unsafe fn switch_on(&self, cpu: u64) -> bool {
        // SAFETY: cleans the line in which all of `self` is: the vCPU reads it past the caches.
        unsafe { asm!("dc cvac, {}", "dsb sy", in(reg) core::ptr::from_ref(self), options(nostack)) };
        let at = core::ptr::from_ref(self).expose_provenance() as u64;
        // SAFETY: the vCPU starts at code of ours, which keeps to what the caller promises.
        unsafe { smccc(CPU_ON, [cpu, pilotfish_secondary as *const () as u64, at]) == 0 }
    }
}

/// Whether that vCPU is off.
pub(crate) fn is_off(cpu: u64) -> bool {
    // SAFETY: it changes nothing.
    unsafe { smccc(AFFINITY_INFO, [cpu, 0, 0]) == OFF }
}
