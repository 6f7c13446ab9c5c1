//! `public/io/console.h`: `struct xencons_interface`.

/// Bytes from the console to us, at offset 0.
pub const IN: usize = 0;
/// Bytes in the input ring.
pub const IN_SIZE: usize = 1024;
/// Bytes from us to the console.
pub const OUT: usize = 1024;
/// Bytes in the output ring.
pub const OUT_SIZE: usize = 2048;
/// u32 `in_cons`.
pub const IN_CONS: usize = 3072;
/// u32 `in_prod`.
pub const IN_PROD: usize = 3076;
/// u32 `out_cons`.
pub const OUT_CONS: usize = 3080;
/// u32 `out_prod`.
pub const OUT_PROD: usize = 3084;
