//! See `fuzz_targets::virtq_differential`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::virtq_differential(data);
});
