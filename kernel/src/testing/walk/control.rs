//! What belongs to the toolstack: `domctl`, `sysctl`, `platform_op`.
//!
//! All of their arguments are zero but for the domain, where Xen asks for the right before it looks at
//! them. Where it looks first, they are such that the look is passed.

use super::{Answer, DomId, Form, Op, Walker, ops};
use xen_pv_sys::xen::{DOMID_INVALID, HYPERVISOR_DOMCTL};

/// `__HYPERVISOR_platform_op`.
const HYPERVISOR_PLATFORM_OP: u64 = 7;
/// `__HYPERVISOR_sysctl`.
const HYPERVISOR_SYSCTL: u64 = 35;
/// `XENPF_INTERFACE_VERSION`, the same from Xen 4.17 to 4.22.
const PLATFORM_VERSION: u32 = 0x0300_0001;

/// `XEN_DOMCTL_bind_pt_irq`, `XEN_DOMCTL_memory_mapping`, `XEN_DOMCTL_unbind_pt_irq`.
const BIND_PT_IRQ: u32 = 38;
const MEMORY_MAPPING: u32 = 39;
const UNBIND_PT_IRQ: u32 = 48;
/// `XEN_DOMCTL_vm_event_op`.
const VM_EVENT_OP: u32 = 56;
/// `XEN_DOMCTL_iomem_permission`.
const IOMEM_PERMISSION: u32 = 20;
/// `PT_IRQ_TYPE_SPI`.
const PT_IRQ_TYPE_SPI: u32 = 4;
/// An SPI of the machine.
const MACHINE_SPI: u16 = 40;
/// Frame of a register page of the machine (the UART, on QEMU's).
const MACHINE_REGISTERS: u64 = 0x9000;

/// Bytes before the union of each structure; `xen_domctl` has the domain in there.
const DOMCTL_BODY: usize = 16;

/// `XEN_DOMCTL_*`, those that were given up and some that nobody has used as well.
pub(super) const DOMCTL: &[Op] = ops![
    Form::Each(domctl);
    "0" 0, "createdomain" 1, "destroydomain" 2, "pausedomain" 3, "unpausedomain" 4, "getdomaininfo" 5,
    "6" 6, "7" 7, "8" 8, "setvcpuaffinity" 9, "shadow_op" 10, "max_mem" 11, "setvcpucontext" 12,
    "getvcpucontext" 13, "getvcpuinfo" 14, "max_vcpus" 15, "scheduler_op" 16, "setdomainhandle" 17,
    "setdebugging" 18, "irq_permission" 19, "iomem_permission" 20, "ioport_permission" 21,
    "hypercall_init" 22, "soft_reset_cont" 23, "settimeoffset" 24, "getvcpuaffinity" 25,
    "real_mode_area" 26, "resumedomain" 27, "sendtrigger" 28, "subscribe" 29, "30" 30, "31" 31, "32" 32,
    "gethvmcontext" 33, "sethvmcontext" 34, "set_address_size" 35, "get_address_size" 36,
    "assign_device" 37, "bind_pt_irq" 38, "memory_mapping" 39, "ioport_mapping" 40, "41" 41,
    "set_ext_vcpucontext" 42, "get_ext_vcpucontext" 43, "set_opt_feature" 44, "test_assign_device" 45,
    "set_target" 46, "deassign_device" 47, "unbind_pt_irq" 48, "49" 49, "get_device_group" 50, "51" 51,
    "52" 52, "53" 53, "debug_op" 54, "gethvmcontext_partial" 55, "vm_event_op" 56, "mem_sharing_op" 57,
    "58" 58, "gettscinfo" 59, "settscinfo" 60, "getpageframeinfo3" 61, "setvcpuextstate" 62,
    "getvcpuextstate" 63, "set_access_required" 64, "audit_p2m" 65, "set_virq_handler" 66,
    "set_broken_page_p2m" 67, "setnodeaffinity" 68, "getnodeaffinity" 69, "70" 70, "cacheflush" 71,
    "get_vcpu_msrs" 72, "set_vcpu_msrs" 73, "setvnumainfo" 74, "psr_cmt_op" 75, "76" 76,
    "monitor_op" 77, "psr_alloc" 78, "soft_reset" 79, "80" 80, "vuart_op" 81, "get_cpu_policy" 82,
    "set_cpu_policy" 83, "vmtrace_op" 84, "get_paging_mempool_size" 85, "set_paging_mempool_size" 86,
    "dt_overlay" 87, "gsi_permission" 88, "set_llc_colors" 89, "get_domain_state" 90, "91" 91, "92" 92,
    "gdbsx_guestmemio" 1000, "gdbsx_pausevcpu" 1001, "gdbsx_unpausevcpu" 1002, "gdbsx_domstatus" 1003,
    "1004" 1004,
];

