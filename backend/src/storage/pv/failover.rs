//! The disk's storage backends: one leaves, another comes, and what becomes of the requests.
//!
//! **While there is no storage backend** requests are held, those that were under way as well as
//! new ones. Their data stays in the guest's memory: nothing of a broken connection is copied, and
//! its pages are not used again (see `drivers::blkfront::Reconnect`, which also makes sure that no
//! old write can land after a new one). Requests of a queue that the guest has reset are given up
//! at once.
//!
//! **When there is a storage backend again** the held requests are submitted, whole, in this order:
//! reads, writes and discards that were under way, in the order of their submission; flushes that
//! were under way; what has come since, as it came. Doing a request twice does no harm: nobody was
//! told of its end, so nobody may rely on what was there in between.
//!
//! **Why flushes keep their meaning.** A flush has to make durable the writes that had completed
//! before it was submitted. Replaying can neither reorder those nor lose them: they are not
//! replayed, they are with the storage backend. Writes that were under way together with the flush
//! are none of its business; that they go first only costs nothing. What is left is whether
//! completed writes are still with the storage backend:
//!
//! - *The same domain serves the disk again* (the driver was restarted, the disk attached
//!   again): blkback completes a write when the device below has completed it, so it is in that
//!   device or its cache, or in the domain's page cache. Those lived on: the next flush covers
//!   them. The guest notices nothing but the delay.
//! - *The same domain serves it, and cannot flush any more*: what was completed over the old
//!   connection and not flushed may be in a cache that nothing empties. That is as bad as the next
//!   case, and dealt with in the same way. What is completed over this connection is as durable as
//!   the storage backend makes it, as for a disk that never had a cache: flushes of that succeed.
//! - *Another domain serves it* (the storage backend's domain was killed and made anew): what was
//!   completed and not yet flushed may have been in the dead domain's memory. Losing it is within
//!   the contract of a volatile cache, but a later flush that succeeds would declare it durable. So
//!   if anything was completed since the last flush, all flushes that are held fail, and if there
//!   are none, the next one does. After that the guest knows, and flushes succeed again: a guest
//!   that writes again what it had not flushed, as it must after a failed flush, can go on. The
//!   boundary: the failure is told once for the disk, not once for each of its users. (Keeping all
//!   unflushed writes for replay would take as much memory as a guest cares to write between two
//!   flushes.)
//!
//! **After the timeout** without a storage backend the held requests fail, and new ones do at once.
//! So they do when a storage backend answers nothing for that long while requests are under way.
//! The disk recovers when a storage backend comes back. A failed write may still reach the disk,
//! but not after anything that is written later: there is no new connection before the old one is
//! over.

use super::{Cache, InFlight, Link, PvDisk, REQUESTS, geometry_of};
use crate::storage::{Io, Operation, Outcome, Ticket};
use drivers::blkfront::{BlkFront, Health, PeerFault, WatchOutcome};
use drivers::xenstore::{StoreError, Xenstore};
use kernel::Hypervisor;
use log::{error, info, warn};

/// Pause before a storage backend that does not suit the disk is asked again.
const UNFIT_PAUSE_NS: u64 = 30_000_000_000;

/// How long the storage backend has not answered.
pub(super) struct BackendTimeout {
    timeout_ns: Option<u64>,
    /// Since when there has been no response while one is waited for.
    waiting_since_ns: Option<u64>,
    responded: bool,
    /// The time is over: requests fail.
    over: bool,
}

impl BackendTimeout {
    pub(super) fn new(timeout_ns: Option<u64>) -> BackendTimeout {
        BackendTimeout { timeout_ns, waiting_since_ns: None, responded: false, over: false }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The storage backend has answered something.
    pub(super) fn on_response(&mut self) {
        self.responded = true;
    }

    /// Takes note of the time. True if it has just run out.
    fn check(&mut self, waits: bool, now_ns: u64) -> bool {
        // A slow storage backend is not a silent one: each response starts the time anew.
        if core::mem::take(&mut self.responded) || !waits {
            self.waiting_since_ns = None;
        }
        if waits && self.waiting_since_ns.is_none() {
            self.waiting_since_ns = Some(now_ns);
        }
        // Once only: what it does needs no second time, and a new connection begins anew.
        !self.over && self.deadline_ns().is_some_and(|deadline_ns| now_ns >= deadline_ns)
    }

    fn deadline_ns(&self) -> Option<u64> {
        let since_ns = self.waiting_since_ns.filter(|_| !self.over)?;
        Some(since_ns.saturating_add(self.timeout_ns?))
    }

    /// There is a storage backend again.
    fn renew(&mut self) {
        *self = BackendTimeout::new(self.timeout_ns);
    }
}

impl Cache {
    /// A request has been done.
    pub(super) fn note(&mut self, request: &InFlight) {
        match request.ticket.operation() {
            Operation::Read { .. } => {}
            Operation::Write { .. } | Operation::WriteZeroes { .. } | Operation::Discard { .. } => {
                self.completed = self.completed.saturating_add(1);
            }
            Operation::Flush => self.durable = self.durable.max(request.covers),
        }
    }

