//! Register accesses that a hypervisor can emulate: one plain load or store each, without
//! write-back, so that the trap's syndrome says what was meant.

use core::arch::asm;

macro_rules! accesses {
    ($($read:ident $write:ident $type:ty: $load:literal $store:literal;)*) => {$(
        /// Reads a register of this width.
        ///
        /// # Safety
        /// `at` is aligned and mapped as registers.
        #[inline]
        pub(crate) unsafe fn $read(at: *const $type) -> $type {
            let value;
            // SAFETY: the caller's promise. Not `nomem`: what a device does to memory is seen after it.
            unsafe { asm!($load, out(reg) value, in(reg) at, options(nostack, preserves_flags)) };
            value
        }

        /// Writes a register of this width, after everything that was written to memory before.
        ///
        /// # Safety
        /// `at` is aligned and mapped as registers.
        #[inline]
        pub(crate) unsafe fn $write(at: *mut $type, value: $type) {
            // SAFETY: the caller's promise. The barrier is for the device, which may be on another CPU.
            unsafe {
                asm!("dsb ish", $store, in(reg) value, in(reg) at, options(nostack, preserves_flags));
            }
        }
    )*};
}

accesses! {
    read_register_8 write_register_8 u8: "ldrb {:w}, [{}]" "strb {:w}, [{}]";
    read_register_16 write_register_16 u16: "ldrh {:w}, [{}]" "strh {:w}, [{}]";
    read_register write_register u32: "ldr {:w}, [{}]" "str {:w}, [{}]";
    read_register_64 write_register_64 u64: "ldr {:x}, [{}]" "str {:x}, [{}]";
}
