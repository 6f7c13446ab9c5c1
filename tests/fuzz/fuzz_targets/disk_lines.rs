//! See `fuzz_targets::disk_lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::disk_lines(data);
});
