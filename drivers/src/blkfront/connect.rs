//! A connection's beginning, its watches, and its end.

use super::geometry::Numbers;
use super::negotiate::Negotiated;
use super::paths::{self, Found, Paths};
use super::pool::Pool;
use super::reconnect::{Advance, Reconnect};
use super::slots::Slots;
use super::{BlkFront, ConnectError, Geometry, Health, MAX_POOL_PAGES, PeerFault};
use crate::evtchn::OwnedPort;
use crate::gnttab::GrantedPage;
use crate::ring::FrontRing;
use crate::xenbus::{self, Phase, Step};
use crate::xenstore::{Ask, StoreError, Xenstore};
use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, vec};
use kernel::{Errno, Hypervisor};
use xen_pv_sys::io::blkif::RING_ENTRY_SIZE;
use xen_pv_sys::io::xenbus::XenbusState;

/// How long blkback may take for each step of the handshake. Its hotplug script may
/// still be running.
pub const CONNECT_TIMEOUT_NS: u64 = 60_000_000_000;
/// How long it may take for each step of closing.
const CLOSE_TIMEOUT_NS: u64 = 5_000_000_000;
/// Look again after so long without an event: one can be dropped when too many come.
const POLL_INTERVAL_NS: u64 = 1_000_000_000;
/// Transitions of a handshake at most: closing what an earlier incarnation left, then connecting.
const TRANSITIONS_MAX: u32 = 16;

/// The layout of ring entries that we speak (`XEN_IO_PROTO_ABI_*`): the native one.
const PROTOCOL: &str = if cfg!(target_arch = "x86_64") { "x86_64-abi" } else { "arm-abi" };

/// What a watch event meant for a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WatchOutcome {
    /// It was not about this disk.
    NotOurs,
    /// Nothing changed.
    Unchanged,
    /// The disk has another length now; see [`BlkFront::geometry`].
    Resized,
    /// Blkback left, or is another one now; see [`BlkFront::health`].
    Lost,
}

impl<H: Hypervisor> BlkFront<H> {
    /// Blocking handshake with blkback of `device/vbd/<vdev>` of our own directory.
    /// Allocates and grants `pool_pages` bounce pages (1 to [`MAX_POOL_PAGES`]). A connection
    /// that an earlier incarnation of this domain left behind is closed first.
    ///
    /// Watches on our `backend` node and blkback's state stay behind: hand their events
    /// to [`BlkFront::on_watch`].
    ///
    /// # Errors
    /// Why there is no connection. Everything has been given back then, except for pages
    /// that blkback has mapped and keeps.
    pub fn connect(hv: &H, xs: &mut Xenstore<H>, vdev: u32, pool_pages: u16) -> Result<Self, ConnectError> {
        if !(1..=MAX_POOL_PAGES).contains(&pool_pages) {
            return Err(ConnectError::PoolSize(pool_pages));
        }
        let mut way = Reconnect::new(hv, vdev, pool_pages);
        let connected = Self::wait(xs, &mut way, vdev);
        // Whoever connects waits for it: a failure is final, and leaves nothing behind.
        if connected.is_err() {
            way.abandon(xs);
        }
        connected
    }

    fn wait(xs: &mut Xenstore<H>, way: &mut Reconnect<H>, vdev: u32) -> Result<Self, ConnectError> {
        let token = paths::token(vdev);
        let mut transitions = 0u32;
        let mut deadline_ns = xs.hypervisor().now_ns().saturating_add(CONNECT_TIMEOUT_NS);
        loop {
            let advance = way.advance(xs)?;
            let now_ns = xs.hypervisor().now_ns();
            match advance {
                Advance::Connected(front) => return Ok(*front),
                // A blkback that goes to and fro would otherwise keep the stub here without end.
                Advance::Again if transitions < TRANSITIONS_MAX => {
                    transitions = transitions.saturating_add(1);
                    // Each step has its own time: a slow hotplug script is no sign of a dead peer.
                    deadline_ns = now_ns.saturating_add(CONNECT_TIMEOUT_NS);
                }
                Advance::Again => return Err(ConnectError::Restless),
                Advance::Wait(state) if now_ns >= deadline_ns => return Err(ConnectError::TimedOut(state)),
                Advance::Wait(_) => {
                    xs.wait_event(&token, deadline_ns.min(now_ns.saturating_add(POLL_INTERVAL_NS)))?;
                }
            }
        }
    }

