//! What belongs to a device model: `dm_op`, and `hvm_op` with the parameters of a domain.

use super::{Answer, DomId, Form, Op, Walker, ops};
use xen_pv_sys::errno::Errno;
use xen_pv_sys::xen::{HYPERVISOR_DM_OP, HYPERVISOR_HVM_OP};

/// Bytes of the buffer of each operation: the largest one of the interface has fewer.
const DM_OP_BYTES: u64 = 64;
/// `XEN_DMOP_*` of `public/hvm/dm_op.h`, those that Xen on Arm has.
const CREATE_IOREQ_SERVER: u32 = 1;
const GET_IOREQ_SERVER_INFO: u32 = 2;
const MAP_IO_RANGE: u32 = 3;
const UNMAP_IO_RANGE: u32 = 4;
const SET_IOREQ_SERVER_STATE: u32 = 5;
const DESTROY_IOREQ_SERVER: u32 = 6;
const SET_IRQ_LEVEL: u32 = 19;
/// `XEN_DMOP_no_gfns`.
const NO_GFNS: u16 = 1;
/// `XEN_DMOP_IO_RANGE_MEMORY`.
const IO_RANGE_MEMORY: u32 = 1;
/// A place of a virtio device, and a guest's SPI.
const DEVICE: core::ops::RangeInclusive<u64> = 0x0200_0000..=0x0200_01ff;
const SPI: u32 = 33;

/// `HVMOP_set_param`, `HVMOP_get_param`, `HVMOP_guest_request_vm_event`.
const SET_PARAM: u32 = 0;
const GET_PARAM: u32 = 1;
const GUEST_REQUEST_VM_EVENT: u32 = 24;
/// `HVM_PARAM_CALLBACK_IRQ`, which nobody uses on Arm, and `HVM_PARAM_STORE_PFN`.
const PARAM_CALLBACK_IRQ: u32 = 0;
const PARAM_STORE_PFN: u32 = 1;

/// `XEN_DMOP_*`.
pub(super) const DM: &[Op] = ops![
    Form::Each(dm);
    "0" 0, "create_ioreq_server" 1, "get_ioreq_server_info" 2, "map_io_range_to_ioreq_server" 3,
    "unmap_io_range_from_ioreq_server" 4, "set_ioreq_server_state" 5, "track_dirty_vram" 7,
    "set_pci_intx_level" 8, "set_isa_irq_level" 9, "set_pci_link_route" 10, "modified_memory" 11,
    "set_mem_type" 12, "inject_event" 13, "inject_msi" 14, "map_mem_type_to_ioreq_server" 15,
    "remote_shutdown" 16, "relocate_memory" 17, "pin_memory_cacheattr" 18, "set_irq_level" 19,
    "nr_vcpus" 20, "destroy_ioreq_server" 6, "21" 21, "1000" 1000,
];

/// `HVMOP_*`.
pub(super) const HVM: &[Op] = &[
    Op::each("set_param", SET_PARAM, hvm),
    Op::each("get_param", GET_PARAM, hvm),
    Op::each("set_pci_intx_level", 2, hvm),
    Op::each("set_isa_irq_level", 3, hvm),
    Op::each("set_pci_link_route", 4, hvm),
    Op::alone("flush_tlbs", 5, hvm_alone),
    Op::each("track_dirty_vram", 6, hvm),
    Op::each("modified_memory", 7, hvm),
    Op::each("set_mem_type", 8, hvm),
    Op::each("pagetable_dying", 9, hvm),
    Op::alone("get_time", 10, hvm_alone),
    Op::alone("xentrace", 11, hvm_alone),
    Op::each("set_mem_access", 12, hvm),
    Op::each("get_mem_access", 13, hvm),
    Op::each("inject_trap", 14, hvm),
    Op::each("get_mem_type", 15, hvm),
    Op::each("inject_msi", 16, hvm),
    Op::each("create_ioreq_server", 17, hvm),
    Op::each("get_ioreq_server_info", 18, hvm),
    Op::each("map_io_range_to_ioreq_server", 19, hvm),
    Op::each("unmap_io_range_from_ioreq_server", 20, hvm),
    Op::each("destroy_ioreq_server", 21, hvm),
    Op::each("set_ioreq_server_state", 22, hvm),
    Op::alone("set_evtchn_upcall_vector", 23, hvm_alone),
    Op::alone("guest_request_vm_event", GUEST_REQUEST_VM_EVENT, hvm_alone),
    Op::each("altp2m", 25, hvm),
    Op::alone("26", 26, hvm_alone),
];

fn dm(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    if op == DESTROY_IOREQ_SERVER {
        // One of its own, so that the one before it stays for the operations that name one.
        let kept = walker.server;
        let made = dm_op(walker, CREATE_IOREQ_SERVER, object);
        let id = made.map_or(kept, |()| walker.frame.get16(12));
        walker.server = id;
        let answer = dm_op(walker, op, object);
        walker.server = kept;
        return answer.map(|()| 0).into();
    }
    let answer = dm_op(walker, op, object);
    if op == CREATE_IOREQ_SERVER && answer.is_ok() {
        walker.server = walker.frame.get16(12);
    }
    answer.map(|()| 0).into()
}

fn dm_op(walker: &mut Walker, op: u32, object: DomId) -> Result<(), Errno> {
    let server = walker.server;
    let frame = walker.blank().put32(0, op);
    match op {
        GET_IOREQ_SERVER_INFO => frame.put16(8, server).put16(10, NO_GFNS),
        MAP_IO_RANGE | UNMAP_IO_RANGE => frame
            .put16(8, server)
            .put32(12, IO_RANGE_MEMORY)
            .put64(16, *DEVICE.start())
            .put64(24, *DEVICE.end()),
        SET_IOREQ_SERVER_STATE | DESTROY_IOREQ_SERVER => frame.put16(8, server),
        SET_IRQ_LEVEL => frame.put32(8, SPI).put32(12, 1),
        _ => frame,
    };
    let (argument, list) = (frame.argument(), frame.list());
    frame.put_list(0, argument).put_list(8, DM_OP_BYTES);
    walker.call(HYPERVISOR_DM_OP, [u64::from(object.0), 1, list, 0, 0]).map(|_| ())
}

fn hvm(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let index = if op == GET_PARAM { PARAM_STORE_PFN } else { PARAM_CALLBACK_IRQ };
    // The other operations begin with the domain as well, and Xen on Arm has none of them.
    let argument = walker.blank().put16(0, object.0).put32(4, index).argument();
    walker.call(HYPERVISOR_HVM_OP, [u64::from(op), argument, 0, 0, 0]).into()
}

fn hvm_alone(walker: &mut Walker, op: u32) -> Answer {
    // The request to a monitor takes no argument.
    let argument = if op == GUEST_REQUEST_VM_EVENT { 0 } else { walker.blank().argument() };
    walker.call(HYPERVISOR_HVM_OP, [u64::from(op), argument, 0, 0, 0]).into()
}
