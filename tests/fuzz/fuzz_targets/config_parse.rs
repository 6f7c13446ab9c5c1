//! See `fuzz_targets::config_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::config_parse(data);
});
