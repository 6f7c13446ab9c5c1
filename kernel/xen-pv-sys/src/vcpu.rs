//! `public/vcpu.h`: where Xen tells a vCPU when it was scheduled.

/// `VCPUOP_register_runstate_memory_area`.
pub const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u64 = 5;

/// `struct vcpu_register_runstate_memory_area`: the area's address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RegisterRunstateMemoryArea {
    /// In: guest virtual address of a `struct vcpu_runstate_info`.
    pub addr: u64,
}

/// `VCPUOP_register_vcpu_info`.
pub const VCPUOP_REGISTER_VCPU_INFO: u64 = 10;

/// `struct vcpu_register_vcpu_info`: where Xen is to keep a `struct vcpu_info` from now on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RegisterVcpuInfo {
    /// In: the guest's frame, in spite of the name that Xen gives it.
    pub mfn: u64,
    /// In: bytes from the start of that page.
    pub offset: u32,
    /// Unused.
    pub rsvd: u32,
}

/// Offsets in `struct vcpu_runstate_info`.
pub mod runstate {
    /// Bytes in the structure.
    pub const SIZE: usize = 48;
    /// u64: system time in nanoseconds at which the vCPU entered its current state.
    pub const STATE_ENTRY_TIME: usize = 8;
    /// u64: nanoseconds spent so far in `RUNSTATE_runnable`: it wanted a CPU and had none.
    pub const TIME_RUNNABLE: usize = 24;
}
