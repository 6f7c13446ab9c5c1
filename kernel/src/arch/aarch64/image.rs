//! Where the linker script put things.

/// Addresses of the image's parts, all page-aligned. See `pilotfish.ld`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// First byte of the image: code.
    pub(crate) start: u64,
    /// End of code, start of constants.
    pub(crate) text_end: u64,
    /// End of constants and of the copy of .data, start of writable data.
    pub(crate) rodata_end: u64,
    /// The page below the stack.
    pub(crate) guard_low: u64,
    /// The page below the emergency stack.
    pub(crate) guard_high: u64,
    /// End of all that the image uses.
    pub(crate) end: u64,
}

/// The layout of this image.
pub(crate) fn layout() -> Layout {
    unsafe extern "C" {
        static __image_start: u8;
        static __text_end: u8;
        static __rodata_end: u8;
        static __guard_low: u8;
        static __guard_high: u8;
        static __image_end: u8;
    }
    Layout {
        start: (&raw const __image_start).addr() as u64,
        text_end: (&raw const __text_end).addr() as u64,
        rodata_end: (&raw const __rodata_end).addr() as u64,
        guard_low: (&raw const __guard_low).addr() as u64,
        guard_high: (&raw const __guard_high).addr() as u64,
        end: (&raw const __image_end).addr() as u64,
    }
}
