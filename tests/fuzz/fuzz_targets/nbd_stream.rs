//! See `fuzz_targets::nbd_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::nbd_stream(data);
});
