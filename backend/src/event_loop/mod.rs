//! The event loop: serve while there is work, poll for more while that pays, then block.
//!
//! One [`EventLoop::round`] after the other, and [`EventLoop::block`] when one says that nothing
//! is left to do:
//!
//! - When a round has worked, another one follows: no event is asked for, none is waited for.
//! - When it has not, the stub polls for more for a while ([`busy_poll`]).
//! - When that was in vain, xenstore gets its turn ([`housekeeping`]); under load it gets one
//!   every so often.
//! - Before the stub blocks it asks everybody for events, and polls once more: what comes after
//!   that sends an event.
//! - While pages of the guest's memory are stale, the stub unmaps them and does not block.

pub mod busy_poll;
pub mod housekeeping;

use crate::guest_mem::GuestMemory;
use crate::stats::LoopStats;
use crate::storage::AnyStorage;
use crate::stub::Stub;
use busy_poll::BusyPoll;
use drivers::Xenstore;
use heapless::Vec;
use kernel::{Errno, Hypervisor, Port};
use xen_pv_sys::sched::POLL_MAX_PORTS;

/// Busy rounds after which xenstore gets a turn, so that load cannot keep it out.
const STORE_ROUNDS: u32 = 256;
/// Rounds after which a few stale pages of the guest's memory are unmapped, for the same reason.
const SWEEP_ROUNDS: u32 = 32;

/// What is done between serving and blocking. True: there may be new work. A function of the
/// image, so that it is compiled there, for size; mostly [`housekeeping::housekeep`].
pub type Housekeeping<H, M> = fn(&mut Xenstore<H>, &mut Stub<H, M, AnyStorage<H>>, &LoopStats) -> bool;

/// A stub that serves.
pub struct EventLoop<H: Hypervisor, M> {
    hv: H,
    stub: Stub<H, M, AnyStorage<H>>,
    xs: Xenstore<H>,
    housekeeping: Housekeeping<H, M>,
    busy_poll: BusyPoll,
    rounds: u32,
    /// When what is held back is due, as of the last round that left nothing to do.
    hold_deadline_ns: Option<u64>,
    stats: LoopStats,
}

impl<H: Hypervisor, M: GuestMemory> EventLoop<H, M> {
    /// A loop around `stub` and `xs`, which polls for `busy_poll_ns` at most before it blocks.
    #[must_use]
    pub fn new(
        hv: &H,
        xs: Xenstore<H>,
        stub: Stub<H, M, AnyStorage<H>>,
        housekeeping: Housekeeping<H, M>,
        busy_poll_ns: u64,
    ) -> EventLoop<H, M> {
        EventLoop {
            hv: hv.clone(),
            stub,
            xs,
            housekeeping,
            busy_poll: BusyPoll::new(busy_poll_ns),
            rounds: 0,
            hold_deadline_ns: None,
            stats: LoopStats::default(),
        }
    }

    /// Serves until the domain is destroyed; returns only if it cannot wait for events, and why.
    pub fn run(&mut self) -> Errno {
        loop {
            if self.round() {
                continue;
            }
            if let Err(errno) = self.block(None) {
                return errno;
            }
        }
    }

    /// One round of work. False: nothing is left to do, and whatever comes next sends an event:
    /// [`EventLoop::block`].
    pub fn round(&mut self) -> bool {
        self.rounds = self.rounds.wrapping_add(1);
        let worked = self.stub.run_once();
        self.stats.polls.bump();
        self.stats.worked.add(worked.into());
        let unswept = self.stub.memory().is_unswept();
        if unswept && self.rounds.is_multiple_of(SWEEP_ROUNDS) {
            self.stub.memory().sweep();
        }
        self.busy_poll.begin();
        // Who has something to do does not poll for more.
        let busy = worked || !unswept && self.poll();
        if busy && !self.rounds.is_multiple_of(STORE_ROUNDS) {
            return true;
        }
        let changed = (self.housekeeping)(&mut self.xs, &mut self.stub, &self.stats);
        // Events are asked for only now: who is busy need not be told.
        // What is left in xenstore's ring has sent its event already: none would end the sleep.
        if changed || busy || self.stub.enable_events() || self.xs.has_pending() {
            return true;
        }
        #[cfg(feature = "nbd")]
        if housekeeping::enable_network_events(&mut self.stub) {
            return true;
        }
        // After the events: what is asked for there decides whether a time has to be waited for.
        self.hold_deadline_ns = self.stub.hold_deadline_ns(|| self.hv.now_ns());
        if unswept {
            // The guest may want its old frames back, so that comes before sleep.
            self.stub.memory().sweep();
        }
        // Some may be left: the next round finds out.
        unswept
    }

    /// Sleeps until an event comes, or something is due, or it is `wake_ns`.
    ///
    /// # Errors
    /// What Xen answers: no event can be waited for.
    pub fn block(&mut self, wake_ns: Option<u64>) -> Result<(), Errno> {
        self.stats.blocks.bump();
        // Gathered each time: a disk has another port when it has another storage backend.
        let mut ports: Vec<Port, POLL_MAX_PORTS> = Vec::new();
        for port in self.stub.ports().chain([self.xs.port()]) {
            // A port left out would be an event that nobody hears.
            ports.push(port).map_err(|_| Errno::EINVAL)?;
        }
        let due_ns = housekeeping::due_ns(&mut self.stub);
        let deadline_ns = [due_ns, self.hold_deadline_ns, wake_ns].into_iter().flatten().min();
        // An event that came since they were enabled has set its bit: this returns at once then.
        self.hv.poll(&ports, deadline_ns)?;
        self.busy_poll.note_end(&self.hv);
        Ok(())
    }

    /// Polls for as long as that pays; whether there is work.
    fn poll(&mut self) -> bool {
        // 0 is the configuration's: no busy polling at all.
        if self.busy_poll.limit_ns() == 0 || !self.stub.should_busy_poll() {
            return false;
        }
        let EventLoop { hv, stub, busy_poll, stats, .. } = self;
        busy_poll.wait(hv, || {
            stats.polls.bump();
            stub.poll()
        })
    }

    /// The stub.
    pub const fn stub(&mut self) -> &mut Stub<H, M, AnyStorage<H>> {
        &mut self.stub
    }

    /// The stub's way to xenstore.
    pub const fn xenstore(&mut self) -> &mut Xenstore<H> {
        &mut self.xs
    }

    /// What it has counted.
    #[must_use]
    pub const fn stats(&self) -> &LoopStats {
        &self.stats
    }

    /// Gives the stub and its way to xenstore up, for their orderly end.
    #[must_use]
    pub fn into_parts(self) -> (Stub<H, M, AnyStorage<H>>, Xenstore<H>) {
        (self.stub, self.xs)
    }
}
