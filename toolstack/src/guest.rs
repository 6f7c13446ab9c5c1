//! What is to be done for one guest: a state machine without side effects.
//!
//! [`Guest::step`] judges what stands in xenstore now, not what changed, so a lost or doubled
//! watch event does no harm, and a daemon that has just started needs no special case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::disk::node::{NodeState, state};
use crate::stub::health::CLOSED;
use crate::stub::record::{Record, Stub};

/// The pause after a stub could not be destroyed.
const RETRY: Duration = Duration::from_secs(2);
/// libxl writes a disk with some 60 requests in one transaction; reading a disk's state takes six.
/// Where reading takes long (a loaded host, an emulator), so does libxl: a gap between two disks
/// is no longer than this many reads.
const READS_PER_GAP: u32 = 20;

/// How far a guest's service has come.
#[derive(Debug)]
pub enum Phase {
    /// Nothing is known of it but its nodes.
    Idle,
    /// A predecessor was killed while it made or removed a stub: there may be one.
    Interrupted,
    /// New disks are there; more may follow.
    Collecting {
        /// When the first was seen.
        first: Instant,
        /// When the last change was seen.
        last: Instant,
        /// What was seen then.
        nodes: Vec<NodeState>,
        /// How long nothing must change.
        quiet: Duration,
    },
    /// A worker makes the stub.
    Launching {
        /// Tells the worker to give up.
        cancel: Arc<AtomicBool>,
        /// The stub's UUID.
        uuid: String,
    },
    /// The stub serves.
    Serving(Stub),
    /// The stub has died; the policy was applied. Disks whose nodes have gone are forgotten.
    Broken,
    /// A worker removes the stub.
    Stopping,
    /// The stub could not be removed.
    StopFailed {
        /// When to try again.
        retry: Instant,
    },
    /// The disks are closed; libxl removes the nodes.
    Closed {
        /// When to do it instead of libxl.
        until: Instant,
    },
}

/// What stands in xenstore and in Xen.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The guest's disks.
    pub nodes: Vec<NodeState>,
    /// The guest exists and is not being destroyed.
    pub guest_lives: bool,
    /// It lives, and is neither paused nor shut down. libxl pauses a guest before it closes its disks.
    pub guest_runs: bool,
    /// How long it took to read one disk's state.
    pub read_time: Duration,
    /// Why the stub serves no more; known in [`Phase::Serving`] only.
    pub failure: Option<String>,
}

impl Observation {
    /// Nobody needs the stub any more.
    fn is_over(&self) -> bool {
        !self.guest_lives || self.nodes.is_empty() || self.nodes.iter().any(NodeState::is_closing)
    }

    /// Why the policy is for a stub whose guest's disks are closed or gone; `None` if they are because nobody needs the
    /// stub any more. The nodes of a stub that was made before its guest are below its own directory, and its own: they
    /// go with it, and it can write there what libxl would.
    fn bereft_by(&self, stub: &Stub) -> Option<&str> {
        let gone = self.guest_lives && self.nodes.is_empty();
        let failure = self.failure.as_deref().filter(|_| gone);
        let closed = self.guest_runs && self.is_over();
        stub.identity.made_as.as_ref().and(failure.or(closed.then_some(CLOSED)))
    }

    fn has_new(&self) -> bool {
        self.nodes.iter().any(NodeState::is_new)
    }
}

/// What to do now.
#[derive(Debug, Eq, PartialEq)]
pub enum Action {
    /// Nothing until something changes.
    Nothing,
    /// Launch a stub; libxl waits until the time given.
    Launch(Instant),
    /// Remove whatever stub there is and close the disks.
    Stop,
    /// The stub died for the reason given: apply `on-stub-crash`.
    ApplyCrashPolicy(Stub, String),
    /// These disks came too late for the stub.
    RefuseLate(Vec<u32>),
    /// Remove what libxl left of closed disks.
    Tidy,
    /// There is nothing left to do for this guest.
    Forget,
}

