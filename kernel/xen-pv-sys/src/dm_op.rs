//! `public/hvm/{dm_op,ioreq}.h`: device-model operations and the ioreq slot.

/// `XEN_DMOP_create_ioreq_server`.
pub const DMOP_CREATE_IOREQ_SERVER: u32 = 1;
/// `XEN_DMOP_map_io_range_to_ioreq_server`.
pub const DMOP_MAP_IO_RANGE: u32 = 3;
/// `XEN_DMOP_set_ioreq_server_state`.
pub const DMOP_SET_IOREQ_SERVER_STATE: u32 = 5;
/// `XEN_DMOP_destroy_ioreq_server`.
pub const DMOP_DESTROY_IOREQ_SERVER: u32 = 6;
/// `XEN_DMOP_set_irq_level`.
pub const DMOP_SET_IRQ_LEVEL: u32 = 19;
/// `XEN_DMOP_nr_vcpus`.
pub const DMOP_NR_VCPUS: u32 = 20;
/// `XEN_DMOP_IO_RANGE_MEMORY`.
pub const DMOP_IO_RANGE_MEMORY: u32 = 1;
/// `HVM_IOREQSRV_BUFIOREQ_OFF`.
pub const HVM_IOREQSRV_BUFIOREQ_OFF: u8 = 0;
/// `HVM_IOREQSRV_BUFIOREQ_LEGACY`.
pub const HVM_IOREQSRV_BUFIOREQ_LEGACY: u8 = 1;

/// `struct xen_dm_op_create_ioreq_server`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CreateIoreqServer {
    /// In: `HVM_IOREQSRV_BUFIOREQ_*`; only OFF works on Arm.
    pub handle_bufioreq: u8,
    /// Must be 0.
    pub pad: [u8; 3],
    /// Out: the server's identifier.
    pub id: u16,
}

/// `struct xen_dm_op_ioreq_server_range`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct IoreqServerRange {
    /// In: the server.
    pub id: u16,
    /// Must be 0.
    pub pad: u16,
    /// In: `XEN_DMOP_IO_RANGE_*`.
    pub range_type: u32,
    /// In: first address.
    pub start: u64,
    /// In: last address, inclusive.
    pub end: u64,
}

/// `struct xen_dm_op_set_ioreq_server_state`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SetIoreqServerState {
    /// In: the server.
    pub id: u16,
    /// In: 1 enables.
    pub enabled: u8,
    /// Must be 0.
    pub pad: u8,
}

/// `struct xen_dm_op_destroy_ioreq_server`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DestroyIoreqServer {
    /// In: the server.
    pub id: u16,
    /// Must be 0.
    pub pad: u16,
}

/// `struct xen_dm_op_set_irq_level` (Arm).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SetIrqLevel {
    /// In: interrupt number (INTID, so SPIs start at 32).
    pub irq: u32,
    /// In: 0 or 1.
    pub level: u8,
    /// Must be 0.
    pub pad: [u8; 3],
}

/// `struct xen_dm_op_nr_vcpus`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NrVcpus {
    /// Out: vCPUs of the domain.
    pub vcpus: u32,
}

/// `struct xen_dm_op_buf`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DmOpBuf {
    /// Address of the buffer.
    pub handle: u64,
    /// Bytes in it.
    pub size: u64,
}

/// Bytes before the union in `struct xen_dm_op`: op and padding.
pub const DMOP_HEADER_SIZE: usize = 8;

/// The synchronous ioreq page: one slot per vCPU (`struct ioreq`).
pub mod ioreq {
    /// Bytes in a slot.
    pub const SIZE: usize = 32;
    /// Slots in a page.
    pub const PER_PAGE: usize = 128;
    /// u64: physical address.
    pub const ADDR: usize = 0;
    /// u64: data, or the address of data.
    pub const DATA: usize = 8;
    /// u32: repeat count.
    pub const COUNT: usize = 16;
    /// u32: bytes of the access.
    pub const SIZE_FIELD: usize = 20;
    /// u32: event channel of the vCPU.
    pub const VP_EPORT: usize = 24;
    /// u16: unused on Arm.
    pub const _PAD: usize = 28;
    /// u8: bits 0–3 state, 4 data_is_ptr, 5 dir, 6 df, 7 padding.
    pub const STATE_BITS: usize = 30;
    /// u8: type.
    pub const TYPE: usize = 31;

    /// Mask of the state in [`STATE_BITS`].
    pub const STATE_MASK: u8 = 0x0f;
    /// `data_is_ptr` in [`STATE_BITS`].
    pub const DATA_IS_PTR: u8 = 1 << 4;
    /// `dir` in [`STATE_BITS`]: set for a read.
    pub const DIR_READ: u8 = 1 << 5;

    /// `STATE_IOREQ_NONE`.
    pub const STATE_NONE: u8 = 0;
    /// `STATE_IOREQ_READY`.
    pub const STATE_READY: u8 = 1;
    /// `STATE_IOREQ_INPROCESS`.
    pub const STATE_INPROCESS: u8 = 2;
    /// `STATE_IORESP_READY`.
    pub const STATE_RESP_READY: u8 = 3;

    /// `IOREQ_TYPE_COPY`: an MMIO access.
    pub const TYPE_COPY: u8 = 1;
    /// `IOREQ_TYPE_INVALIDATE`: guest frames changed; drop mappings.
    pub const TYPE_INVALIDATE: u8 = 8;
}
