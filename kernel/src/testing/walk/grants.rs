//! `grant_table_op`: one operation each, with a page that this domain has granted to itself.

use super::{Answer, DomId, Op, Walker};
use xen_pv_sys::PAGE_SHIFT;
use xen_pv_sys::xen::{DOMID_FIRST_RESERVED, DOMID_SELF, HYPERVISOR_GRANT_TABLE_OP};

/// `GNTTABOP_query_size`.
const QUERY_SIZE: u32 = 6;
/// `GNTMAP_host_map`.
const HOST_MAP: u32 = 1 << 1;
/// `GNTCOPY_source_gref`.
const SOURCE_GREF: u16 = 1;
/// `GNTTAB_CACHE_CLEAN`.
const CACHE_CLEAN: u32 = 1;

/// `GNTTABOP_*` of `public/grant_table.h`.
pub(super) const GRANTS: &[Op] = &[
    Op::each("query_size", QUERY_SIZE, query_size),
    Op::each("get_version", 10, get_version),
    Op::each("setup_table", 2, setup_table),
    Op::each("get_status_frames", 9, get_status_frames),
    Op::each("map_grant_ref", 0, map_grant_ref),
    Op::alone("unmap_grant_ref", 1, unmap_grant_ref),
    Op::each("copy", 5, copy),
    Op::each("dump_table", 3, dump_table),
    Op::each("transfer", 4, transfer),
    Op::alone("unmap_and_replace", 7, unmap_and_replace),
    Op::alone("set_version", 8, set_version),
    Op::alone("swap_grant_ref", 11, swap_grant_ref),
    Op::alone("cache_flush", 12, cache_flush),
    Op::alone("13", 13, unknown),
];

/// The name of a `GNTST_*`, without that prefix.
pub(super) fn status_name(status: i16) -> &'static str {
    match status {
        -1 => "general_error",
        -2 => "bad_domain",
        -3 => "bad_gntref",
        -4 => "bad_handle",
        -5 => "bad_virt_addr",
        -6 => "bad_dev_addr",
        -7 => "no_device_space",
        -8 => "permission_denied",
        -9 => "bad_page",
        -10 => "bad_copy_arg",
        -11 => "address_too_big",
        -12 => "eagain",
        -13 => "no_space",
        _ => "unknown_status",
    }
}

impl Walker {
    /// This domain's number, if its label has a grant table of its own and that of nobody else.
    pub(super) fn own_domid_by_grants(&mut self) -> Option<DomId> {
        let mut domains = (1..DOMID_FIRST_RESERVED).map(DomId);
        domains.find(|&domain| query_size(self, QUERY_SIZE, domain) == Answer::Done)
    }

    /// One operation. Its status, if it has one, is a word of 16 bits at `status`.
    fn grant_op(&mut self, op: u32, status: Option<usize>) -> Answer {
        let argument = self.frame.argument();
        let result = self.call(HYPERVISOR_GRANT_TABLE_OP, [u64::from(op), argument, 1, 0, 0]);
        let status = status.map_or(0, |at| i16::from_le_bytes(self.frame.get(at)));
        if result.is_ok() && status != 0 { Answer::Grant(status) } else { result.into() }
    }
}

fn query_size(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    walker.blank().put16(0, object.0);
    walker.grant_op(op, Some(12))
}

fn get_version(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    walker.blank().put16(0, object.0);
    walker.grant_op(op, None)
}

fn setup_table(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let frame = walker.blank();
    let list = frame.list();
    frame.put16(0, object.0).put32(4, 1).put64(16, list);
    walker.grant_op(op, Some(8))
}

fn get_status_frames(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let frame = walker.blank();
    let list = frame.list();
    frame.put32(0, 1).put16(4, object.0).put64(8, list);
    walker.grant_op(op, Some(6))
}

fn map_grant_ref(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let (address, gref) = (walker.unused() << PAGE_SHIFT, walker.gref.0);
    walker.blank().put64(0, address).put32(8, HOST_MAP).put32(12, gref).put16(16, object.0);
    let answer = walker.grant_op(op, Some(18));
    if answer == Answer::Done {
        walker.handle = walker.frame.get32(20);
    }
    answer
}

/// Ends the mapping of this domain's own page, at an address that is not the one of it.
fn unmap_grant_ref(walker: &mut Walker, op: u32) -> Answer {
    let handle = walker.handle;
    walker.blank().put32(16, handle);
    walker.grant_op(op, Some(20))
}

fn unmap_and_replace(walker: &mut Walker, op: u32) -> Answer {
    walker.blank().put32(16, u32::MAX);
    walker.grant_op(op, Some(20))
}

/// Copies from a page that the object may have granted.
fn copy(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let (gref, to) = (walker.gref.0, walker.spare());
    let frame = walker.blank().put32(0, gref).put16(8, object.0);
    frame.put64(16, to).put16(24, DOMID_SELF).put16(32, 16).put16(34, SOURCE_GREF);
    walker.grant_op(op, Some(36))
}

fn dump_table(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    walker.blank().put16(0, object.0);
    walker.grant_op(op, Some(2))
}

/// Gives a page of this domain to the object.
fn transfer(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let (gref, gfn) = (walker.gref.0, walker.spare());
    walker.blank().put64(0, gfn).put16(8, object.0).put32(12, gref);
    walker.grant_op(op, Some(16))
}

/// To the version that it has.
fn set_version(walker: &mut Walker, op: u32) -> Answer {
    walker.blank().put32(0, 1);
    walker.grant_op(op, None)
}

/// Of two that grant nothing, in the first frame of the table.
fn swap_grant_ref(walker: &mut Walker, op: u32) -> Answer {
    walker.blank().put32(0, 500).put32(4, 501);
    walker.grant_op(op, Some(8))
}

fn cache_flush(walker: &mut Walker, op: u32) -> Answer {
    let address = walker.spare() << PAGE_SHIFT;
    walker.blank().put64(0, address).put16(10, 16).put32(12, CACHE_CLEAN);
    walker.grant_op(op, None)
}

fn unknown(walker: &mut Walker, op: u32) -> Answer {
    walker.blank();
    walker.grant_op(op, None)
}
