//! See `fuzz_targets::mmio_seq`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::mmio_seq(data);
});
