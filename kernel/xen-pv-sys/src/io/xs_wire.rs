//! `public/io/xs_wire.h`: the xenstore protocol and its ring page.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XENSTORE_RING_SIZE`: bytes in each direction; a power of two.
pub const RING_SIZE: usize = 1024;
/// Bytes to xenstored, at offset 0 of the page.
pub const REQ: usize = 0;
/// Bytes from xenstored.
pub const RSP: usize = 1024;
/// u32 `req_cons`.
pub const REQ_CONS: usize = 2048;
/// u32 `req_prod`.
pub const REQ_PROD: usize = 2052;
/// u32 `rsp_cons`.
pub const RSP_CONS: usize = 2056;
/// u32 `rsp_prod`.
pub const RSP_PROD: usize = 2060;
/// `XENSTORE_PAYLOAD_MAX`: bytes after the header.
pub const PAYLOAD_MAX: usize = 4096;
/// `XENSTORE_ABS_PATH_MAX`.
pub const ABS_PATH_MAX: usize = 3072;
/// `XENSTORE_REL_PATH_MAX`.
pub const REL_PATH_MAX: usize = 2048;

/// `XS_DIRECTORY`.
pub const XS_DIRECTORY: u32 = 1;
/// `XS_READ`.
pub const XS_READ: u32 = 2;
/// `XS_WATCH`.
pub const XS_WATCH: u32 = 4;
/// `XS_UNWATCH`.
pub const XS_UNWATCH: u32 = 5;
/// `XS_TRANSACTION_START`.
pub const XS_TRANSACTION_START: u32 = 6;
/// `XS_TRANSACTION_END`.
pub const XS_TRANSACTION_END: u32 = 7;
/// `XS_WRITE`.
pub const XS_WRITE: u32 = 11;
/// `XS_MKDIR`.
pub const XS_MKDIR: u32 = 12;
/// `XS_RM`.
pub const XS_RM: u32 = 13;
/// `XS_WATCH_EVENT`.
pub const XS_WATCH_EVENT: u32 = 15;
/// `XS_ERROR`.
pub const XS_ERROR: u32 = 16;

/// `struct xsd_sockmsg`: the header of every message.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct XsdSockmsg {
    /// `XS_*`.
    pub msg_type: u32,
    /// Chosen by the sender, echoed in the answer.
    pub req_id: u32,
    /// Transaction, or 0.
    pub tx_id: u32,
    /// Bytes that follow.
    pub len: u32,
}
