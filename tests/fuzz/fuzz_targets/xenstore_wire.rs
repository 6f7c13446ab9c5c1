//! See `fuzz_targets::xenstore_wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::xenstore_wire(data);
});
