//! `public/io/netif.h`: network frames.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `NETTXF_csum_blank` in [`TxRequest::flags`].
pub const NETTXF_CSUM_BLANK: u16 = 1;
/// `NETTXF_data_validated`.
pub const NETTXF_DATA_VALIDATED: u16 = 2;
/// `NETTXF_more_data`.
pub const NETTXF_MORE_DATA: u16 = 4;
/// `NETTXF_extra_info`.
pub const NETTXF_EXTRA_INFO: u16 = 8;
/// `NETRXF_data_validated` in [`RxResponse::flags`].
pub const NETRXF_DATA_VALIDATED: u16 = 1;
/// `NETRXF_csum_blank`.
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
/// `NETIF_RSP_NULL`: the answer to an [`ExtraInfo`] that was sent. Its id means nothing.
pub const NETIF_RSP_NULL: i16 = 1;

/// `XEN_NETIF_NR_SLOTS_MIN`: entries that every other end takes for one frame.
pub const NR_SLOTS_MIN: usize = 18;
/// `XEN_NETIF_MAX_TX_SIZE`: bytes of the longest frame that can be sent.
pub const MAX_TX_SIZE: usize = 0xffff;

/// `XEN_NETIF_EXTRA_TYPE_GSO` in [`ExtraInfo::kind`].
pub const EXTRA_TYPE_GSO: u8 = 1;
/// `XEN_NETIF_EXTRA_FLAG_MORE` in [`ExtraInfo::flags`].
pub const EXTRA_FLAG_MORE: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_TCPV4` in [`ExtraInfo::gso_kind`].
pub const GSO_TYPE_TCPV4: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_TCPV6`.
pub const GSO_TYPE_TCPV6: u8 = 2;

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

/// `struct netif_extra_info` (8 bytes) of type GSO, in the place of a request or response.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExtraInfo {
    /// `XEN_NETIF_EXTRA_TYPE_*`.
    pub kind: u8,
    /// `XEN_NETIF_EXTRA_FLAG_*`.
    pub flags: u8,
    /// Bytes of payload of each segment.
    pub gso_size: u16,
    /// `XEN_NETIF_GSO_TYPE_*`.
    pub gso_kind: u8,
    /// Padding.
    pub pad: u8,
    /// `XEN_NETIF_GSO_FEAT_*`: there is none yet.
    pub gso_features: u16,
}
