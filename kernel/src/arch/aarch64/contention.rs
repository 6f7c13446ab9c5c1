//! Loops that contend for one word with whoever else uses it, for the hostile test images.

use core::arch::asm;

/// Adds `add` to the word `times` times, by load-exclusive and store-exclusive.
///
/// # Safety
/// `at` is aligned and valid for reading and writing, also by others at the same time.
pub(crate) unsafe fn exclusives(at: *mut u32, add: u32, times: u64) {
    // SAFETY: the caller's promise; only `at` is touched.
    unsafe {
        asm!(
            "2:",
            "ldxr {value:w}, [{at}]",
            "add {value:w}, {value:w}, {add:w}",
            "stxr {status:w}, {value:w}, [{at}]",
            "subs {times}, {times}, #1",
            "b.ne 2b",
            at = in(reg) at,
            add = in(reg) add,
            times = inout(reg) times.max(1) => _,
            value = out(reg) _,
            status = out(reg) _,
            options(nostack),
        );
    }
}

/// Adds `add` to the word `times` times, by LSE atomics (and swaps it with itself, and adds
/// nothing to it, for more traffic).
///
/// # Safety
/// As [`exclusives`]; the CPU has LSE.
pub(crate) unsafe fn lse(at: *mut u32, add: u32, times: u64) {
    // SAFETY: the caller's promise; only `at` is touched.
    unsafe {
        asm!(
            ".arch_extension lse",
            "2:",
            "ldadd {add:w}, {value:w}, [{at}]",
            "add {value:w}, {value:w}, {add:w}",
            "swp {value:w}, {value:w}, [{at}]",
            "stadd wzr, [{at}]",
            "subs {times}, {times}, #1",
            "b.ne 2b",
            ".arch_extension nolse",
            at = in(reg) at,
            add = in(reg) add,
            times = inout(reg) times.max(1) => _,
            value = out(reg) _,
            options(nostack),
        );
    }
}

/// Stores `value` to the word `times` times, by plain stores.
///
/// # Safety
/// As [`exclusives`].
pub(crate) unsafe fn stores(at: *mut u32, value: u32, times: u64) {
    for _ in 0..times {
        // SAFETY: the caller's promise.
        unsafe { at.write_volatile(value) };
    }
}

/// Whether the CPU has LSE atomics (`ID_AA64ISAR0_EL1.Atomic`).
pub(crate) fn has_lse() -> bool {
    let features: u64;
    // SAFETY: reads an identification register.
    unsafe {
        asm!("mrs {}, id_aa64isar0_el1", out(reg) features, options(nomem, nostack, preserves_flags));
    }
    (features >> 20) & 0xf >= 2
}
