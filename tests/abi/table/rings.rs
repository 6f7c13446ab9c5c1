//! The rings of PV devices.

use super::{Check, bytes};
use core::mem::{offset_of, size_of};
use xen_pv_sys::io::{blkif, netif, ring};

pub(super) fn block(checks: &mut Vec<Check>) {
    consts! { checks:
        blkif::BLKIF_OP_READ = "BLKIF_OP_READ";
        blkif::BLKIF_OP_WRITE = "BLKIF_OP_WRITE";
        blkif::BLKIF_OP_WRITE_BARRIER = "BLKIF_OP_WRITE_BARRIER";
        blkif::BLKIF_OP_FLUSH_DISKCACHE = "BLKIF_OP_FLUSH_DISKCACHE";
        blkif::BLKIF_OP_DISCARD = "BLKIF_OP_DISCARD";
        blkif::BLKIF_OP_INDIRECT = "BLKIF_OP_INDIRECT";
        blkif::BLKIF_DISCARD_SECURE = "BLKIF_DISCARD_SECURE";
        blkif::BLKIF_RSP_OKAY = "BLKIF_RSP_OKAY";
        blkif::BLKIF_RSP_ERROR = "BLKIF_RSP_ERROR";
        blkif::BLKIF_RSP_EOPNOTSUPP = "BLKIF_RSP_EOPNOTSUPP";
    }
    sizes! { checks:
        blkif::MAX_SEGMENTS_PER_REQUEST = "BLKIF_MAX_SEGMENTS_PER_REQUEST";
        blkif::MAX_INDIRECT_PAGES_PER_REQUEST = "BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST";
        blkif::SEGMENTS_PER_INDIRECT_PAGE = "((1u << XEN_PAGE_SHIFT) / sizeof(struct blkif_request_segment))";
        blkif::RING_ENTRY_SIZE = "sizeof(union blkif_sring_entry)";
        ring::REQ_PROD = "__builtin_offsetof(struct blkif_sring, req_prod)";
        ring::REQ_EVENT = "__builtin_offsetof(struct blkif_sring, req_event)";
        ring::RSP_PROD = "__builtin_offsetof(struct blkif_sring, rsp_prod)";
        ring::RSP_EVENT = "__builtin_offsetof(struct blkif_sring, rsp_event)";
        ring::HEADER_SIZE = "__builtin_offsetof(struct blkif_sring, ring)";
    }
    layouts! { checks:
        blkif::Segment as "struct blkif_request_segment" {
            gref = "gref", first_sect = "first_sect", last_sect = "last_sect",
        }
        blkif::Request as "struct blkif_request" {
            operation = "operation", nr_segments = "nr_segments", handle = "handle", id = "id",
            sector_number = "sector_number", seg = "seg",
        }
        blkif::RequestDiscard as "struct blkif_request_discard" {
            operation = "operation", flag = "flag", handle = "handle", id = "id",
            sector_number = "sector_number", nr_sectors = "nr_sectors",
        }
        blkif::RequestIndirect as "struct blkif_request_indirect" {
            operation = "operation", indirect_op = "indirect_op", nr_segments = "nr_segments", id = "id",
            sector_number = "sector_number", handle = "handle", indirect_grefs = "indirect_grefs",
        }
        blkif::Response as "struct blkif_response" { id = "id", operation = "operation", status = "status" }
    }
}

pub(super) fn network(checks: &mut Vec<Check>) {
    consts! { checks:
        netif::NETTXF_CSUM_BLANK = "NETTXF_csum_blank";
        netif::NETTXF_DATA_VALIDATED = "NETTXF_data_validated";
        netif::NETTXF_MORE_DATA = "NETTXF_more_data";
        netif::NETTXF_EXTRA_INFO = "NETTXF_extra_info";
        netif::NETRXF_DATA_VALIDATED = "NETRXF_data_validated";
        netif::NETRXF_CSUM_BLANK = "NETRXF_csum_blank";
        netif::NETRXF_MORE_DATA = "NETRXF_more_data";
        netif::NETRXF_EXTRA_INFO = "NETRXF_extra_info";
        netif::NETIF_RSP_DROPPED = "NETIF_RSP_DROPPED";
        netif::NETIF_RSP_ERROR = "NETIF_RSP_ERROR";
        netif::NETIF_RSP_OKAY = "NETIF_RSP_OKAY";
        netif::NETIF_RSP_NULL = "NETIF_RSP_NULL";
        netif::EXTRA_TYPE_GSO = "XEN_NETIF_EXTRA_TYPE_GSO";
        netif::EXTRA_FLAG_MORE = "XEN_NETIF_EXTRA_FLAG_MORE";
        netif::GSO_TYPE_TCPV4 = "XEN_NETIF_GSO_TYPE_TCPV4";
        netif::GSO_TYPE_TCPV6 = "XEN_NETIF_GSO_TYPE_TCPV6";
    }
    sizes! { checks:
        netif::TX_ENTRY_SIZE = "sizeof(union netif_tx_sring_entry)";
        netif::RX_ENTRY_SIZE = "sizeof(union netif_rx_sring_entry)";
        netif::NR_SLOTS_MIN = "XEN_NETIF_NR_SLOTS_MIN";
        netif::MAX_TX_SIZE = "XEN_NETIF_MAX_TX_SIZE";
    }
    layouts! { checks:
        netif::TxRequest as "struct netif_tx_request" {
            gref = "gref", offset = "offset", flags = "flags", id = "id", size = "size",
        }
        netif::TxResponse as "struct netif_tx_response" { id = "id", status = "status" }
        netif::RxRequest as "struct netif_rx_request" { id = "id", pad = "pad", gref = "gref" }
        netif::RxResponse as "struct netif_rx_response" {
            id = "id", offset = "offset", flags = "flags", status = "status",
        }
        netif::ExtraInfo as "struct netif_extra_info" {
            kind = "type", flags = "flags", gso_size = "u.gso.size", gso_kind = "u.gso.type", pad = "u.gso.pad",
            gso_features = "u.gso.features",
        }
    }
}
