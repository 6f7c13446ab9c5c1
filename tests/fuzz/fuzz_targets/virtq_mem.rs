//! See `fuzz_targets::virtq_mem`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::virtq_mem(data);
});
