//! Hypercalls of few operations, most of them about the caller alone.

use super::{Answer, DomId, Errno, Form, Op, Walker, control, ops};
use xen_pv_sys::xen::{
    HYPERVISOR_CONSOLE_IO, HYPERVISOR_DOMCTL, HYPERVISOR_SCHED_OP, HYPERVISOR_VCPU_OP, HYPERVISOR_XEN_VERSION,
};

/// `__HYPERVISOR_multicall`, `__HYPERVISOR_vm_assist`, `__HYPERVISOR_hypfs_op`.
const HYPERVISOR_MULTICALL: u64 = 13;
const HYPERVISOR_VM_ASSIST: u64 = 21;
const HYPERVISOR_HYPFS_OP: u64 = 42;
/// `XENVER_pagesize`.
const XENVER_PAGESIZE: u32 = 7;
/// `XENVER_build_id`: it and the newer ones take a buffer with its length.
const XENVER_BUILD_ID: u32 = 10;
/// `VMASST_TYPE_runstate_update_flag`: off, unless somebody asks for it.
const RUNSTATE_UPDATE_FLAG: u64 = 5;
/// A vCPU that no domain has.
const NO_VCPU: u64 = 999;

/// `XENVER_*` of `public/version.h`.
pub(super) const XEN_VERSION: &[Op] = ops![
    Form::Alone(xen_version);
    "version" 0, "extraversion" 1, "compile_info" 2, "capabilities" 3, "changeset" 4,
    "platform_parameters" 5, "get_features" 6, "pagesize" 7, "guest_handle" 8, "commandline" 9,
    "build_id" 10, "extraversion2" 11, "capabilities2" 12, "changeset2" 13, "commandline2" 14, "15" 15,
];

/// `CONSOLEIO_*` of `public/xen.h`.
pub(super) const CONSOLE_IO: &[Op] = ops![Form::Alone(console_io); "write" 0, "read" 1, "2" 2];

/// `VMASST_CMD_*` of `public/xen.h`. `enable` would change what the caller's own run state looks like.
pub(super) const VM_ASSIST: &[Op] =
    &[Op::left_out("enable", 0), Op::alone("disable", 1, vm_assist), Op::alone("2", 2, vm_assist)];

/// `XEN_HYPFS_OP_*` of `public/hypfs.h`.
pub(super) const HYPFS: &[Op] =
    ops![Form::Alone(hypfs); "get_version" 0, "read" 1, "write_contents" 2, "3" 3];

/// `VCPUOP_*` of `public/vcpu.h`. All are about a vCPU of the caller: those that only look, about the first,
/// the others about one that there is not.
pub(super) const VCPU: &[Op] = &[
    Op::alone("initialise", 0, of_no_vcpu),
    Op::alone("up", 1, of_no_vcpu),
    Op::alone("down", 2, of_no_vcpu),
    Op::alone("is_up", 3, of_first_vcpu),
    Op::alone("get_runstate_info", 4, of_first_vcpu),
    Op::alone("register_runstate_memory_area", 5, of_no_vcpu),
    Op::alone("set_periodic_timer", 6, of_no_vcpu),
    Op::alone("stop_periodic_timer", 7, of_first_vcpu),
    Op::alone("set_singleshot_timer", 8, of_no_vcpu),
    Op::alone("stop_singleshot_timer", 9, of_first_vcpu),
    Op::alone("register_vcpu_info", 10, of_no_vcpu),
    Op::alone("send_nmi", 11, of_first_vcpu),
    Op::alone("get_physid", 12, of_first_vcpu),
    Op::alone("register_vcpu_time_memory_area", 13, of_no_vcpu),
    Op::alone("register_runstate_phys_area", 14, of_no_vcpu),
    Op::alone("register_vcpu_time_phys_area", 15, of_no_vcpu),
    Op::alone("16", 16, of_first_vcpu),
];

/// A batch of one: `domctl` `getdomaininfo` and `pausedomain`.
pub(super) const MULTICALL: &[Op] =
    ops![Form::Each(multicall); "domctl_getdomaininfo" 5, "domctl_pausedomain" 3];

