//! Device-model operations (`public/hvm/dm_op.h`).

use super::hypervisor::{DomId, IoservId};
use crate::arch;
use xen_pv_sys::dm_op::{
    CreateIoreqServer, DMOP_CREATE_IOREQ_SERVER, DMOP_DESTROY_IOREQ_SERVER, DMOP_HEADER_SIZE,
    DMOP_IO_RANGE_MEMORY, DMOP_MAP_IO_RANGE, DMOP_NR_VCPUS, DMOP_SET_IOREQ_SERVER_STATE, DMOP_SET_IRQ_LEVEL,
    DestroyIoreqServer, DmOpBuf, HVM_IOREQSRV_BUFIOREQ_OFF, IoreqServerRange, NrVcpus, SetIoreqServerState,
    SetIrqLevel,
};
use xen_pv_sys::errno::Errno;
use xen_pv_sys::xen::HYPERVISOR_DM_OP;

/// `struct xen_dm_op` with one member of its union. The union is 8-byte aligned.
#[repr(C, align(8))]
struct DmOp<T> {
    op: u32,
    pad: u32,
    body: T,
}

/// Runs one operation that takes no other buffer and returns its structure as Xen left it.
fn dm_op<T>(target: DomId, op: u32, body: T) -> Result<T, Errno> {
    let mut request = DmOp { op, pad: 0, body };
    let buffer = DmOpBuf {
        handle: (&raw mut request).addr() as u64,
        size: (DMOP_HEADER_SIZE + size_of::<T>()) as u64,
    };
    let buffers = (&raw const buffer).addr() as u64;
    // SAFETY: one buffer, of exactly the header and `T`, alive on our stack; Xen reads it and
    // writes back at most its size. None of the operations below holds addresses of ours.
    let result = unsafe { arch::hypercall(HYPERVISOR_DM_OP, [u64::from(target.0), 1, buffers, 0, 0]) };
    Errno::check(result)?;
    Ok(request.body)
}

pub(super) fn create(target: DomId) -> Result<IoservId, Errno> {
    let body = CreateIoreqServer { handle_bufioreq: HVM_IOREQSRV_BUFIOREQ_OFF, pad: [0; 3], id: 0 };
    Ok(IoservId(dm_op(target, DMOP_CREATE_IOREQ_SERVER, body)?.id))
}

pub(super) fn map_mmio(target: DomId, id: IoservId, first: u64, last: u64) -> Result<(), Errno> {
    let body =
        IoreqServerRange { id: id.0, pad: 0, range_type: DMOP_IO_RANGE_MEMORY, start: first, end: last };
    dm_op(target, DMOP_MAP_IO_RANGE, body).map(|_| ())
}

pub(super) fn set_state(target: DomId, id: IoservId, enabled: bool) -> Result<(), Errno> {
    let body = SetIoreqServerState { id: id.0, enabled: u8::from(enabled), pad: 0 };
    dm_op(target, DMOP_SET_IOREQ_SERVER_STATE, body).map(|_| ())
}

pub(super) fn destroy(target: DomId, id: IoservId) -> Result<(), Errno> {
    dm_op(target, DMOP_DESTROY_IOREQ_SERVER, DestroyIoreqServer { id: id.0, pad: 0 }).map(|_| ())
}

pub(super) fn set_irq_level(target: DomId, irq: u32, level: bool) -> Result<(), Errno> {
    dm_op(target, DMOP_SET_IRQ_LEVEL, SetIrqLevel { irq, level: u8::from(level), pad: [0; 3] }).map(|_| ())
}

pub(super) fn nr_vcpus(target: DomId) -> Result<u32, Errno> {
    Ok(dm_op(target, DMOP_NR_VCPUS, NrVcpus::default())?.vcpus)
}
