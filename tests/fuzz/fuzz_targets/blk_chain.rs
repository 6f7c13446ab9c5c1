//! See `fuzz_targets::blk_chain`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::blk_chain(data);
});
