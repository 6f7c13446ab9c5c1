//! A connection's beginning, its watches, and its end.

use super::negotiate::Negotiated;
use super::pool::Pool;
use super::slots::{Slots, numbers};
use super::{BlkFront, ConnectError, Geometry, Health, MAX_POOL_PAGES, PeerFault, Reconnect};
use crate::evtchn::OwnedPort;
use crate::frontend::{self, CONNECT_TIMEOUT_NS, Device, Numbers, Session, is_below};
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

impl<H: Hypervisor> Device<H> for BlkFront<H> {
    const CLASS: &'static str = "vbd";
    const NAME: &'static str = "blkfront";
    const OFFERED: XenbusState = XenbusState::Initialised;
    /// Pages of the pool.
    type Options = u16;

    fn prepare(
        hv: &H,
        xs: &mut Xenstore<H>,
        session: Session<u16>,
    ) -> Result<Self, (ConnectError, Vec<GrantedPage<H>>)> {
        let agreed = Negotiated::read(xs, &session.paths.backend, session.options);
        let agreed = agreed.map_err(|error| (error, Vec::new()))?;
        Self::allocate(hv, agreed, session).map_err(|(errno, pages)| (ConnectError::Xen(errno), pages))
    }

    fn offer(&self, xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        let node = |key: &str| format!("{}/{key}", self.session.paths.frontend);
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
        frontend::write_nodes(xs, &asks)
    }

    fn complete(&mut self, xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        self.geometry = Geometry::read(xs, &self.session.paths.backend)?;
        Ok(())
    }

    fn session(&self) -> &Session<u16> {
        &self.session
    }

    fn session_mut(&mut self) -> &mut Session<u16> {
        &mut self.session
    }

    fn into_pages(self) -> Vec<GrantedPage<H>> {
        let BlkFront { ring, pool, indirect, ring_pages, port, .. } = self;
        // Nobody of ours uses the ring any more before its pages go.
        drop((ring, port));
        pool.into_pages().into_iter().chain(indirect).chain(ring_pages).collect()
    }
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
        frontend::connect(xs, Reconnect::new(hv, vdev, pool_pages), CONNECT_TIMEOUT_NS)
    }

    /// On failure, the pages that were granted.
    fn allocate(
        hv: &H,
        agreed: Negotiated,
        session: Session<u16>,
    ) -> Result<Self, (Errno, Vec<GrantedPage<H>>)> {
        let port = OwnedPort::alloc(hv, session.paths.domid).map_err(|errno| (errno, Vec::new()))?;
        let (ring, indirect) = (agreed.ring_pages(), usize::from(agreed.indirect_pages()));
        let count = usize::from(agreed.pool_pages).saturating_add(ring).saturating_add(indirect);
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            match GrantedPage::alloc(hv, session.paths.domid) {
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
            ring,
            slots: Slots::new(entries),
            pool: Pool::new(pages, port.port().0),
            indirect_free: numbers(agreed.indirect_pages()),
            indirect,
            ring_pages,
            port,
            handle: u16::try_from(session.number & 0xffff).unwrap_or(0),
            max_pages: agreed.max_pages,
            geometry: Geometry::default(),
            health: Health::Connected,
            sends: 0,
            session,
        })
    }

    /// Blkback's directory.
    #[must_use]
    pub fn backend_path(&self) -> &str {
        &self.session.paths.backend
    }

    /// Judges a watch event: whether blkback left or the disk was resized.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn on_watch(&mut self, xs: &mut Xenstore<H>, path: &str) -> Result<WatchOutcome, StoreError> {
        if is_below(path, &self.session.paths.frontend) {
            return self.refresh(xs);
        }
        if self.session.paths.is_backend(path) {
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
        if !frontend::is_ours(xs, Self::CLASS, &self.session)? {
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
        let state = xenbus::read_state(xs, &self.session.paths.backend)?;
        if xenbus::step(Phase::Connected, state) == Step::Lost {
            self.break_off(PeerFault::Left(state));
            return Ok(WatchOutcome::Lost);
        }
        let sectors = match Numbers::read(xs, &self.session.paths.backend, &["sectors"])?.next() {
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
        let hv = self.hv.clone();
        Reconnect::after(&hv, self)
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
        frontend::close(xs, Self::CLASS, &self.session)
    }
}
