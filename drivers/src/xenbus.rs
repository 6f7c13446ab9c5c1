//! The handshake of a split driver over xenstore, frontend side, as a table.

use crate::xenstore::{StoreError, Xenstore, number};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use kernel::{Errno, Hypervisor};
use xen_pv_sys::io::xenbus::XenbusState;

/// How far our side is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Nothing offered yet (we are Initialising).
    Start,
    /// Ring and port are in xenstore (we are Initialised).
    Offered,
    /// In service (we are Connected).
    Connected,
    /// Shutting down (we are Closing).
    Closing,
    /// Done (we are Closed).
    Closed,
}

/// What our side does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing; the other end's next state decides.
    Wait,
    /// Read the other end's offer, write ring and port, become Initialised.
    Offer,
    /// Read the device's properties, become Connected.
    Connect,
    /// The other end will not serve us; give up.
    Refused,
    /// The other end left: the ring is dead.
    Lost,
    /// This phase is over: go on to the next.
    Done,
}

/// What to do in `phase` when the other end is in `state`.
#[must_use]
pub const fn step(phase: Phase, state: XenbusState) -> Step {
    use XenbusState as S;
    match (phase, state) {
        // A Closed storage backend driver that is still online starts again when it sees us
        // Initialising.
        (Phase::Start, S::Unknown | S::Initialising | S::Closing | S::Closed) => Step::Wait,
        (Phase::Start, S::InitWait | S::Initialised) => Step::Offer,
        // Connected to whom? It has seen no offer of ours.
        (Phase::Start, S::Connected) => Step::Refused,

        (Phase::Offered, S::Initialising | S::InitWait | S::Initialised) => Step::Wait,
        (Phase::Offered, S::Connected) => Step::Connect,
        (Phase::Offered, S::Unknown | S::Closing | S::Closed) => Step::Refused,

        (Phase::Connected, S::Connected) => Step::Wait,
        (
            Phase::Connected,
            S::Unknown | S::Initialising | S::InitWait | S::Initialised | S::Closing | S::Closed,
        ) => Step::Lost,

        (Phase::Closing, S::Unknown | S::Closing | S::Closed) => Step::Done,
        (Phase::Closing, S::Initialising | S::InitWait | S::Initialised | S::Connected) => Step::Wait,

        // InitWait: an online one is ready for the next connection already.
        (Phase::Closed, S::Unknown | S::Closed | S::InitWait) => Step::Done,
        (Phase::Closed, S::Initialising | S::Initialised | S::Connected | S::Closing) => Step::Wait,

        // Only PCI reconfigures.
        (_, S::Reconfiguring | S::Reconfigured) => Step::Wait,
    }
}

/// The state under `directory`; no such node, no number in it, or no right to read it (all
/// that xenstored tells of the directory of a domain that has gone) is
/// [`XenbusState::Unknown`].
///
/// # Errors
/// Any other failure of xenstore.
pub fn read_state<H: Hypervisor>(xs: &mut Xenstore<H>, directory: &str) -> Result<XenbusState, StoreError> {
    state_in(xs.read(&state_path(directory)))
}

/// The same of an answer to such a request.
///
/// # Errors
/// As there.
#[inline(never)]
pub fn state_in(answer: Result<Vec<u8>, StoreError>) -> Result<XenbusState, StoreError> {
    match answer.and_then(|value| number(&value)) {
        Ok(number) => Ok(XenbusState::from_number(number)),
        Err(StoreError::Refused(Errno::ENOENT | Errno::EINVAL | Errno::EACCES)) => Ok(XenbusState::Unknown),
        Err(error) => Err(error),
    }
}

/// Sets our state under `directory`.
///
/// # Errors
/// What xenstored answers.
#[inline(never)]
pub fn write_state<H: Hypervisor>(
    xs: &mut Xenstore<H>,
    directory: &str,
    state: XenbusState,
) -> Result<(), StoreError> {
    xs.write(&state_path(directory), format!("{}", state as u8).as_bytes())
}

/// The node that holds the state of the driver in `directory`.
#[must_use]
#[inline(never)]
pub fn state_path(directory: &str) -> String {
    format!("{directory}/state")
}

/// Waits, at most until `deadline_ns`, until the table has something to do in `phase` for
/// the other end in `directory`, whose state is watched with `token`. Returns that and the
/// other end's state; [`Step::Wait`] means the time is over.
///
/// # Errors
/// A failure of xenstore.
pub fn wait_step<H: Hypervisor>(
    xs: &mut Xenstore<H>,
    directory: &str,
    token: &str,
    phase: Phase,
    deadline_ns: u64,
) -> Result<(Step, XenbusState), StoreError> {
    // An event can be dropped when too many come, so check now and then without one.
    const POLL_INTERVAL_NS: u64 = 1_000_000_000;
    loop {
        let state = read_state(xs, directory)?;
        let next = step(phase, state);
        let now_ns = xs.hypervisor().now_ns();
        if next != Step::Wait || now_ns >= deadline_ns {
            return Ok((next, state));
        }
        xs.wait_event(token, deadline_ns.min(now_ns.saturating_add(POLL_INTERVAL_NS)))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use XenbusState as S;

    #[test]
    fn a_connection_takes_its_three_steps() {
        assert_eq!(step(Phase::Start, S::InitWait), Step::Offer);
        assert_eq!(step(Phase::Offered, S::InitWait), Step::Wait);
        assert_eq!(step(Phase::Offered, S::Connected), Step::Connect);
        assert_eq!(step(Phase::Connected, S::Connected), Step::Wait);
    }

    #[test]
    fn once_connected_only_connected_keeps_the_ring() {
        for number in 0..=6 {
            let state = S::from_number(number);
            let keeps = step(Phase::Connected, state) == Step::Wait;
            assert_eq!(keeps, state == S::Connected, "{state:?}");
        }
    }

    #[test]
    fn closing_waits_for_nothing_that_cannot_come() {
        for phase in [Phase::Closing, Phase::Closed] {
            assert_eq!(step(phase, S::Unknown), Step::Done);
            assert_eq!(step(phase, S::Closed), Step::Done);
            assert_eq!(step(phase, S::Connected), Step::Wait);
        }
    }

    #[test]
    fn a_back_end_that_gives_up_refuses() {
        for state in [S::Closing, S::Closed, S::Unknown] {
            assert_eq!(step(Phase::Offered, state), Step::Refused);
        }
        assert_eq!(step(Phase::Start, S::Connected), Step::Refused);
    }
}
