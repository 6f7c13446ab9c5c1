//! See `fuzz_targets::netif_rings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::netif_rings(data);
});
