//! Attacks by the slot in which an access of the guest waits. These let the guest live.

use super::super::site::not_made;
use super::super::{Attack, Outcome, Site, Wrong};
use alloc::format;
use alloc::string::ToString;
use kernel::{Hypervisor, Order, OutOfPage};
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::dm_op::ioreq;

/// The attacks.
pub(in crate::stub) const ATTACKS: &[Attack] = &[
    Attack {
        name: "never-answered",
        tries: "an access that nobody answers: its vCPU waits inside Xen",
        run: never_answered,
    },
    Attack {
        name: "answered-late",
        tries: "each access answered after a quarter of a second",
        run: answered_late,
    },
    Attack {
        name: "answered-by-stages",
        tries: "a slot that is in process before it is answered",
        run: answered_by_stages,
    },
    Attack { name: "answer-withdrawn", tries: "a slot emptied while its vCPU waits", run: answer_withdrawn },
    Attack {
        name: "woken-for-nothing",
        tries: "notifications at full rate with no answer",
        run: woken_for_nothing,
    },
    Attack {
        name: "slot-rewritten",
        tries: "every field of the access changed at full rate while Xen uses it",
        run: slot_rewritten,
    },
    Attack {
        name: "port-rewritten",
        tries: "the slot's event channel changed while its vCPU waits",
        run: port_rewritten,
    },
    Attack {
        name: "port-closed",
        tries: "the event channel closed and bound again while its vCPU waits",
        run: port_closed,
    },
    Attack {
        name: "slots-of-no-vcpu",
        tries: "answers in the slots of vCPUs that there are not",
        run: slots_of_no_vcpu,
    },
];

const QUARTER_NS: u64 = 250_000_000;

/// As an error of the attack: every offset is inside the page.
pub(in crate::stub) fn outside(_: OutOfPage) -> Wrong {
    Wrong::NotMade("an offset outside the page".to_string())
}

/// How often the guest comes, once the attack is over.
fn goes_on(site: &mut Site, what: &str) -> Outcome {
    let answered = site.serve(QUARTER_NS);
    Ok(format!("{what}, then {answered} accesses answered"))
}

fn never_answered(site: &mut Site) -> Outcome {
    site.hold()?;
    site.rest(3000);
    goes_on(site, "3 s")
}

fn answered_late(site: &mut Site) -> Outcome {
    for _ in 0..6 {
        site.hold()?;
        site.rest(250);
        site.server.answer(&site.xen).map_err(outside)?;
    }
    goes_on(site, "6 late")
}

fn answered_by_stages(site: &mut Site) -> Outcome {
    for _ in 0..20 {
        site.hold()?;
        site.server.set_state(&site.xen, ioreq::STATE_INPROCESS).map_err(outside)?;
        site.rest(5);
        site.server.set_state(&site.xen, ioreq::STATE_RESP_READY).map_err(outside)?;
    }
    goes_on(site, "20 by stages")
}

fn answer_withdrawn(site: &mut Site) -> Outcome {
    for _ in 0..20 {
        site.hold()?;
        site.server.set_state(&site.xen, ioreq::STATE_NONE).map_err(outside)?;
    }
    goes_on(site, "20 withdrawn")
}

fn woken_for_nothing(site: &mut Site) -> Outcome {
    site.hold()?;
    let sent = site.flood(|site, _| {
        let _ = site.xen.evtchn_send(site.server.port);
    });
    goes_on(site, &format!("{sent} sent"))
}

fn slot_rewritten(site: &mut Site) -> Outcome {
    let mut held = 0_u32;
    let blows = site.flood(|site, n| {
        let word = n.wrapping_mul(0x9e37_79b9);
        let waits = site.server.state() == Ok(ioreq::STATE_READY);
        // All but the port and the state, which decide whether the guest lives.
        for at in (0..ioreq::VP_EPORT).step_by(4).filter(|_| waits) {
            let _ = site.server.page.store(at, word, Order::Relaxed);
        }
        if waits && n.is_multiple_of(50) {
            let kind = n.to_le_bytes()[0];
            let _ = site.server.page.store(ioreq::TYPE, kind, Order::Relaxed);
            let bits = ioreq::STATE_RESP_READY | (kind & !ioreq::STATE_MASK);
            let _ = site.server.page.store(ioreq::STATE_BITS, bits, Order::AcqRel);
            let _ = site.xen.evtchn_send(site.server.port);
            held = held.wrapping_add(1);
        }
    });
    goes_on(site, &format!("{blows} times, {held} answered with it"))
}

fn port_rewritten(site: &mut Site) -> Outcome {
    site.hold()?;
    let blows = site.flood(|site, n| {
        let _ = site.server.page.store(ioreq::VP_EPORT, n, Order::AcqRel);
        let _ = site.xen.evtchn_send(site.server.port);
    });
    // Xen compares it when the next access comes.
    site.server.page.store(ioreq::VP_EPORT, site.server.remote, Order::AcqRel).map_err(outside)?;
    goes_on(site, &format!("{blows} times"))
}

fn port_closed(site: &mut Site) -> Outcome {
    site.hold()?;
    let mut failed = None;
    let times = site.flood(|site, _| failed = failed.or(site.server.rebind(&site.xen, site.target).err()));
    failed.map_or(Ok(()), |errno| Err(not_made("to bind again")(errno)))?;
    goes_on(site, &format!("{times} times"))
}

fn slots_of_no_vcpu(site: &mut Site) -> Outcome {
    for at in (ioreq::SIZE..PAGE_SIZE).step_by(4) {
        site.server.page.store(at, 0x0303_0303_u32, Order::Relaxed).map_err(outside)?;
    }
    goes_on(site, "all written")
}
