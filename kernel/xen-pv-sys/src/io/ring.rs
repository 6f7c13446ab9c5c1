//! `public/io/ring.h`: the header of a shared request and response ring.

/// u32 `req_prod`.
pub const REQ_PROD: usize = 0;
/// u32 `req_event`.
pub const REQ_EVENT: usize = 4;
/// u32 `rsp_prod`.
pub const RSP_PROD: usize = 8;
/// u32 `rsp_event`.
pub const RSP_EVENT: usize = 12;
/// Offset of the first entry.
pub const HEADER_SIZE: usize = 64;
