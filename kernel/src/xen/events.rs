//! Event channels (2-level) and blocking, without interrupts.
//!
//! Every port stays masked: Xen then only sets its pending bit and wakes a poller. Deadlines
//! of SCHEDOP_poll are in Xen's system time, which an Arm guest cannot read. But the runstate
//! area tells when we were last scheduled in, and both clocks count the same timer: their
//! distance is learnt from any sleep.

use super::event_bits;
use super::hypercalls;
use super::hypervisor::{DomId, Port};
use super::memory::Physmap;
use crate::mem::shared::{Order, SharedPage, full_barrier};
use crate::{arch, time};
use core::cell::Cell;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::event_channel::{
    EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_CLOSE, EvtchnAllocUnbound,
    EvtchnBindInterdomain, EvtchnPort,
};
use xen_pv_sys::sched::POLL_MAX_PORTS;
use xen_pv_sys::vcpu::{RegisterRunstateMemoryArea, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, runstate};
use xen_pv_sys::xen::{DOMID_SELF, HYPERVISOR_VCPU_OP, shared_info};

/// First guess at how much too early a deadline is.
const FIRST_SLACK_NS: u64 = 100_000;

pub(super) fn alloc_unbound(remote: DomId) -> Result<Port, Errno> {
    let mut arg = EvtchnAllocUnbound { dom: DOMID_SELF, remote_dom: remote.0, port: 0 };
    // SAFETY: the structure belongs to the command.
    unsafe { hypercalls::event_channel(EVTCHNOP_ALLOC_UNBOUND, &mut arg) }?;
    Ok(Port(arg.port))
}

pub(super) fn bind_interdomain(remote: DomId, remote_port: u32) -> Result<Port, Errno> {
    let mut arg = EvtchnBindInterdomain { remote_dom: remote.0, pad: 0, remote_port, local_port: 0 };
    // SAFETY: the structure belongs to the command.
    unsafe { hypercalls::event_channel(EVTCHNOP_BIND_INTERDOMAIN, &mut arg) }?;
    Ok(Port(arg.local_port))
}

pub(super) fn close(port: Port) -> Result<(), Errno> {
    // SAFETY: the structure belongs to the command.
    unsafe { hypercalls::event_channel(EVTCHNOP_CLOSE, &mut EvtchnPort { port: port.0 }) }
}

/// Closes every port of ours but `kept`.
pub(super) fn close_all_but(kept: &[Port]) {
    // What libxl allows a domain by default; the lowest free port is always taken first.
    const PORTS: u32 = 1024;
    for port in (1..PORTS).map(Port).filter(|port| !kept.contains(port)) {
        let _not_open = close(port);
    }
}

/// The shared page with Xen, and the relation of the two clocks.
pub(super) struct Events {
    pub(super) shared_info: SharedPage,
    /// Where Xen writes our run state for as long as the domain lives; `None` if it does not.
    runstate: Option<SharedPage>,
    /// Xen's system time minus [`time::now_ns`], as far as known: never too large.
    system_time_offset_ns: Cell<i64>,
}

impl Events {
    pub(super) fn new(physmap: &Physmap) -> Result<Events, Errno> {
        let shared_info = physmap.shared_info()?;
        // Mask first, so that no port can ever make the virtual interrupt pending.
        for word in 0..64 {
            store(&shared_info, shared_info::EVTCHN_MASK + word * 8, u64::MAX);
        }
        full_barrier();
        store(&shared_info, shared_info::EVTCHN_PENDING_SEL, 0);
        let _ = shared_info.store(shared_info::EVTCHN_UPCALL_PENDING, 0u8, Order::Relaxed);

        let area = SharedPage::alloc().ok_or(Errno::ENOMEM)?;
        let runstate = register_runstate(&area).ok().map(|()| area);
        let events = Events { shared_info, runstate, system_time_offset_ns: Cell::new(i64::MIN) };
        events.learn_offset();
        Ok(events)
    }

