//! Hypercalls that Xen on Arm does not have, or that have one form for all their operations.

use super::{Answer, Form, Op, Walker, ops};

/// `__HYPERVISOR_xsm_op`.
const HYPERVISOR_XSM_OP: u64 = 27;
/// `__HYPERVISOR_physdev_op`.
const HYPERVISOR_PHYSDEV_OP: u64 = 33;
/// `__HYPERVISOR_argo_op`.
const HYPERVISOR_ARGO_OP: u64 = 39;
/// `XEN_FLASK_INTERFACE_VERSION`.
const FLASK_INTERFACE_VERSION: u32 = 1;
/// `FLASK_SETENFORCE`.
const FLASK_SETENFORCE: u32 = 3;

/// The numbers that no other group has: those of x86, those that were given up, and those that nobody
/// has used yet.
pub(super) const HYPERCALLS: &[Op] = ops![
    Form::Alone(hypercall);
    "set_trap_table" 0, "mmu_update" 1, "set_gdt" 2, "stack_switch" 3, "set_callbacks" 4,
    "fpu_taskswitch" 5, "sched_op_compat" 6, "set_debugreg" 8, "get_debugreg" 9, "update_descriptor" 10,
    "11" 11, "update_va_mapping" 14, "set_timer_op" 15, "event_channel_op_compat" 16,
    "physdev_op_compat" 19, "update_va_mapping_otherdomain" 22, "iret" 23, "set_segment_base" 25,
    "mmuext_op" 26, "nmi_op" 28, "callback_op" 30, "xenoprof_op" 31, "kexec_op" 37, "tmem_op" 38,
    "xenpmu_op" 40, "43" 43, "44" 44, "45" 45, "46" 46, "47" 47, "arch_0" 48, "arch_1" 49, "arch_2" 50,
    "arch_3" 51, "arch_4" 52, "arch_5" 53, "arch_6" 54, "arch_7" 55, "56" 56, "57" 57, "58" 58, "59" 59,
    "60" 60, "61" 61, "62" 62, "63" 63, "64" 64, "65" 65, "127" 127, "1000" 1000, "65535" 65535,
    "4294967295" 4_294_967_295,
];

/// `FLASK_*` of `public/xsm/flask_op.h`.
pub(super) const XSM: &[Op] = ops![
    Form::Alone(xsm);
    "0" 0, "load" 1, "getenforce" 2, "setenforce" 3, "context_to_sid" 4, "sid_to_context" 5, "access" 6,
    "create" 7, "relabel" 8, "user" 9, "policyvers" 10, "getbool" 11, "setbool" 12, "commitbools" 13,
    "mls" 14, "disable" 15, "getavc_threshold" 16, "setavc_threshold" 17, "avc_hashstats" 18,
    "avc_cachestats" 19, "member" 20, "add_ocontext" 21, "del_ocontext" 22, "get_peer_sid" 23,
    "relabel_domain" 24, "devicetree_label" 25, "26" 26,
];

/// `XEN_ARGO_OP_*` of `public/argo.h`.
pub(super) const ARGO: &[Op] = ops![
    Form::Alone(argo);
    "0" 0, "register_ring" 1, "unregister_ring" 2, "sendv" 3, "notify" 4, "5" 5,
];

/// `PHYSDEVOP_*` of `public/physdev.h`.
pub(super) const PHYSDEV: &[Op] = ops![
    Form::Alone(physdev);
    "irq_unmask_notify" 4, "irq_status_query" 5, "set_iopl" 6, "set_iobitmap" 7, "apic_read" 8,
    "apic_write" 9, "alloc_irq_vector" 10, "free_irq_vector" 11, "eoi" 12, "map_pirq" 13,
    "unmap_pirq" 14, "manage_pci_add" 15, "manage_pci_remove" 16, "pirq_eoi_gmfn_v1" 17, "18" 18,
    "restore_msi" 19, "manage_pci_add_ext" 20, "setup_gsi" 21, "22" 22, "get_free_pirq" 23,
    "pci_mmcfg_reserved" 24, "pci_device_add" 25, "pci_device_remove" 26, "restore_msi_ext" 27,
    "pirq_eoi_gmfn_v2" 28, "dbgp_op" 29, "prepare_msix" 30, "release_msix" 31, "pci_device_reset" 32,
    "33" 33,
];

fn hypercall(walker: &mut Walker, number: u32) -> Answer {
    walker.call(u64::from(number), [0; 5]).into()
}

fn xsm(walker: &mut Walker, op: u32) -> Answer {
    let answer = flask_op(walker, op, 0);
    if op == FLASK_SETENFORCE && answer == Answer::Done {
        // It was allowed, which is bad enough.
        flask_op(walker, op, 1);
    }
    answer
}

/// With `value` where `setenforce` has its own, and nothing else. (To enforce what is enforced is nobody's right,
/// so only the other way tells.)
fn flask_op(walker: &mut Walker, op: u32, value: u32) -> Answer {
    let argument = walker.blank().put32(0, op).put32(4, FLASK_INTERFACE_VERSION).put32(8, value).argument();
    walker.call(HYPERVISOR_XSM_OP, [argument, 0, 0, 0, 0]).into()
}

fn argo(walker: &mut Walker, op: u32) -> Answer {
    let argument = walker.blank().argument();
    walker.call(HYPERVISOR_ARGO_OP, [u64::from(op), argument, 0, 0, 0]).into()
}

fn physdev(walker: &mut Walker, op: u32) -> Answer {
    let argument = walker.blank().argument();
    walker.call(HYPERVISOR_PHYSDEV_OP, [u64::from(op), argument, 0, 0, 0]).into()
}
