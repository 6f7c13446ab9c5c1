//! Wraps an engine and makes it slow, full or wrong, on demand. For tests.

use super::{Geometry, Io, Operation, Outcome, Storage, Submitted, Ticket};
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::Cell;
use kernel::Port;

/// The knobs, shared with the test that turns them.
#[derive(Debug, Default)]
pub struct Faults {
    /// Fail the next so many requests.
    pub fail_next: Cell<u32>,
    /// Keep requests pending until this is taken back.
    pub hold: Cell<bool>,
    /// Let so many of the pending ones come back, all the same.
    pub release: Cell<u32>,
    /// Take at most so many requests at a time; 0 is no limit.
    pub depth: Cell<usize>,
    /// Requests that the engine was asked to serve.
    pub submitted: Cell<u32>,
    /// Flushes among them.
    pub flushes: Cell<u32>,
    /// Something was submitted and not sent off, and how often something was.
    pub unsent: Cell<bool>,
    /// See above.
    pub sent: Cell<u32>,
    /// The port to tell of: that of an engine with events.
    pub port: Cell<Option<Port>>,
    /// For how many completions it was last asked for an event.
    pub completions_wanted: Cell<u32>,
    /// The geometry to tell of, instead of the engine's own.
    pub geometry: Cell<Option<Geometry>>,
}

/// An engine with faults.
pub struct FaultyStorage<S> {
    inner: S,
    faults: Rc<Faults>,
    waiting: VecDeque<(Ticket, Outcome)>,
}

impl<S: Storage> FaultyStorage<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, faults: Rc<Faults>) -> FaultyStorage<S> {
        FaultyStorage { inner, faults, waiting: VecDeque::new() }
    }

    /// The engine in a later incarnation of its device: what was done is done, and no request of the
    /// incarnation before comes back.
    #[must_use]
    pub fn forget(self) -> FaultyStorage<S> {
        FaultyStorage { waiting: VecDeque::new(), ..self }
    }
}

impl<S: Storage> Storage for FaultyStorage<S> {
    fn geometry(&self) -> Geometry {
        self.faults.geometry.get().unwrap_or_else(|| self.inner.geometry())
    }

    fn port(&self) -> Option<Port> {
        self.faults.port.get().or_else(|| self.inner.port())
    }

    fn submit(&mut self, io: &Io<'_>, ticket: Ticket) -> Submitted {
        let depth = self.faults.depth.get();
        if depth > 0 && self.waiting.len() >= depth {
            return Submitted::Full(ticket);
        }
        self.faults.unsent.set(true);
        let count = &self.faults.submitted;
        count.set(count.get().saturating_add(1));
        if ticket.operation() == Operation::Flush {
            self.faults.flushes.set(self.faults.flushes.get().saturating_add(1));
        }
        if let Some(left) = self.faults.fail_next.get().checked_sub(1) {
            self.faults.fail_next.set(left);
            return Submitted::Done(ticket, Outcome::IoError);
        }
        match self.inner.submit(io, ticket) {
            // The data is copied early; the test looks at the answer only.
            Submitted::Done(ticket, outcome) if self.faults.hold.get() => {
                self.waiting.push_back((ticket, outcome));
                Submitted::Pending
            }
            other => other,
        }
    }

    fn kick(&mut self) {
        let sent = u32::from(self.faults.unsent.take());
        self.faults.sent.set(self.faults.sent.get().saturating_add(sent));
        self.inner.kick();
    }

    fn responses(&self) -> u32 {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let free = if self.faults.hold.get() { self.faults.release.get() } else { u32::MAX };
        waiting.min(free).saturating_add(self.inner.responses())
    }

    fn next_completion(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        if self.faults.hold.get() {
            self.faults.release.set(self.faults.release.get().checked_sub(1)?);
        }
        self.waiting.pop_front().or_else(|| self.inner.next_completion(io))
    }

    fn enable_events(&mut self, completions: u32) -> bool {
        self.faults.completions_wanted.set(completions);
        (!self.faults.hold.get() && !self.waiting.is_empty()) || self.inner.enable_events(completions)
    }
}
