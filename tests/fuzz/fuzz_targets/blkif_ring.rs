//! See `fuzz_targets::blkif_ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::blkif_ring(data);
});
