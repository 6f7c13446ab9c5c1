//! The disk's connections: the first one, and what becomes of the requests when it breaks.
//!
//! **Without a connection** requests are held, and submitted again over the next one, as those of a PV disk
//! (`pv/failover.rs`): reads, writes and discards that were under way in their order, then flushes, then what
//! has come since.
//!
//! **Flushes.** What the server had completed and not flushed may be gone: it may have been restarted, and the
//! client cannot tell that from a network that failed for a moment. So the engine keeps such writes until a flush
//! (`kept.rs`), and does them again over the next connection before anything else, one after the other. If
//! that fails, or a flush that the engine makes to have room, then the guest's next flush fails, once
//! (docs/decisions/0013).
//!
//! **After the timeout** without an answer the held requests fail, and new ones do at once, until there is a
//! connection again.

use super::export::{geometry, unfit, unusable};
use super::kept::Kept;
use super::link::{Link, Progress, Reason};
use super::restart::Settled;
use super::{NbdDisk, NbdOptions, OWN_FLUSH, REPLAY, piece_bytes, pieces};
use crate::limit::Limiter;
use crate::storage::Geometry;
use crate::storage::remote::{Cache, Requests, Timeout};
use kernel::Hypervisor;
use log::{error, info, warn};
use nbd::wire::REQUEST_BYTES;
use nbd::{Command, Export, IoError};
use net::Network;

/// Pause before an export that does not suit the disk is asked for again.
const UNFIT_PAUSE_NS: u64 = 30_000_000_000;

impl<H: Hypervisor> NbdDisk<H> {
    /// Connects, and waits for it until `deadline_ns`.
    ///
    /// # Errors
    /// Why not.
    pub fn connect(
        network: &Network<H>,
        mut options: NbdOptions,
        deadline_ns: u64,
    ) -> Result<NbdDisk<H>, Reason> {
        let secrets = options.secrets.take();
        let mut link = Link::new(network, options.server, options.export.clone(), secrets);
        let export = wait(&mut link, deadline_ns)?;
        if let Some(why) = unusable(&export, options.writable) {
            return Err(Reason::Unfit(why));
        }
        info!("{}: connected, {} bytes", link.name(), export.size_bytes);
        Ok(NbdDisk::new(link, &options, geometry(&export)))
    }

    pub(super) fn new(link: Link<H>, options: &NbdOptions, geometry: Geometry) -> NbdDisk<H> {
        NbdDisk {
            link,
            writable: options.writable,
            geometry,
            requests: Requests::new(),
            outstanding: 0,
            unsent: false,
            taken: false,
            cache: Cache::default(),
            kept: Kept::new(geometry.flush),
            own_flush: None,
            inherited: false,
            journal: None,
            timeout: Timeout::new(options.timeout_ns),
            limiter: Limiter::new(),
            reported: None,
        }
    }

    /// Does what is due for the connection: notices that it broke, goes a step towards the next one, checks
    /// the timeout. True if there may be something to do for the requests. Call it after
    /// [`Network::poll`].
    pub fn service_connection(&mut self) -> bool {
        let now_ns = self.network().now_ns();
        // An idle server owes nothing; one that is not there owes everything.
        let waits = !self.link.is_up() || self.outstanding > 0 || !self.requests.is_empty();
        let mut changed = self.timeout.check(waits, now_ns);
        if changed {
            self.on_timeout();
        }
        if self.requests.is_empty() {
            // Nobody else reads what comes then.
            let _no_request = self.take_received(None);
        }
        if self.link.has_ended() {
            self.detach(Reason::Ended);
            changed = true;
        }
        if self.outstanding == 0 {
            // There was no room for the next one.
            self.replay();
        }
        match self.link.step() {
            Some(Progress::Ready(export)) => {
                self.attach(&export);
                changed = true;
            }
            Some(Progress::Failed(reason)) => {
                self.report(reason);
                self.disinherit();
            }
            None => {}
        }
        self.flush_inherited();
        // What the guest was told is in its rings since the last turn.
        self.save(Settled::Yes);
        changed
    }

