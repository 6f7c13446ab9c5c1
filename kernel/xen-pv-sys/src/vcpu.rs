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

/// Offsets in `struct vcpu_runstate_info`.
pub mod runstate {
    /// Bytes in the structure.
    pub const SIZE: usize = 48;
    /// u64: system time in nanoseconds at which the vCPU entered its current state.
    pub const STATE_ENTRY_TIME: usize = 8;
    /// u64: nanoseconds spent so far in `RUNSTATE_runnable`: it wanted a CPU and had none.
    pub const TIME_RUNNABLE: usize = 24;
}
