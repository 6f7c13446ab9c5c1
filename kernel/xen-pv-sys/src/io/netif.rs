//! `public/io/netif.h`: network frames.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `NETTXF_csum_blank` in [`TxRequest::flags`].
pub const NETTXF_CSUM_BLANK: u16 = 1;
/// `NETTXF_more_data`.
pub const NETTXF_MORE_DATA: u16 = 4;
/// `NETTXF_extra_info`.
pub const NETTXF_EXTRA_INFO: u16 = 8;
/// `NETRXF_csum_blank` in [`RxResponse::flags`].
pub const NETRXF_CSUM_BLANK: u16 = 2;
/// `NETRXF_more_data`.
pub const NETRXF_MORE_DATA: u16 = 4;
/// `NETRXF_extra_info`.
pub const NETRXF_EXTRA_INFO: u16 = 8;

/// `NETIF_RSP_DROPPED`.
pub const NETIF_RSP_DROPPED: i16 = -2;
/// `NETIF_RSP_ERROR`.
pub const NETIF_RSP_ERROR: i16 = -1;
/// `NETIF_RSP_OKAY`.
pub const NETIF_RSP_OKAY: i16 = 0;

/// Bytes of an entry of the transmit ring (the larger of request and response).
pub const TX_ENTRY_SIZE: usize = 12;
/// Bytes of an entry of the receive ring.
pub const RX_ENTRY_SIZE: usize = 8;

/// `struct netif_tx_request` (12 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TxRequest {
    /// The granted page with the frame.
    pub gref: u32,
    /// Where in the page it begins.
    pub offset: u16,
    /// `NETTXF_*`.
    pub flags: u16,
    /// Ours, echoed in the response.
    pub id: u16,
    /// The frame's length in bytes.
    pub size: u16,
}

/// `struct netif_tx_response` (4 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TxResponse {
    /// Copied from the request.
    pub id: u16,
    /// `NETIF_RSP_*`.
    pub status: i16,
}

/// `struct netif_rx_request` (8 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RxRequest {
    /// Ours, echoed in the response.
    pub id: u16,
    /// Padding.
    pub pad: u16,
    /// The granted page to put a frame into.
    pub gref: u32,
}

/// `struct netif_rx_response` (8 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RxResponse {
    /// Copied from the request.
    pub id: u16,
    /// Where in the page the frame begins.
    pub offset: u16,
    /// `NETRXF_*`.
    pub flags: u16,
    /// The frame's length in bytes, or `NETIF_RSP_*` below 0.
    pub status: i16,
}
