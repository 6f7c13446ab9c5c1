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
//!   if anything was completed since the last flush, all flushes that are held fail. If none of
//!   them covers all of it for a guest that still waits, the next one does. After that the guest knows, and flushes succeed again: a guest
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

use super::{Link, PvDisk, geometry_of, pieces};
use crate::storage::{Io, Outcome, Ticket};
use drivers::blkfront::{BlkFront, Health, PeerFault, WatchOutcome};
use drivers::xenstore::{StoreError, Xenstore};
use kernel::Hypervisor;
use log::{error, info, warn};

/// Pause before a storage backend that does not suit the disk is asked again.
const UNFIT_PAUSE_NS: u64 = 30_000_000_000;

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
        let waits = !matches!(self.link, Some(Link::Up(_))) || !self.requests.is_empty();
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
        self.timeout.end();
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
        self.requests.hold();
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
            self.timeout.end();
            return;
        }
        info!("{}: connected again, {} requests to submit", front.backend_path(), self.requests.waiting());
        self.geometry.capacity_sectors = now.capacity_sectors;
        self.geometry.transfer_bytes = now.transfer_bytes;
        // Another domain has another cache; one that cannot flush leaves the old one's as it is.
        if front.backend_domid() != self.domid || !now.flush {
            self.domid = front.backend_domid();
            self.lose_cache();
        }
        self.link = Some(Link::Up(front));
        self.timeout.renew();
        let geometry = &self.geometry;
        self.requests.renew(|operation| pieces(geometry, operation));
    }

    /// Nothing makes durable what the last storage backend had completed: see the head of this
    /// file.
    fn lose_cache(&mut self) {
        // Without a cache there was nothing to lose, and after a flush neither.
        if !self.geometry.flush || !self.cache.is_dirty() {
            return;
        }
        self.requests.fail_flushes();
        self.cache.lose();
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
        // Until the break is noticed, its requests count as under way.
        if self.up().is_some() {
            return None;
        }
        self.requests.take_failed(io, self.timeout.is_over(), &mut self.cache)
    }
}
