//! Exceptions. None is expected: each one is a bug, told on the console, and ends the domain.
//!
//! The handler runs on its own stack, so that it also works when the stack has overflowed
//! into its guard page. It never returns, so nothing has to be restored.

use core::arch::global_asm;
use core::fmt;

unsafe extern "C" {
    /// The vector table, 2 KiB-aligned (`VBAR_EL1`).
    pub(super) fn vector_table();
}

/// Bytes of [`Frame`], a multiple of 16.
const FRAME_SIZE: usize = size_of::<Frame>();

global_asm!(
    r#"
    .section .text.vectors, "ax"
    .balign 0x800
    .global {table}
{table}:
    .set    kind, 0
    .rept   16
    .balign 0x80
    msr     tpidr_el1, x0
    mov     x0, sp
    msr     tpidr_el0, x0
    adrp    x0, __emergency_stack_top
    sub     sp, x0, #{frame_size}
    mov     x0, #kind
    b       1f
    .set    kind, kind + 1
    .endr
    .balign 0x80
1:
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mov     x1, x0
    mrs     x2, tpidr_el1
    str     x2, [sp]
    mrs     x3, tpidr_el0
    stp     x30, x3, [sp, #240]
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x2, x3, [sp, #256]
    mrs     x2, esr_el1
    mrs     x3, far_el1
    stp     x2, x3, [sp, #272]
    mov     x0, sp
    mov     x29, xzr
    bl      {handler}
    b       .
    .previous
    "#,
    table = sym vector_table,
    frame_size = const FRAME_SIZE,
    handler = sym exception_entry,
);

/// The interrupted state, as the assembly above stores it.
#[repr(C)]
struct Frame {
    x: [u64; 31],
    sp: u64,
    elr: u64,
    spsr: u64,
    esr: u64,
    far: u64,
}

const _: () = assert!(FRAME_SIZE == 288);

/// From assembly: `frame` is the frame just stored on the emergency stack.
unsafe extern "C" fn exception_entry(frame: *const Frame, kind: u64) -> ! {
    // SAFETY: the assembly above passes the address of the frame that it has just filled;
    // nothing else uses that stack.
    exception(unsafe { &*frame }, kind)
}

fn exception(frame: &Frame, kind: u64) -> ! {
    super::pilotfish_die(format_args!("{}", Report { frame, kind }))
}

struct Report<'a> {
    frame: &'a Frame,
    kind: u64,
}

/// `ESR_EL1.EC`, the classes that can happen here (Arm ARM D17.2.37).
fn class(esr: u64) -> &'static str {
    match (esr >> 26) & 0x3f {
        0x00 => "undefined instruction",
        0x07 => "trapped FP or SIMD",
        0x0e => "illegal execution state",
        0x18 => "trapped system register",
        0x20 | 0x21 => "instruction abort",
        0x22 => "misaligned PC",
        0x24 | 0x25 => "data abort",
        0x26 => "misaligned SP",
        0x2f => "SError",
        0x3c => "breakpoint instruction",
        _ => "other",
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { x, sp, elr, spsr, esr, far } = self.frame;
        let kind = ["synchronous", "IRQ", "FIQ", "SError"][(self.kind & 3) as usize];
        let layout = super::image::layout();
        writeln!(f, "{kind} exception ({}), vector {}", class(*esr), self.kind)?;
        if (layout.guard_low..layout.guard_low + 4096).contains(far) {
            writeln!(f, "stack overflow: the guard page was touched")?;
        }
        writeln!(f, "ESR {esr:#018x}  FAR {far:#018x}  PC {elr:#018x}")?;
        writeln!(f, "SP  {sp:#018x}  PSTATE {spsr:#x}")?;
        for (row, registers) in x.chunks(4).enumerate() {
            for (column, value) in registers.iter().enumerate() {
                write!(f, "x{:<2} {value:016x}  ", row * 4 + column)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