/// `XEN_SYSCTL_*`.
pub(super) const SYSCTL: &[Op] = ops![
    Form::Alone(sysctl);
    "0" 0, "readconsole" 1, "tbuf_op" 2, "physinfo" 3, "sched_id" 4, "perfc_op" 5, "getdomaininfolist" 6,
    "debug_keys" 7, "getcpuinfo" 8, "availheap" 9, "get_pmstat" 10, "cpu_hotplug" 11, "pm_op" 12, "13" 13,
    "page_offline_op" 14, "lockprof_op" 15, "cputopoinfo" 16, "numainfo" 17, "cpupool_op" 18,
    "scheduler_op" 19, "coverage_op" 20, "psr_cmt_op" 21, "pcitopoinfo" 22, "psr_alloc" 23, "tmem_op" 24,
    "get_cpu_levelling_caps" 25, "get_cpu_featureset" 26, "livepatch_op" 27, "28" 28, "get_cpu_policy" 29,
    "dt_overlay" 30, "31" 31,
];

/// `XENPF_*` of `public/platform.h`.
pub(super) const PLATFORM: &[Op] = ops![
    Form::Alone(platform);
    "0" 0, "settime32" 17, "add_memtype" 31, "del_memtype" 32, "read_memtype" 33, "microcode_update" 35,
    "platform_quirk" 39, "get_cpu_version" 48, "efi_runtime_call" 49, "firmware_info" 50,
    "enter_acpi_sleep" 51, "change_freq" 52, "getidletime" 53, "set_processor_pminfo" 54,
    "get_cpuinfo" 55, "cpu_online" 56, "cpu_offline" 57, "cpu_hotadd" 58, "mem_hotadd" 59,
    "core_parking" 60, "resource_op" 61, "settime64" 62, "get_symbol" 63, "get_dom0_console" 64,
    "get_ucode_revision" 65, "microcode_update2" 66, "67" 67,
];

/// Writes a `struct xen_domctl` for `op` on `object`.
pub(super) fn fill_domctl(walker: &mut Walker, op: u32, object: DomId) -> u64 {
    let version = walker.versions.domctl;
    let gfn = if op == MEMORY_MAPPING { walker.unused() } else { 0 };
    let frame = walker.blank().put32(0, op).put32(4, version).put16(8, object.0);
    match op {
        // Of an interrupt that is mapped to itself, else Xen refuses it unseen.
        BIND_PT_IRQ | UNBIND_PT_IRQ => frame
            .put32(DOMCTL_BODY, MACHINE_SPI.into())
            .put32(DOMCTL_BODY + 4, PT_IRQ_TYPE_SPI)
            .put16(DOMCTL_BODY + 8, MACHINE_SPI),
        // Ranges that are not empty.
        MEMORY_MAPPING => frame
            .put64(DOMCTL_BODY, gfn)
            .put64(DOMCTL_BODY + 8, MACHINE_REGISTERS)
            .put64(DOMCTL_BODY + 16, 1)
            .put32(DOMCTL_BODY + 24, 1),
        IOMEM_PERMISSION => frame.put64(DOMCTL_BODY, MACHINE_REGISTERS).put64(DOMCTL_BODY + 8, 1),
        _ => frame,
    }
    .argument()
}

fn domctl(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    if op == VM_EVENT_OP && object.0 == DOMID_INVALID && walker.versions.is_fragile {
        return Answer::LeftOut;
    }
    let argument = fill_domctl(walker, op, object);
    walker.call(HYPERVISOR_DOMCTL, [argument, 0, 0, 0, 0]).into()
}

fn sysctl(walker: &mut Walker, op: u32) -> Answer {
    let version = walker.versions.sysctl;
    let argument = walker.blank().put32(0, op).put32(4, version).argument();
    walker.call(HYPERVISOR_SYSCTL, [argument, 0, 0, 0, 0]).into()
}

fn platform(walker: &mut Walker, op: u32) -> Answer {
    let argument = walker.blank().put32(0, op).put32(4, PLATFORM_VERSION).argument();
    walker.call(HYPERVISOR_PLATFORM_OP, [argument, 0, 0, 0, 0]).into()
}
