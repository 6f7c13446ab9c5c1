//! What a frontend writes and reads of its nodes, and their end.

use super::paths::{Found, Name, Paths};
use super::{ConnectError, Session};
use crate::xenbus::{self, Phase, Step};
use crate::xenstore::{Ask, StoreError, Xenstore};
use kernel::Hypervisor;
use xen_pv_sys::io::xenbus::XenbusState;

/// How long the other end may take for each step of closing.
const CLOSE_TIMEOUT_NS: u64 = 5_000_000_000;

/// Makes what a frontend offers visible, all at once.
pub(crate) fn write_nodes<H: Hypervisor>(xs: &mut Xenstore<H>, asks: &[Ask]) -> Result<(), ConnectError> {
    // One transaction counts as one write against xenstored's rate limit for this domain,
    // which that number of single writes would exceed.
    let written = xs.transaction(|tx| {
        let missing = |answer: &Result<_, StoreError>| matches!(answer, Err(error) if error.is_not_found());
        // Only what is removed can be missing.
        tx.batch(asks)?
            .into_iter()
            .try_for_each(|answer| if missing(&answer) { Ok(()) } else { answer.map(drop) })
    });
    written.map_err(ConnectError::Store)
}

/// Whether our directory still is that of the connection. One that was made again holds nothing of it.
pub(crate) fn is_ours<H: Hypervisor, O>(
    xs: &mut Xenstore<H>,
    class: &'static str,
    session: &Session<O>,
) -> Result<bool, StoreError> {
    match Paths::find(xs, Name { class, number: session.number }, None) {
        Err(ConnectError::Store(error)) => Err(error),
        found => Ok(found
            .is_ok_and(|Found { paths, ours, .. }| paths == session.paths && ours == XenbusState::Connected)),
    }
}

/// Closes a connection in order: Closing, Closed, and the other end has let go of the pages.
///
/// # Errors
/// [`ConnectError::TimedOut`] if the other end does not follow.
pub(crate) fn close<H: Hypervisor, O>(
    xs: &mut Xenstore<H>,
    class: &'static str,
    session: &Session<O>,
) -> Result<(), ConnectError> {
    let paths = &session.paths;
    xenbus::write_state(xs, &paths.frontend, XenbusState::Closing)?;
    let closing = wait_for_within(xs, paths, Phase::Closing, CLOSE_TIMEOUT_NS);
    xenbus::write_state(xs, &paths.frontend, XenbusState::Closed)?;
    let closed = wait_for_within(xs, paths, Phase::Closed, CLOSE_TIMEOUT_NS);
    // Its directory may be gone, and the watch with it.
    let _ = xs.unwatch(&xenbus::state_path(&paths.backend), &paths.token);
    let _ = xs.unwatch(&Name { class, number: session.number }.pointer(), &paths.token);
    closing.and(closed)
}

/// Waits until the other end has done its part of `phase`.
pub(crate) fn wait_for_within<H: Hypervisor>(
    xs: &mut Xenstore<H>,
    paths: &Paths,
    phase: Phase,
    timeout_ns: u64,
) -> Result<(), ConnectError> {
    let deadline_ns = xs.hypervisor().now_ns().saturating_add(timeout_ns);
    match xenbus::wait_step(xs, &paths.backend, &paths.token, phase, deadline_ns)? {
        (Step::Done, _) => Ok(()),
        (Step::Wait, state) => Err(ConnectError::TimedOut(state)),
        (_, state) => Err(ConnectError::Refused(state)),
    }
}
