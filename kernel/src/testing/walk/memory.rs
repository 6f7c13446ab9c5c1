//! `memory_op`: reservations, physical maps, resources.

use super::{Answer, DomId, Frame, Op, Walker};
use xen_pv_sys::errno::Errno;
use xen_pv_sys::xen::{DOMID_SELF, HYPERVISOR_MEMORY_OP};

/// `XENMEM_*` of `public/memory.h`.
const DECREASE_RESERVATION: u32 = 1;
const SET_MEMORY_MAP: u32 = 13;
const SET_POD_TARGET: u32 = 16;
const GET_POD_TARGET: u32 = 17;
const CLAIM_PAGES: u32 = 24;
/// `XENMEM_resource_grant_table`; the ioreq server's is 0, vmtrace's 2.
const RESOURCE_GRANT_TABLE: u32 = 1;
/// Where the errors of a batch are, behind its argument.
const ERRORS: usize = 64;

/// `XENMEM_*`.
pub(super) const MEMORY: &[Op] = &[
    // Before those that give memory, so that there is room for it.
    Op::each("decrease_reservation", DECREASE_RESERVATION, reservation),
    Op::each("populate_physmap", 6, reservation),
    Op::each("increase_reservation", 0, reservation),
    Op::alone("maximum_ram_page", 2, alone),
    Op::each("current_reservation", 3, domain),
    Op::each("maximum_reservation", 4, domain),
    Op::alone("machphys_mfn_list", 5, alone),
    Op::each("add_to_physmap/shared_info", 0, add_to_physmap),
    Op::each("add_to_physmap/grant_table", 1, add_to_physmap),
    Op::each("add_to_physmap/gmfn", 2, add_to_physmap),
    Op::each("add_to_physmap/gmfn_range", 3, add_to_physmap),
    Op::each("add_to_physmap/gmfn_foreign", 4, add_to_physmap),
    Op::each("add_to_physmap/dev_mmio", 5, add_to_physmap),
    Op::each("add_to_physmap_batch/shared_info", 0, add_to_physmap_batch),
    Op::each("add_to_physmap_batch/grant_table", 1, add_to_physmap_batch),
    Op::each("add_to_physmap_batch/dev_mmio", 5, add_to_physmap_batch),
    Op::each("add_to_physmap_batch/gmfn_foreign_of", 4, foreign_of),
    Op::each("add_to_physmap_batch/gmfn_foreign_into", 4, foreign_into),
    Op::alone("8", 8, alone),
    Op::alone("memory_map", 9, alone),
    Op::alone("machine_memory_map", 10, alone),
    Op::each("exchange", 11, exchange),
    Op::alone("machphys_mapping", 12, alone),
    Op::each("set_memory_map", SET_MEMORY_MAP, domain),
    Op::each("maximum_gpfn", 14, domain),
    Op::each("remove_from_physmap", 15, remove_from_physmap),
    Op::each("set_pod_target", SET_POD_TARGET, domain),
    Op::each("get_pod_target", GET_POD_TARGET, domain),
    Op::alone("get_sharing_freed_pages", 18, alone),
    Op::alone("get_sharing_shared_pages", 19, alone),
    Op::each("paging_op", 20, domain),
    Op::each("access_op", 21, domain),
    Op::each("sharing_op", 22, domain),
    Op::each("claim_pages", CLAIM_PAGES, domain),
    Op::alone("machphys_compat_mfn_list", 25, alone),
    Op::each("get_vnumainfo", 26, domain),
    Op::alone("reserved_device_memory_map", 27, alone),
    Op::each("acquire_resource/ioreq_server", 0, acquire_resource),
    Op::each("acquire_resource/grant_table", 1, acquire_resource),
    Op::each("acquire_resource/vmtrace_buf", 2, acquire_resource),
    Op::each("acquire_resource/3", 3, acquire_resource),
    Op::alone("29", 29, alone),
    Op::alone("30", 30, alone),
    Op::alone("63", 63, alone),
];

impl Walker {
    fn memory_op(&mut self, op: u32) -> Result<u64, Errno> {
        let argument = self.frame.argument();
        self.call(HYPERVISOR_MEMORY_OP, [u64::from(op), argument, 0, 0, 0])
    }
}

