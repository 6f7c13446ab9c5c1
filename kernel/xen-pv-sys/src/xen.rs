//! `public/xen.h`: hypercall numbers, domain identifiers, shared page layout.

/// `__HYPERVISOR_memory_op`.
pub const HYPERVISOR_MEMORY_OP: u64 = 12;
/// `__HYPERVISOR_xen_version`.
pub const HYPERVISOR_XEN_VERSION: u64 = 17;
/// `__HYPERVISOR_console_io`.
pub const HYPERVISOR_CONSOLE_IO: u64 = 18;
/// `__HYPERVISOR_grant_table_op`.
pub const HYPERVISOR_GRANT_TABLE_OP: u64 = 20;
/// `__HYPERVISOR_vcpu_op`.
pub const HYPERVISOR_VCPU_OP: u64 = 24;
/// `__HYPERVISOR_sched_op`.
pub const HYPERVISOR_SCHED_OP: u64 = 29;
/// `__HYPERVISOR_event_channel_op`.
pub const HYPERVISOR_EVENT_CHANNEL_OP: u64 = 32;
/// `__HYPERVISOR_hvm_op`.
pub const HYPERVISOR_HVM_OP: u64 = 34;
/// `__HYPERVISOR_domctl`.
pub const HYPERVISOR_DOMCTL: u64 = 36;
/// `__HYPERVISOR_dm_op`.
pub const HYPERVISOR_DM_OP: u64 = 41;

/// `DOMID_SELF`: the calling domain.
pub const DOMID_SELF: u16 = 0x7ff0;
/// `DOMID_IO`: the owner of device memory.
pub const DOMID_IO: u16 = 0x7ff1;
/// `DOMID_XEN`: the owner of memory of Xen's own.
pub const DOMID_XEN: u16 = 0x7ff2;
/// `DOMID_INVALID`: nobody.
pub const DOMID_INVALID: u16 = 0x7ff4;
/// `DOMID_FIRST_RESERVED`: real domains have smaller identifiers.
pub const DOMID_FIRST_RESERVED: u16 = 0x7ff0;

/// Offsets inside the `shared_info` page of an arm64 guest.
///
/// `XEN_LEGACY_MAX_VCPUS` is 1 on Arm and `struct vcpu_info` is 48 bytes there.
pub mod shared_info {
    /// `vcpu_info[0].evtchn_upcall_pending` (u8).
    pub const EVTCHN_UPCALL_PENDING: usize = 0;
    /// `vcpu_info[0].evtchn_upcall_mask` (u8).
    pub const EVTCHN_UPCALL_MASK: usize = 1;
    /// `vcpu_info[0].evtchn_pending_sel` (u64).
    pub const EVTCHN_PENDING_SEL: usize = 8;
    /// Bytes in `struct vcpu_info`.
    pub const VCPU_INFO_SIZE: usize = 48;
    /// `evtchn_pending[64]`, one u64 per 64 ports.
    pub const EVTCHN_PENDING: usize = VCPU_INFO_SIZE;
    /// `evtchn_mask[64]`, one u64 per 64 ports.
    pub const EVTCHN_MASK: usize = EVTCHN_PENDING + 64 * 8;
    /// Ports of the 2-level ABI on a 64-bit guest.
    pub const NR_EVENT_CHANNELS: u32 = 4096;
}
