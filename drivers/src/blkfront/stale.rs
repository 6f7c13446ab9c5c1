//! Closing a connection that an earlier incarnation of this domain left.

use super::BlkFront;
use super::ConnectError;
use crate::frontend::{Device, Found, Name, Paths, wait_for_within};
use crate::xenbus::{self, Phase, Step};
use crate::xenstore::{StoreError, Xenstore};
use alloc::format;
use kernel::{Delay, DelayNs, Errno, GrantRef, Hypervisor, Order, Port, SharedPage};
use xen_pv_sys::io::ring::{REQ_PROD, RSP_PROD};
use xen_pv_sys::io::xenbus::XenbusState;

/// How long blkback may take to answer what the previous incarnation had sent.
const DRAIN_TIMEOUT_NS: u64 = 60_000_000_000;
/// How long it may take for each step of closing.
const CLOSE_TIMEOUT_NS: u64 = 10_000_000_000;
/// Between two polls at the ring.
const POLL_INTERVAL_MS: u32 = 1;

/// Waits until blkback of `device/vbd/<vdev>` has answered all that an earlier incarnation sent,
/// then closes that connection. Nothing of it can reach the disk any more afterwards.
///
/// The wait comes first because Linux's blkback does not wait by itself: it becomes Closed
/// with requests still at the disk, and refuses the next connection on their account.
///
/// `ring_page` gives the page that the previous incarnation granted. Without it there is no ring to
/// wait for.
///
/// # Errors
/// [`ConnectError`]; the connection is then in an unknown state.
pub fn close_stale<H: Hypervisor>(
    hv: &H,
    xs: &mut Xenstore<H>,
    vdev: u32,
    ring_page: impl Fn(GrantRef) -> Option<SharedPage>,
) -> Result<(), ConnectError> {
    let Found { paths, ours, .. } =
        Paths::find(xs, Name { class: <BlkFront<H> as Device<H>>::CLASS, number: vdev }, None)?;
    // Nothing was offered, so blkback has nothing of ours.
    if matches!(ours, XenbusState::Unknown | XenbusState::Initialising) {
        return Ok(());
    }
    // One of the two is there. Each page of a ring has its own; the first has the indices.
    let gref = match number(xs, &paths, "ring-ref0")? {
        Some(gref) => Some(gref),
        None => number(xs, &paths, "ring-ref")?,
    };
    if let Some(page) = gref.and_then(|gref| ring_page(GrantRef(gref))) {
        if let Some(port) = number(xs, &paths, "event-channel")? {
            // In case the previous incarnation published requests and could not say so any more.
            let _gone = hv.evtchn_send(Port(port));
        }
        drain(hv, xs, &paths, &page)?;
    }
    match xs.watch(&xenbus::state_path(&paths.backend), &paths.token) {
        Ok(()) | Err(StoreError::Refused(Errno::EEXIST)) => {}
        Err(error) => return Err(error.into()),
    }
    xenbus::write_state(xs, &paths.frontend, XenbusState::Closing)?;
    wait_for_within(xs, &paths, Phase::Closing, CLOSE_TIMEOUT_NS)?;
    xenbus::write_state(xs, &paths.frontend, XenbusState::Closed)?;
    wait_for_within(xs, &paths, Phase::Closed, CLOSE_TIMEOUT_NS)?;
    // So that the next connection need not close it once more.
    Ok(xenbus::write_state(xs, &paths.frontend, XenbusState::Initialising)?)
}

fn number<H: Hypervisor>(
    xs: &mut Xenstore<H>,
    paths: &Paths,
    key: &str,
) -> Result<Option<u32>, ConnectError> {
    match xs.read_number(&format!("{}/{key}", paths.frontend)) {
        Ok(number) => Ok(u32::try_from(number).ok()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until there are as many responses as requests, or blkback has left.
fn drain<H: Hypervisor>(
    hv: &H,
    xs: &mut Xenstore<H>,
    paths: &Paths,
    ring: &SharedPage,
) -> Result<(), ConnectError> {
    let started_ns = hv.now_ns();
    let mut polls = 0u32;
    loop {
        let index = |field| ring.load::<u32>(field, Order::AcqRel).unwrap_or(0);
        if index(REQ_PROD) == index(RSP_PROD) {
            return Ok(());
        }
        // Its state costs a request to xenstored, the ring a load: the state is read seldom.
        polls = polls.wrapping_add(1);
        if polls.is_multiple_of(64) {
            let state = xenbus::read_state(xs, &paths.backend)?;
            if xenbus::step(Phase::Connected, state) == Step::Lost {
                // Whatever has become of them, no answer comes any more.
                return Ok(());
            }
        }
        if hv.now_ns().saturating_sub(started_ns) > DRAIN_TIMEOUT_NS {
            return Err(ConnectError::TimedOut(XenbusState::Connected));
        }
        Delay::new(hv).delay_ms(POLL_INTERVAL_MS);
    }
}