    /// Everything that needs memory, before blkback sees any of it. On failure, the pages
    /// that were granted: it might have mapped them.
    pub(super) fn allocate(
        hv: &H,
        paths: &Paths,
        agreed: Negotiated,
        vdev: u32,
    ) -> Result<Self, (Errno, Vec<GrantedPage<H>>)> {
        let port = OwnedPort::alloc(hv, paths.domid).map_err(|errno| (errno, Vec::new()))?;
        let (ring, indirect) = (agreed.ring_pages(), usize::from(agreed.indirect_pages()));
        let count = usize::from(agreed.pool_pages).saturating_add(ring).saturating_add(indirect);
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            match GrantedPage::alloc(hv, paths.domid) {
                Ok(page) => pages.push(page),
                Err(errno) => return Err((errno, pages)),
            }
        }
        let ring_pages: Vec<_> = pages.drain(..ring.min(pages.len())).collect();
        let indirect: Vec<_> = pages.drain(..indirect.min(pages.len())).collect();
        let shared = ring_pages.iter().map(|page| page.page().clone()).collect();
        let made = FrontRing::new(shared, RING_ENTRY_SIZE)
            .and_then(|ring| u16::try_from(ring.entries()).ok().map(|entries| (ring, entries)));
        let Some((ring, entries)) = made else {
            return Err((Errno::EINVAL, pages.into_iter().chain(ring_pages).chain(indirect).collect()));
        };
        Ok(BlkFront {
            hv: hv.clone(),
            vdev,
            pool_pages: agreed.pool_pages,
            ring,
            slots: Slots::new(entries),
            pool: Pool::new(pages, port.port().0),
            indirect_free: (0..agreed.indirect_pages()).collect(),
            indirect,
            ring_pages,
            port,
            handle: u16::try_from(vdev & 0xffff).unwrap_or(0),
            max_pages: agreed.max_pages,
            geometry: Geometry::default(),
            health: Health::Connected,
            sends: 0,
            paths: paths.clone(),
            pause_ns: 0,
            connected_at_ns: 0,
        })
    }

    /// Writes ring, port and features into our directory. Blkback reads them once our
    /// state, which is written after that, says that they are there.
    pub(super) fn offer(&self, xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        let node = |key: &str| format!("{}/{key}", self.paths.frontend);
        let pages = self.ring_pages.len();
        let mut numbers =
            vec![("event-channel".to_string(), self.port().0), ("feature-persistent".to_string(), 1)];
        // A blkback that does not know several pages finds the one that it does know.
        if pages > 1 {
            numbers.push(("ring-page-order".to_string(), pages.ilog2()));
        }
        for (index, page) in self.ring_pages.iter().enumerate() {
            let key = if pages == 1 { "ring-ref".to_string() } else { format!("ring-ref{index}") };
            numbers.push((key, page.gref().0));
        }
        // A blkback would prefer `ring-page-order` to `ring-ref`.
        let stale = if pages == 1 { "ring-page-order" } else { "ring-ref" };
        let mut asks = vec![Ask::Rm(node(stale)), Ask::Write(node("protocol"), PROTOCOL.to_string())];
        asks.extend(numbers.iter().map(|(key, number)| Ask::Write(node(key), number.to_string())));
        // One transaction counts as one write against xenstored's rate limit for this domain,
        // which that number of single writes would exceed.
        let written = xs.transaction(|tx| {
            let missing =
                |answer: &Result<_, StoreError>| matches!(answer, Err(error) if error.is_not_found());
            // Only what is removed can be missing.
            tx.batch(&asks)?
                .into_iter()
                .try_for_each(|answer| if missing(&answer) { Ok(()) } else { answer.map(drop) })
        });
        written.map_err(ConnectError::Store)
    }

    /// Blkback's directory.
    #[must_use]
    pub fn backend_path(&self) -> &str {
        &self.paths.backend
    }

    /// Judges a watch event: whether blkback left or the disk was resized.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn on_watch(&mut self, xs: &mut Xenstore<H>, path: &str) -> Result<WatchOutcome, StoreError> {
        if paths::is_below(path, &self.paths.frontend) {
            return self.refresh(xs);
        }
        if self.paths.is_backend(path) {
            return self.refresh_backend(xs);
        }
        Ok(WatchOutcome::NotOurs)
    }

    /// As [`BlkFront::on_watch`], for events of this disk that may have been dropped: call it
    /// when [`Xenstore::take_events_lost`] says so.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn refresh(&mut self, xs: &mut Xenstore<H>) -> Result<WatchOutcome, StoreError> {
        if self.health != Health::Connected {
            return Ok(WatchOutcome::Unchanged);
        }
        // A directory that was made again holds nothing of our connection.
        let same = match Paths::find(xs, self.vdev, None) {
            Err(ConnectError::Store(error)) => return Err(error),
            found => found
                .is_ok_and(|Found { paths, ours, .. }| paths == self.paths && ours == XenbusState::Connected),
        };
        if !same {
            self.break_off(PeerFault::Replaced);
            return Ok(WatchOutcome::Lost);
        }
        self.refresh_backend(xs)
    }

    fn refresh_backend(&mut self, xs: &mut Xenstore<H>) -> Result<WatchOutcome, StoreError> {
        // It was lost before, and that was told.
        if self.health != Health::Connected {
            return Ok(WatchOutcome::Unchanged);
        }
        let state = xenbus::read_state(xs, &self.paths.backend)?;
        if xenbus::step(Phase::Connected, state) == Step::Lost {
            self.break_off(PeerFault::Left(state));
            return Ok(WatchOutcome::Lost);
        }
        let sectors = match Numbers::read(xs, &self.paths.backend, &["sectors"])?.next() {
            Ok(Some(sectors)) if self.geometry.sectors_ok(sectors) => sectors,
            Err(ConnectError::Store(error)) => return Err(error),
            // A resize to nothing or to nonsense: keep what was agreed.
            _ => return Ok(WatchOutcome::Unchanged),
        };
        // A watch also fires for a node that was written anew with what it held.
        if sectors == self.geometry.sectors {
            return Ok(WatchOutcome::Unchanged);
        }
        self.geometry.sectors = sectors;
        Ok(WatchOutcome::Resized)
    }

    /// Ends the use of the ring, whatever blkback does, and begins the way to another
    /// connection. Requests under way are the caller's to submit again, with new pages: those
    /// lent from this connection's pool are of no use any more.
    #[must_use]
    pub fn reconnect(self) -> Reconnect<H> {
        Reconnect::after(self)
    }

    /// Closes the connection in order: Closing, Closed, and blkback has let go of the
    /// pages. Drain first; requests still under way will not complete. Then
    /// [`BlkFront::disconnect`].
    ///
    /// # Errors
    /// [`ConnectError::TimedOut`] if blkback does not follow; the connection counts as
    /// closed all the same.
    pub fn close(&mut self, xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        self.health = Health::Closed;
        let paths = self.paths.clone();
        xenbus::write_state(xs, &paths.frontend, XenbusState::Closing)?;
        let closing = wait_for(xs, &paths, Phase::Closing);
        xenbus::write_state(xs, &paths.frontend, XenbusState::Closed)?;
        let closed = wait_for(xs, &paths, Phase::Closed);
        // Blkback's directory may be gone, and the watch with it.
        let _ = xs.unwatch(&xenbus::state_path(&paths.backend), &paths.token);
        let _ = xs.unwatch(&paths::pointer(self.vdev), &paths.token);
        closing.and(closed)
    }
}

fn wait_for<H: Hypervisor>(xs: &mut Xenstore<H>, paths: &Paths, phase: Phase) -> Result<(), ConnectError> {
    wait_for_within(xs, paths, phase, CLOSE_TIMEOUT_NS)
}

pub(super) fn wait_for_within<H: Hypervisor>(
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
