//! See `fuzz_targets::daemon_nodes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::daemon_nodes(data);
});