    fn is_dirty(&self) -> bool {
        self.completed > self.durable
    }

    /// Whether a flush has to fail; one does.
    pub(super) fn take_lost(&mut self) -> bool {
        core::mem::take(&mut self.lost)
    }
}

impl<H: Hypervisor> PvDisk<H> {
    /// Judges a watch event.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn on_watch(&mut self, xs: &mut Xenstore<H>, path: &str) -> Result<(), StoreError> {
        match &mut self.link {
            Some(Link::Up(front)) => {
                let outcome = front.on_watch(xs, path)?;
                self.note(outcome);
            }
            Some(Link::Down(way)) => way.on_watch(path),
            None => {}
        }
        Ok(())
    }

    /// As [`PvDisk::on_watch`], when events may have been dropped.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn refresh(&mut self, xs: &mut Xenstore<H>) -> Result<(), StoreError> {
        match &mut self.link {
            Some(Link::Up(front)) => {
                let outcome = front.refresh(xs)?;
                self.note(outcome);
            }
            Some(Link::Down(way)) => way.set_due(),
            None => {}
        }
        Ok(())
    }

    fn note(&mut self, outcome: WatchOutcome) {
        if outcome == WatchOutcome::Resized
            && let Some(front) = self.up()
        {
            let sectors = front.geometry().sectors;
            info!("{}: the disk has {sectors} sectors now", front.backend_path());
            self.geometry.capacity_sectors = sectors;
        }
    }

    /// Does what is due for the connection: notices that it broke, goes a step towards the
    /// next one, checks the timeout. True if there may be something to do for the requests.
    pub fn service_connection(&mut self, xs: &mut Xenstore<H>) -> bool {
        let now_ns = xs.hypervisor().now_ns();
        // An idle storage backend owes nothing; one that is not there owes everything.
        let waits = match &self.link {
            Some(Link::Up(_)) => self.outstanding > 0,
            _ => true,
        };
        let mut changed = self.timeout.check(waits, now_ns);
        if changed {
            self.on_timeout();
        }
        // Before the next step: a connection that has just broken begins its way to the next one.
        if self.up().is_some_and(|front| front.health() != Health::Connected) {
            self.detach();
            changed = true;
        }
        if let Some(Link::Down(way)) = &mut self.link
            && let Some(front) = way.step(xs)
        {
            self.attach(front);
            changed = true;
        }
        changed
    }

    /// When [`PvDisk::service_connection`] has something to do, without an event.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        // A connection that works has events of its own.
        let step_ns = match &self.link {
            Some(Link::Down(way)) => Some(way.due_ns()),
            _ => None,
        };
        step_ns.into_iter().chain(self.timeout.deadline_ns()).min()
    }

    fn on_timeout(&mut self) {
        self.timeout.over = true;
        match &mut self.link {
            Some(Link::Up(front)) => front.break_off(PeerFault::Silent),
            // No other storage backend may serve the disk as long: an administrator has to know why.
            Some(Link::Down(way)) if way.pages_out() > 0 => {
                let pages = way.pages_out();
                error!(
                    "{}: the old storage backend keeps {pages} pages: requests fail from now on",
                    self.domid
                );
            }
            _ => error!("no storage backend within the timeout: requests fail from now on"),
        }
    }

    /// The connection broke: everything that is not over waits for the next one.
    fn detach(&mut self) {
        let Some(Link::Up(front)) = self.link.take() else { return };
        warn!("{}: waiting for a storage backend", front.backend_path());
        self.link = Some(Link::Down(front.reconnect()));
        self.outstanding = 0;
        for request in self.requests.iter_mut().flatten() {
            // Its pages, and what a read has put into them, went with the connection.
            // An outcome stays: what has failed before need not be done again.
            request.submitted = 0;
            request.outstanding = 0;
        }
        // Flushes last: what they cover was completed before the break, and is not among these.
        let order = |slot: u16| {
            let request = self.requests.get(usize::from(slot))?.as_ref()?;
            Some((request.ticket.operation() == Operation::Flush, request.sequence))
        };
        // The library's sort would be 4 KiB of the image, for a few hundred entries at most.
        let mut held: heapless::Vec<u16, REQUESTS> = heapless::Vec::new();
        for slot in (0u16..).take(REQUESTS) {
            let Some(place) = order(slot) else { continue };
            // There is room for every slot.
            let _ = held.insert(held.partition_point(|&other| order(other) < Some(place)), slot);
        }
        self.queue.clear();
        for slot in held {
            let _ = self.queue.push_back(slot);
        }
    }

    /// There is a connection again: takes it if it suits the disk that the guest knows.
    fn attach(&mut self, mut front: BlkFront<H>) {
        let told = self.geometry;
        let now = geometry_of(&front);
        // What the guest was told at its start cannot be taken back.
        let unfit = if now.block_size_bytes != told.block_size_bytes {
            Some("its logical block size is another one")
        } else if now.read_only && !told.read_only {
            Some("it is read-only")
        } else if now.flush && !told.flush {
            Some("it has a write cache, of which the guest knows nothing")
        } else {
            None
        };
        if let Some(why) = unfit {
            error!("{}: not the disk that the guest knows: {why}; requests fail", front.backend_path());
            front.break_off(PeerFault::Replaced);
            let mut way = front.reconnect();
            // Somebody has to put the right disk there; asking faster does not help.
            way.hold_off(UNFIT_PAUSE_NS);
            self.link = Some(Link::Down(way));
            self.timeout.over = true;
            return;
        }
        info!("{}: connected again, {} requests to submit", front.backend_path(), self.queue.len());
        self.geometry.capacity_sectors = now.capacity_sectors;
        self.geometry.transfer_bytes = now.transfer_bytes;
        // Another domain has another cache; one that cannot flush leaves the old one's as it is.
        if front.backend_domid() != self.domid || !now.flush {
            self.domid = front.backend_domid();
            self.lose_cache();
        }
        self.link = Some(Link::Up(front));
        self.timeout.renew();
        for at in 0..self.requests.len() {
            let operation = self.requests.get(at).and_then(Option::as_ref).map(|r| r.ticket.operation());
            let Some(operation) = operation else { continue };
            // The new ring may carry less in one request.
            let pieces = self.pieces(operation);
            if let Some(Some(request)) = self.requests.get_mut(at) {
                // One that is too long for the new ring cannot be; it would fail alone.
                request.pieces = pieces.unwrap_or(0);
                if pieces.is_none() {
                    request.outcome = Outcome::IoError;
                }
            }
        }
    }

    /// Nothing makes durable what the last storage backend had completed: see the head of this
    /// file.
    fn lose_cache(&mut self) {
        // Without a cache there was nothing to lose, and after a flush neither.
        if !self.geometry.flush || !self.cache.is_dirty() {
            return;
        }
        self.cache.lost = true;
        for request in self.requests.iter_mut().flatten() {
            if request.ticket.operation() == Operation::Flush && request.outcome == Outcome::Done {
                request.outcome = Outcome::IoError;
                // This one tells of it, so that the next need not.
                self.cache.lost = false;
            }
        }
        // It is told once: later flushes answer for later writes.
        self.cache.durable = self.cache.completed;
        self.report_lost();
    }

    pub(super) fn report_lost(&self) {
        error!(
            "the storage backend, now {}, cannot flush what the last one completed: writes that the guest had not \
             flushed may be lost; a flush fails to tell it",
            self.domid
        );
    }

    /// Without a connection: the next request that need not wait for one.
    #[cold]
    #[inline(never)]
    pub(super) fn fail_next(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        let broken = self.up().is_some();
        let over = self.timeout.is_over();
        let at = self.requests.iter().position(|request| {
            // Until the break is noticed, its requests count as under way.
            request.as_ref().is_some_and(|request| {
                !broken && (over || request.outcome != Outcome::Done || !io.is_live(&request.ticket))
            })
        })?;
        let request = self.requests.get_mut(at)?.take()?;
        let slot = u16::try_from(at).ok()?;
        let _ = self.free.push(slot);
        self.queue.retain(|&queued| queued != slot);
        // It was not refused by itself: the time is over, or nobody waits for it.
        let outcome = if request.outcome == Outcome::Done { Outcome::IoError } else { request.outcome };
        Some((request.ticket, outcome))
    }
}
