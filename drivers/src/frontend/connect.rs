//! A connection that is waited for.

use super::reconnect::{Advance, Reconnect};
use super::{ConnectError, Device};
use crate::xenstore::Xenstore;
use kernel::Hypervisor;

/// How long the other end may take for each step of the handshake. Its hotplug script may
/// still be running.
pub(crate) const CONNECT_TIMEOUT_NS: u64 = 60_000_000_000;
/// Look again after so long without an event: one can be dropped when too many come.
const POLL_INTERVAL_NS: u64 = 1_000_000_000;
/// Transitions of a handshake at most: closing what an earlier incarnation left, then connecting.
const TRANSITIONS_MAX: u32 = 16;

/// Connects, and waits `timeout_ns` for each step of it. A failure is final, and leaves nothing behind.
pub(crate) fn connect<H: Hypervisor, D: Device<H>>(
    xs: &mut Xenstore<H>,
    mut way: Reconnect<H, D>,
    timeout_ns: u64,
) -> Result<D, ConnectError> {
    let connected = wait(xs, &mut way, timeout_ns);
    if connected.is_err() {
        way.abandon(xs);
    }
    connected
}

fn wait<H: Hypervisor, D: Device<H>>(
    xs: &mut Xenstore<H>,
    way: &mut Reconnect<H, D>,
    timeout_ns: u64,
) -> Result<D, ConnectError> {
    let token = way.name().token();
    let mut transitions = 0u32;
    let mut deadline_ns = xs.hypervisor().now_ns().saturating_add(timeout_ns);
    loop {
        let advance = way.advance(xs)?;
        let now_ns = xs.hypervisor().now_ns();
        match advance {
            Advance::Connected(front) => return Ok(*front),
            // One that goes to and fro would otherwise keep the stub here without end.
            Advance::Again if transitions < TRANSITIONS_MAX => {
                transitions = transitions.saturating_add(1);
                // Each step has its own time: a slow hotplug script is no sign of a dead peer.
                deadline_ns = now_ns.saturating_add(timeout_ns);
            }
            Advance::Again => return Err(ConnectError::Restless),
            Advance::Wait(state) if now_ns >= deadline_ns => return Err(ConnectError::TimedOut(state)),
            Advance::Wait(_) => {
                xs.wait_event(&token, deadline_ns.min(now_ns.saturating_add(POLL_INTERVAL_NS)))?;
            }
        }
    }
}
