//! Hypercalls as safe functions: each one passes only addresses of its own arguments.
//!
//! No state here, so that console and panic can use them before and after everything else.
//! [`crate::xen`] builds the typed seam on top.

use super::hypervisor::Port;
use crate::arch;
use core::fmt;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::event_channel::{EVTCHNOP_SEND, EvtchnPort};
use xen_pv_sys::hvm::{HVMOP_GET_PARAM, HvmParam};
use xen_pv_sys::sched::{SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SchedPoll, SchedShutdown};
use xen_pv_sys::xen::{
    DOMID_SELF, HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_HVM_OP, HYPERVISOR_SCHED_OP, HYPERVISOR_XEN_VERSION,
};

/// `XENVER_version` of `public/version.h`.
const XENVER_VERSION: u64 = 0;

/// A hypercall of the form `op(command, &mut argument)`.
///
/// # Safety
/// Xen reads and writes at most one `T` at the argument, and the command does nothing else to
/// memory or mappings that Rust relies on. Addresses inside the argument are the caller's care.
pub(crate) unsafe fn with_arg<T>(number: u64, command: u64, arg: &mut T) -> Result<u64, Errno> {
    let address = (&raw mut *arg).addr() as u64;
    // SAFETY: the address is that of a live unique borrow; the rest is the caller's promise.
    Errno::check(unsafe { arch::hypercall(number, [command, address, 0, 0, 0]) })
}

/// An event channel operation.
///
/// # Safety
/// `T` is the structure of `command` in `public/event_channel.h`.
pub(crate) unsafe fn event_channel<T>(command: u64, arg: &mut T) -> Result<(), Errno> {
    // SAFETY: these structures hold no addresses; Xen touches only them. The caller chose `T`.
    unsafe { with_arg(HYPERVISOR_EVENT_CHANNEL_OP, command, arg) }.map(|_| ())
}

/// Notifies the other end of `port`. Inlined: a guest's vCPU waits for it.
#[inline]
pub(crate) fn evtchn_send(port: Port) -> Result<(), Errno> {
    let send = EvtchnPort { port: port.0 };
    let address = (&raw const send).addr() as u64;
    // SAFETY: EVTCHNOP_send takes `struct evtchn_send`, which Xen only reads.
    Errno::check(unsafe { arch::hypercall(HYPERVISOR_EVENT_CHANNEL_OP, [EVTCHNOP_SEND, address, 0, 0, 0]) })
        .map(|_| ())
}

/// An `HVM_PARAM_*` of this domain.
pub(crate) fn hvm_param(index: u32) -> Result<u64, Errno> {
    let mut param = HvmParam { domid: DOMID_SELF, pad: 0, index, value: 0 };
    // SAFETY: HVMOP_get_param takes `struct xen_hvm_param`, which holds no address.
    unsafe { with_arg(HYPERVISOR_HVM_OP, HVMOP_GET_PARAM, &mut param) }?;
    Ok(param.value)
}

/// Gives the CPU away for a moment.
pub(crate) fn sched_yield() {
    // SAFETY: takes no argument and touches no memory of ours.
    let _ = unsafe { arch::hypercall(HYPERVISOR_SCHED_OP, [SCHEDOP_YIELD, 0, 0, 0, 0]) };
}

/// Blocks until one of `ports` is pending or Xen's system time reaches `system_time_ns`
/// (0: no limit).
pub(crate) fn sched_poll(ports: &[u32], system_time_ns: u64) -> Result<(), Errno> {
    let mut poll = SchedPoll {
        ports: ports.as_ptr().addr() as u64,
        nr_ports: u32::try_from(ports.len()).map_err(|_| Errno::EINVAL)?,
        pad: 0,
        timeout: system_time_ns,
    };
    // SAFETY: SCHEDOP_poll takes `struct sched_poll`; Xen only reads the ports, which are
    // borrowed for the call's duration.
    unsafe { with_arg(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, &mut poll) }.map(|_| ())
}

/// Ends this domain with a `SHUTDOWN_*` reason. Returns only if Xen refuses.
pub(crate) fn sched_shutdown(reason: u32) {
    let mut shutdown = SchedShutdown { reason };
    // SAFETY: SCHEDOP_shutdown takes `struct sched_shutdown`.
    let _ = unsafe { with_arg(HYPERVISOR_SCHED_OP, SCHEDOP_SHUTDOWN, &mut shutdown) };
}

/// Xen's version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct XenVersion {
    /// For example 4.
    pub major: u16,
    /// For example 20.
    pub minor: u16,
}

impl fmt::Display for XenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Asks Xen for its version.
///
/// # Errors
/// What Xen answers.
pub fn xen_version() -> Result<XenVersion, Errno> {
    // SAFETY: XENVER_version takes no argument.
    let version =
        Errno::check(unsafe { arch::hypercall(HYPERVISOR_XEN_VERSION, [XENVER_VERSION, 0, 0, 0, 0]) })?;
    let half = |value: u64| u16::try_from(value & 0xffff).unwrap_or(0);
    Ok(XenVersion { major: half(version >> 16), minor: half(version) })
}
