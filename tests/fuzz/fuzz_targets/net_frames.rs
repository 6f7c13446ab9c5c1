//! See `fuzz_targets::net_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::net_frames(data);
});