/// `SCHEDOP_*` of `public/sched.h`. Three are about the caller alone, and it would not go on.
pub(super) const SCHED: &[Op] = &[
    Op::alone("yield", 0, sched),
    Op::left_out("block", 1),
    Op::left_out("shutdown", 2),
    Op::alone("poll", 3, poll),
    Op::left_out("shutdown_code", 5),
    Op::alone("watchdog", 6, watchdog),
    Op::alone("pin_override", 7, sched),
    Op::alone("8", 8, sched),
    Op::each("remote_shutdown", 4, remote_shutdown),
];

fn xen_version(walker: &mut Walker, op: u32) -> Answer {
    let frame = walker.blank();
    if op >= XENVER_BUILD_ID {
        frame.put32(0, 512);
    }
    // The size of a page is told without an argument.
    let argument = if op == XENVER_PAGESIZE { 0 } else { frame.argument() };
    walker.call(HYPERVISOR_XEN_VERSION, [u64::from(op), argument, 0, 0, 0]).into()
}

/// One character to or from Xen's own console.
fn console_io(walker: &mut Walker, op: u32) -> Answer {
    let argument = walker.blank().put(0, *b"\n").argument();
    walker.call(HYPERVISOR_CONSOLE_IO, [u64::from(op), 1, argument, 0, 0]).into()
}

fn vm_assist(walker: &mut Walker, op: u32) -> Answer {
    walker.call(HYPERVISOR_VM_ASSIST, [u64::from(op), RUNSTATE_UPDATE_FLAG, 0, 0, 0]).into()
}

fn hypfs(walker: &mut Walker, op: u32) -> Answer {
    let frame = walker.blank();
    let (path, list) = (frame.put(0, *b"/\0").argument(), frame.list());
    walker.call(HYPERVISOR_HYPFS_OP, [u64::from(op), path, 2, list, 64]).into()
}

fn vcpu_op(walker: &mut Walker, op: u32, vcpu: u64) -> Answer {
    let argument = walker.blank().argument();
    walker.call(HYPERVISOR_VCPU_OP, [u64::from(op), vcpu, argument, 0, 0]).into()
}

fn of_first_vcpu(walker: &mut Walker, op: u32) -> Answer {
    vcpu_op(walker, op, 0)
}

fn of_no_vcpu(walker: &mut Walker, op: u32) -> Answer {
    vcpu_op(walker, op, NO_VCPU)
}

fn multicall(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let argument = control::fill_domctl(walker, op, object);
    let frame = &mut walker.frame;
    frame.put_list(0, HYPERVISOR_DOMCTL).put_list(16, argument);
    let list = frame.list();
    match walker.call(HYPERVISOR_MULTICALL, [list, 1, 0, 0, 0]) {
        Ok(_) => Errno::check(walker.frame.get_list(8).cast_signed()).into(),
        refused => refused.into(),
    }
}

impl Walker {
    fn sched_op(&mut self, op: u32) -> Answer {
        let argument = self.frame.argument();
        self.call(HYPERVISOR_SCHED_OP, [u64::from(op), argument, 0, 0, 0]).into()
    }
}

fn sched(walker: &mut Walker, op: u32) -> Answer {
    walker.blank();
    walker.sched_op(op)
}

/// No ports, and a time that has passed.
fn poll(walker: &mut Walker, op: u32) -> Answer {
    walker.blank().put64(16, 1);
    walker.sched_op(op)
}

/// Of a watchdog that there is not: one that there is would end the caller.
fn watchdog(walker: &mut Walker, op: u32) -> Answer {
    walker.blank().put32(0, 99);
    walker.sched_op(op)
}

/// Ends the object, if it may; this domain, at last, would be the end of the walk.
fn remote_shutdown(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    if walker.is_own(object) {
        return Answer::LeftOut;
    }
    walker.blank().put16(0, object.0);
    walker.sched_op(op)
}
