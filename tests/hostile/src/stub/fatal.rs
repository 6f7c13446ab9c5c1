//! Attacks by the slot of an access, after which Xen ends the guest, or the guest itself. Each is made by a stub and
//! on a guest of its own.

use super::device::answers::outside;
use super::{Attack, Outcome, Site};
use alloc::string::ToString;
use xen_pv_sys::dm_op::ioreq;

/// The next access finds a slot that is not empty.
pub(super) const TWICE: &[Attack] = &[Attack {
    name: "answered-twice",
    tries: "a second answer, when nobody asked",
    run: |site| fatal(site, &[ioreq::STATE_RESP_READY, ioreq::STATE_RESP_READY]),
}];
/// From in process back to ready.
pub(super) const BACKWARDS: &[Attack] = &[Attack {
    name: "state-backwards",
    tries: "a state that goes backwards",
    run: |site| fatal(site, &[ioreq::STATE_INPROCESS, ioreq::STATE_READY]),
}];
/// None of the four.
pub(super) const UNKNOWN: &[Attack] =
    &[Attack { name: "state-unknown", tries: "a state that is none", run: |site| fatal(site, &[0x0f]) }];

/// Puts these states into the slot of a vCPU that waits, one after the other.
fn fatal(site: &mut Site, states: &[u8]) -> Outcome {
    site.hold()?;
    for &state in states {
        site.server.set_state(&site.xen, state).map_err(outside)?;
        site.rest(300);
    }
    Ok("written".to_string())
}