    fn is_pending(&self, port: Port) -> bool {
        event_bits::is_pending(&self.shared_info, port)
    }

    pub(super) fn take_pending(&self, port: Port) -> bool {
        event_bits::take_pending(&self.shared_info, port)
    }

    pub(super) fn poll(&self, ports: &[Port], deadline_ns: Option<u64>) -> Result<(), Errno> {
        let mut numbers = [0u32; POLL_MAX_PORTS];
        let numbers = numbers.get_mut(..ports.len()).ok_or(Errno::EINVAL)?;
        for (number, port) in numbers.iter_mut().zip(ports) {
            *number = port.0;
        }
        if ports.is_empty() && deadline_ns.is_none() {
            // Nothing could ever wake us.
            return Err(Errno::EINVAL);
        }
        // Xen may wake us early (an old timer, another port, an offset not yet well known):
        // check again then.
        let mut slack_ns = 0u64;
        loop {
            if ports.iter().any(|&port| self.is_pending(port)) {
                return Ok(());
            }
            let Some(deadline_ns) = deadline_ns else {
                hypercalls::sched_poll(numbers, 0)?;
                self.learn_offset();
                continue;
            };
            if time::now_ns() >= deadline_ns {
                return Ok(());
            }
            if self.runstate.is_none() {
                hypercalls::sched_yield();
                continue;
            }
            let system_ns = deadline_ns.saturating_add_signed(self.system_time_offset_ns.get());
            // 0 would mean to wait without limit.
            hypercalls::sched_poll(numbers, system_ns.saturating_add(slack_ns).max(1))?;
            if !self.learn_offset() {
                // Not even off the CPU: the deadline was in Xen's past. Double the reach.
                slack_ns = slack_ns.saturating_mul(2).max(FIRST_SLACK_NS);
            }
        }
    }

    /// Whether Xen keeps a run state for us, in memory of this incarnation.
    pub(super) fn has_runstate(&self) -> bool {
        self.runstate.is_some()
    }

    /// Time for which we wanted a CPU that others had, as of our last rest; 0 if Xen does not tell.
    pub(super) fn waited_ns(&self) -> u64 {
        let told = |area: &SharedPage| area.load::<u64>(runstate::TIME_RUNNABLE, Order::Relaxed).ok();
        self.runstate.as_ref().and_then(told).unwrap_or(0)
    }

    /// Improves what is known of the clocks' distance; whether it did.
    ///
    /// What Xen wrote down is not later than its clock now, so the difference is a lower bound:
    /// it makes a wake-up early, which [`Events::poll`] repairs, but never late. Right after a
    /// sleep it is exact.
    fn learn_offset(&self) -> bool {
        let Some(area) = &self.runstate else { return false };
        let Ok(scheduled_ns) = area.load::<u64>(runstate::STATE_ENTRY_TIME, Order::AcqRel) else {
            return false;
        };
        let offset_ns = scheduled_ns.wrapping_sub(time::now_ns()).cast_signed();
        let better = offset_ns > self.system_time_offset_ns.get();
        if better {
            self.system_time_offset_ns.set(offset_ns);
        }
        better
    }
}

fn store(page: &SharedPage, offset: usize, value: u64) {
    let stored = page.store(offset, value, Order::Relaxed);
    debug_assert!(stored.is_ok());
}

/// Has Xen write our run state into `area` from now on.
fn register_runstate(area: &SharedPage) -> Result<(), Errno> {
    let mut arg = RegisterRunstateMemoryArea { addr: area.addr() };
    let address = (&raw mut arg).addr() as u64;
    // SAFETY: Xen reads the structure, and from now on writes `struct vcpu_runstate_info` into
    // `area`, whose page stays in `Events` and is reached by volatile means only.
    // On failure Xen writes nothing.
    let result = unsafe {
        arch::hypercall(HYPERVISOR_VCPU_OP, [VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, address, 0, 0])
    };
    Errno::check(result).map(|_| ())
}