fn alone(walker: &mut Walker, op: u32) -> Answer {
    walker.blank();
    walker.memory_op(op).into()
}

/// Writes `struct xen_memory_reservation` of one page at `offset`. Its list is in word `word` of the lists.
fn put_reservation(frame: &mut Frame, offset: usize, word: usize, gfn: u64, object: DomId) {
    let list = frame.list() + 8 * word as u64;
    frame.put64(offset, list).put64(offset + 8, 1).put16(offset + 24, object.0).put_list(8 * word, gfn);
}

fn reservation(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let gfn = if op == DECREASE_RESERVATION { walker.ram(object) } else { walker.unused() };
    put_reservation(walker.blank(), 0, 0, gfn, object);
    match walker.memory_op(op) {
        // How many pages it was done with.
        Ok(0) => Answer::Nothing,
        answer => answer.into(),
    }
}

fn exchange(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let gfn = walker.ram(object);
    let frame = walker.blank();
    put_reservation(frame, 0, 0, gfn, object);
    put_reservation(frame, 32, 1, gfn, object);
    walker.memory_op(op).into()
}

/// Operations whose argument names a domain, and of which the rest may be zero.
fn domain(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let at = match op {
        SET_POD_TARGET | GET_POD_TARGET => 32,
        CLAIM_PAGES => 24,
        // Paging, access and sharing: after the operation and a byte.
        20..=22 => 2,
        _ => 0,
    };
    walker.blank().put16(at, object.0);
    walker.memory_op(op).into()
}

fn add_to_physmap(walker: &mut Walker, space: u32, object: DomId) -> Answer {
    let gfn = walker.unused();
    let frame = walker.blank();
    frame.put16(0, object.0).put16(2, 1).put32(4, space).put64(8, source(space)).put64(16, gfn);
    walker.memory_op(7).into()
}

/// The index into the source space: of device memory, the machine's UART; of grant tables, the second frame,
/// since the first has its place; of the others, the first.
fn source(space: u32) -> u64 {
    match space {
        5 => 0x9000,
        1 => 1,
        _ => 0,
    }
}

fn add_to_physmap_batch(walker: &mut Walker, space: u32, object: DomId) -> Answer {
    batch(walker, space, object, DomId(0), source(space))
}

/// Maps a frame of the object into this domain.
fn foreign_of(walker: &mut Walker, space: u32, object: DomId) -> Answer {
    let gfn = walker.foreign_frame();
    batch(walker, space, DomId(DOMID_SELF), object, gfn)
}

/// Maps a frame of dom0 into the object.
fn foreign_into(walker: &mut Walker, space: u32, object: DomId) -> Answer {
    let gfn = walker.foreign_frame();
    batch(walker, space, object, DomId(0), gfn)
}

fn batch(walker: &mut Walker, space: u32, into: DomId, of: DomId, index: u64) -> Answer {
    let gfn = walker.unused();
    let frame = walker.blank();
    let list = frame.list();
    let errors = frame.argument() + ERRORS as u64;
    // The space has 16 bits, and what comes after it is written over it.
    frame.put16(0, into.0).put32(2, space).put16(4, 1).put16(6, of.0);
    frame.put64(8, list).put64(16, list + 8).put64(24, errors);
    frame.put_list(0, index).put_list(8, gfn);
    match walker.memory_op(23) {
        // The call may have gone well, and its only entry not.
        Ok(_) => Errno::check(i64::from(walker.frame.get32(ERRORS).cast_signed())).into(),
        refused => refused.into(),
    }
}

fn remove_from_physmap(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let gfn = walker.ram(object);
    walker.blank().put16(0, object.0).put64(8, gfn);
    walker.memory_op(op).into()
}

fn acquire_resource(walker: &mut Walker, resource: u32, object: DomId) -> Answer {
    let gfn = walker.unused();
    // An ioreq server's first frame is that of buffered requests, which Arm has not.
    let (id, first) = match resource {
        0 => (u32::from(walker.server), 1),
        RESOURCE_GRANT_TABLE.. => (0, 0),
    };
    let frame = walker.blank();
    let list = frame.list();
    // As above, the type has 16 bits.
    frame.put16(0, object.0).put32(2, resource).put32(4, id).put32(8, 1).put64(16, first).put64(24, list);
    frame.put_list(0, gfn);
    walker.memory_op(28).into()
}
