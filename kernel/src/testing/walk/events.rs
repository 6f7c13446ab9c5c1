//! `event_channel_op`. Operations on a port of this domain get one that was made for them.

use super::{Answer, DomId, Errno, Op, Walker};
use xen_pv_sys::xen::{DOMID_SELF, HYPERVISOR_EVENT_CHANNEL_OP};

/// `EVTCHNOP_*` of `public/event_channel.h`.
const STATUS: u32 = 5;
const ALLOC_UNBOUND: u32 = 6;
const RESET: u32 = 10;
/// A vCPU that no domain has.
const NO_VCPU: u32 = 999;

/// `EVTCHNOP_*`; of virtual interrupts, those that any domain has and those for dom0 alone.
pub(super) const EVENTS: &[Op] = &[
    Op::each("alloc_unbound_of", ALLOC_UNBOUND, alloc_unbound_of),
    Op::each("alloc_unbound_for", ALLOC_UNBOUND, alloc_unbound_for),
    Op::each("bind_interdomain", 0, bind_interdomain),
    Op::alone("bind_virq/timer", 0, bind_virq),
    Op::alone("bind_virq/debug", 1, bind_virq),
    Op::alone("bind_virq/console", 2, bind_virq),
    Op::alone("bind_virq/dom_exc", 3, bind_virq),
    Op::alone("bind_virq/tbuf", 4, bind_virq),
    Op::alone("bind_virq/con_ring", 8, bind_virq),
    Op::alone("bind_virq/pcpu_state", 9, bind_virq),
    Op::alone("bind_virq/enomem", 12, bind_virq),
    Op::alone("bind_virq/24", 24, bind_virq),
    Op::alone("bind_pirq", 2, bind_pirq),
    Op::alone("close", 3, on_port),
    Op::alone("send", 4, on_port),
    Op::each("status", STATUS, status),
    Op::alone("bind_ipi", 7, bind_ipi),
    Op::alone("bind_vcpu", 8, on_port),
    Op::alone("unmask", 9, on_port),
    Op::each("reset", RESET, reset),
    Op::each("reset_cont", 14, reset),
    Op::alone("init_control", 11, init_control),
    Op::alone("expand_array", 12, expand_array),
    Op::alone("set_priority", 13, on_port),
    Op::alone("15", 15, on_port),
];

impl Walker {
    fn event_op(&mut self, op: u32) -> Result<u64, Errno> {
        let argument = self.frame.argument();
        self.call(HYPERVISOR_EVENT_CHANNEL_OP, [u64::from(op), argument, 0, 0, 0])
    }

    /// A new port in `of` that waits for `remote`.
    fn port_of(&mut self, of: DomId, remote: DomId) -> Result<u32, Errno> {
        self.blank().put16(0, of.0).put16(2, remote.0);
        self.event_op(ALLOC_UNBOUND)?;
        Ok(self.frame.get32(4))
    }

    fn own_port(&mut self) -> u32 {
        self.port_of(DomId(DOMID_SELF), DomId(DOMID_SELF)).unwrap_or(0)
    }

    /// This domain's number: that for which a port for itself waits. A policy may allow it no such port.
    pub(super) fn own_domid(&mut self) -> Result<DomId, Errno> {
        let port = match self.port_of(DomId(DOMID_SELF), DomId(DOMID_SELF)) {
            Err(Errno::EACCES) => return self.own_domid_by_grants().ok_or(Errno::EACCES),
            port => port?,
        };
        self.blank().put16(0, DOMID_SELF).put32(4, port);
        self.event_op(STATUS)?;
        Ok(DomId(self.frame.get16(16)))
    }
}

fn alloc_unbound_of(walker: &mut Walker, _: u32, object: DomId) -> Answer {
    walker.port_of(object, DomId(DOMID_SELF)).map(u64::from).into()
}

fn alloc_unbound_for(walker: &mut Walker, _: u32, object: DomId) -> Answer {
    walker.port_of(DomId(DOMID_SELF), object).map(u64::from).into()
}

/// With a port of the object that waits for this domain, if it lets itself be given one.
fn bind_interdomain(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let port = walker.port_of(object, DomId(DOMID_SELF)).unwrap_or(1);
    walker.blank().put16(0, object.0).put32(4, port);
    walker.event_op(op).into()
}

/// Looks at a port made as above, or else at the first.
fn status(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    let port = walker.port_of(object, DomId(DOMID_SELF)).unwrap_or(1);
    walker.blank().put16(0, object.0).put32(4, port);
    walker.event_op(op).into()
}

fn bind_virq(walker: &mut Walker, virq: u32) -> Answer {
    walker.blank().put32(0, virq);
    walker.event_op(1).into()
}

/// An interrupt of the machine.
fn bind_pirq(walker: &mut Walker, op: u32) -> Answer {
    walker.blank().put32(0, 40);
    walker.event_op(op).into()
}

fn bind_ipi(walker: &mut Walker, op: u32) -> Answer {
    walker.blank();
    walker.event_op(op).into()
}

/// Operations that name a port of the caller first, and of which the rest may be zero.
fn on_port(walker: &mut Walker, op: u32) -> Answer {
    let port = walker.own_port();
    walker.blank().put32(0, port);
    walker.event_op(op).into()
}

/// Closes all ports of the object. Not of this domain, whose console would fall silent; what continues a
/// reset asks for the same right, and there is none to continue.
fn reset(walker: &mut Walker, op: u32, object: DomId) -> Answer {
    if op == RESET && walker.is_own(object) {
        return Answer::LeftOut;
    }
    walker.blank().put16(0, object.0);
    walker.event_op(op).into()
}

/// With a vCPU that there is not: else the ports of this domain would change their form.
fn init_control(walker: &mut Walker, op: u32) -> Answer {
    walker.blank().put32(12, NO_VCPU);
    walker.event_op(op).into()
}

fn expand_array(walker: &mut Walker, op: u32) -> Answer {
    walker.blank();
    walker.event_op(op).into()
}