/// One guest.
#[derive(Debug)]
pub struct Guest {
    /// How far it has come.
    pub phase: Phase,
}

/// The times that matter here.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// No new disk for this long: complete.
    pub quiet: Duration,
    /// From the first disk to a stub that serves.
    pub launch: Duration,
    /// How long closed nodes are left to libxl.
    pub tidy: Duration,
}

impl Times {
    /// How long nothing must change, where reading a disk's state takes `read_time`.
    fn quiet_for(&self, read_time: Duration) -> Duration {
        // An eighth at most: the launch needs the rest.
        self.quiet.max((read_time * READS_PER_GAP).min(self.launch / 8))
    }
}

impl Guest {
    /// A guest of which nothing is known.
    #[must_use]
    pub fn new() -> Guest {
        Guest { phase: Phase::Idle }
    }

    /// A guest that a predecessor served.
    #[must_use]
    pub fn adopted(record: Record) -> Guest {
        let phase = match record {
            Record::Interrupted => Phase::Interrupted,
            Record::Serving(stub) => Phase::Serving(stub),
        };
        Guest { phase }
    }

    /// Decides what to do, and moves on. The caller carries the action out.
    pub fn step(&mut self, seen: &Observation, now: Instant, times: &Times) -> Action {
        match &self.phase {
            Phase::Idle | Phase::Interrupted | Phase::Broken => self.step_resting(seen, now, times),
            Phase::Collecting { .. } => self.step_collecting(seen, now, times),
            Phase::Launching { cancel, .. } => {
                // The worker removes what it has made, and reports; only then comes the next step.
                if seen.is_over() {
                    cancel.store(true, Ordering::Relaxed);
                }
                Action::Nothing
            }
            Phase::Serving(_) => self.step_serving(seen),
            Phase::Stopping => Action::Nothing,
            Phase::StopFailed { retry } if now < *retry => Action::Nothing,
            Phase::StopFailed { .. } => {
                self.phase = Phase::Stopping;
                Action::Stop
            }
            Phase::Closed { .. } if seen.nodes.is_empty() => Action::Forget,
            // With the guest's domain gone, libxl has either removed the nodes or given up.
            Phase::Closed { until } if seen.guest_lives && now < *until => Action::Nothing,
            Phase::Closed { .. } => {
                self.phase = Phase::Idle;
                Action::Tidy
            }
        }
    }

    /// Disks wait for a stub, and more may come.
    fn step_collecting(&mut self, seen: &Observation, now: Instant, times: &Times) -> Action {
        if seen.is_over() || !seen.has_new() {
            self.phase = Phase::Idle;
            return self.step_resting(seen, now, times);
        }
        let Phase::Collecting { first, last, nodes, quiet } = &mut self.phase else { return Action::Nothing };
        if *nodes != seen.nodes {
            log::debug!("{} disks after {} ms", seen.nodes.len(), now.duration_since(*first).as_millis());
            (*last, *nodes) = (now, seen.nodes.clone());
        }
        // Never shorter again: the slowest read shows best how slow libxl may be.
        *quiet = (*quiet).max(times.quiet_for(seen.read_time));
        if now.duration_since(*last) < *quiet {
            return Action::Nothing;
        }
        // libxl counts its 10 s from the first disk.
        Action::Launch(*first + times.launch)
    }

    /// The stub serves, or did so when it was last seen.
    fn step_serving(&mut self, seen: &Observation) -> Action {
        let Phase::Serving(stub) = &self.phase else { return Action::Nothing };
        // Before the failure: a guest that goes needs no policy, and its stub may be gone already.
        let bereft = seen.bereft_by(stub);
        if seen.is_over() && bereft.is_none() {
            self.phase = Phase::Stopping;
            return Action::Stop;
        }
        if let Some(failure) = bereft.or(seen.failure.as_deref()) {
            let action = Action::ApplyCrashPolicy(stub.clone(), failure.to_owned());
            // The policy is applied once; what is left of the stub stays until its guest goes.
            self.phase = Phase::Broken;
            return action;
        }
        let is_late = |node: &&NodeState| node.is_new() && !stub.disks.contains(&node.disk);
        let late: Vec<u32> = seen.nodes.iter().filter(is_late).map(|node| node.disk).collect();
        if late.is_empty() { Action::Nothing } else { Action::RefuseLate(late) }
    }