    /// When [`NbdDisk::service_connection`] has something to do, without an event.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        self.link.due_ns().into_iter().chain(self.timeout.deadline_ns()).min()
    }

    fn on_timeout(&mut self) {
        self.timeout.end();
        error!("{}: no answer within the timeout: requests fail from now on", self.link.name());
        if self.link.is_up() {
            self.detach(Reason::Silent);
        }
    }

    /// It may fail in the same way for hours.
    fn report(&mut self, reason: Reason) {
        if self.reported != Some(reason) {
            warn!("{}: no connection yet: {reason}", self.link.name());
            self.reported = Some(reason);
        }
    }

    /// The connection broke: everything that is not over waits for the next one.
    pub(super) fn detach(&mut self, reason: Reason) {
        warn!("{}: {reason}; waiting for a connection", self.link.name());
        self.link.lose();
        self.reported = None;
        self.outstanding = 0;
        self.own_flush = None;
        self.kept.hold();
        self.requests.hold();
        self.disinherit();
        self.save(Settled::No);
    }

    /// There is a connection again: takes it if the export suits the disk that the guest knows.
    fn attach(&mut self, export: &Export) {
        let now = geometry(export);
        if let Some(why) =
            unusable(export, self.writable).or_else(|| unfit(&self.geometry, &now, self.writable))
        {
            error!("{}: not the disk that the guest knows: {why}; requests fail", self.link.name());
            // Somebody has to put the right disk there; asking faster does not help.
            self.link.hold_off(UNFIT_PAUSE_NS);
            self.timeout.end();
            self.disinherit();
            return;
        }
        info!("{}: connected again, {} requests to submit", self.link.name(), self.requests.waiting());
        self.geometry.capacity_sectors = now.capacity_sectors;
        self.geometry.transfer_bytes = now.transfer_bytes;
        if !export.multi_conn {
            self.disinherit();
        }
        self.timeout.renew();
        let geometry = &self.geometry;
        self.requests.renew(|operation| pieces(geometry, operation));
        self.kept.begin_replay();
        self.replay();
    }

    /// Does the next write again that was completed over an earlier connection and not flushed. One at a time:
    /// a later one may be about the same place.
    fn replay(&mut self) {
        let NbdDisk { link, geometry, kept, outstanding, .. } = self;
        let Some((client, tcp)) = link.up() else { return };
        let most_bytes = usize::try_from(piece_bytes(geometry)).unwrap_or(usize::MAX);
        let Some((command, data)) = kept.next_replay(most_bytes) else { return };
        if tcp.send_room() < REQUEST_BYTES.saturating_add(data.len()) {
            return;
        }
        match client.submit(REPLAY, command) {
            Ok(header) => {
                // There is room for both.
                let _ = tcp.send(&header) && tcp.send(data);
                *outstanding = outstanding.saturating_add(1);
                self.network().send_frames();
            }
            // The export has become shorter.
            Err(_) => self.lose_cache(),
        }
    }

    /// A write was done again, or not.
    pub(super) fn on_replay(&mut self, outcome: Result<(), IoError>) {
        match outcome {
            Ok(()) => self.kept.end_replay(),
            Err(_) => self.lose_cache(),
        }
        self.replay();
    }

    /// Has the server make durable what is kept, unless that is under way.
    pub(super) fn flush_own(&mut self) {
        if self.is_serving() {
            self.submit_own_flush();
        }
    }

    pub(super) fn submit_own_flush(&mut self) {
        let is_needed = self.geometry.flush && self.cache.is_dirty();
        if !is_needed || self.own_flush.is_some() {
            return;
        }
        let Some((client, tcp)) = self.link.up() else { return };
        if tcp.send_room() < REQUEST_BYTES {
            return;
        }
        let Ok(header) = client.submit(OWN_FLUSH, Command::Flush) else { return };
        // There is room for it.
        let _ = tcp.send(&header);
        self.unsent = true;
        self.outstanding = self.outstanding.saturating_add(1);
        self.own_flush = Some(self.cache.completed());
    }

    /// The engine's own flush is over.
    pub(super) fn on_own_flush(&mut self, outcome: Result<(), IoError>) {
        let Some(covers) = self.own_flush.take() else { return };
        match outcome {
            Ok(()) => {
                self.cache.note_flushed(covers);
                self.kept.free(self.cache.durable());
                self.inherited = false;
                self.save(Settled::No);
            }
            Err(_) => self.lose_cache(),
        }
    }

    /// What was completed and not flushed is not to be made durable any more.
    pub(super) fn lose_cache(&mut self) {
        self.inherited = false;
        self.requests.fail_flushes();
        self.cache.lose();
        self.kept.give_up(self.cache.completed());
        self.save(Settled::No);
        self.report_lost();
    }

    pub(super) fn report_lost(&self) {
        error!(
            "{}: writes that the guest had not flushed may be lost; a flush fails to tell it",
            self.link.name()
        );
    }
}

/// The way to the first connection.
fn wait<H: Hypervisor>(link: &mut Link<H>, deadline_ns: u64) -> Result<Export, Reason> {
    loop {
        let network = link.network().clone();
        network.poll();
        match link.step() {
            Some(Progress::Ready(export)) => return Ok(export),
            // One line is told, at once: who starts the guest can try again.
            Some(Progress::Failed(reason)) => return Err(reason),
            None => {}
        }
        let due_ns = link.due_ns().map_or(deadline_ns, |due_ns| due_ns.min(deadline_ns));
        if network.now_ns() >= deadline_ns || !network.wait(due_ns) {
            return Err(link.give_up());
        }
    }
}