    /// Idle, interrupted, or broken: no stub that serves.
    fn step_resting(&mut self, seen: &Observation, now: Instant, times: &Times) -> Action {
        let broken = matches!(self.phase, Phase::Broken);
        let maybe_stub = broken || matches!(self.phase, Phase::Interrupted);
        if seen.is_over() {
            if seen.nodes.is_empty() && !maybe_stub {
                return Action::Forget;
            }
            if !maybe_stub && seen.nodes.iter().all(|n| n.state == state::CLOSED) {
                // Closed before this daemon's time, or refused and left: only to be tidied up.
                self.phase = Phase::Closed { until: now };
                return Action::Tidy;
            }
            // Even without a stub: libxl waits for its disks to be closed.
            self.phase = Phase::Stopping;
            return Action::Stop;
        }
        // A guest whose stub broke gets no other: Xen still has the old one's ioreq server.
        if !broken && seen.has_new() {
            let quiet = times.quiet_for(seen.read_time);
            self.phase = Phase::Collecting { first: now, last: now, nodes: seen.nodes.clone(), quiet };
        }
        Action::Nothing
    }

    /// A worker has begun to launch.
    pub fn launching(&mut self, cancel: Arc<AtomicBool>, uuid: String) {
        self.phase = Phase::Launching { cancel, uuid };
    }

    /// The worker that launched has ended; returns whether the failure is the guest's to hear.
    pub fn launched(&mut self, stub: Option<Stub>) -> bool {
        let cancelled = match &self.phase {
            Phase::Launching { cancel, .. } => cancel.load(Ordering::Relaxed),
            _ => false,
        };
        let failed = stub.is_none();
        self.phase = match stub {
            Some(stub) => Phase::Serving(stub),
            // What the worker could not remove is searched for again when the guest goes.
            None => Phase::Interrupted,
        };
        failed && !cancelled
    }

    /// The worker that stopped has ended.
    pub fn stopped(&mut self, ok: bool, now: Instant, times: &Times) {
        self.phase = if ok {
            Phase::Closed { until: now + times.tidy }
        } else {
            Phase::StopFailed { retry: now + RETRY }
        };
    }

    /// Whether the stub domain with this UUID has a place here.
    #[must_use]
    pub fn owns(&self, stub_uuid: &str) -> bool {
        match &self.phase {
            Phase::Launching { uuid, .. } => uuid == stub_uuid,
            Phase::Serving(stub) => stub.identity.uuid == stub_uuid,
            // A dead stub is kept for inspection until its guest goes; any other is swept by
            // the launch or the removal that comes next.
            Phase::Broken | Phase::Stopping | Phase::StopFailed { .. } => true,
            Phase::Interrupted | Phase::Collecting { .. } => true,
            Phase::Idle | Phase::Closed { .. } => false,
        }
    }

    /// Whether a worker launches the stub domain with this UUID.
    #[must_use]
    pub fn launches(&self, stub_uuid: &str) -> bool {
        matches!(&self.phase, Phase::Launching { uuid, .. } if uuid == stub_uuid)
    }

    /// The domain of the stub that serves.
    #[must_use]
    pub fn stub_domid(&self) -> Option<u16> {
        if let Phase::Serving(stub) = &self.phase { Some(stub.domid) } else { None }
    }

    /// When to step even if nothing changes.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Collecting { last, quiet, .. } => Some(*last + *quiet),
            Phase::StopFailed { retry } => Some(*retry),
            Phase::Closed { until } => Some(*until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
