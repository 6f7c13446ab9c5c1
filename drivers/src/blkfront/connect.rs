//! Negotiation over xenstore: connecting, watching the back end, closing.

use super::geometry::number;
use super::pool::Pool;
use super::slots::Slots;
use super::{BlkFront, ConnectError, Geometry, Health, MAX_POOL_PAGES, Names, PeerFault};
use crate::evtchn::OwnedPort;
use crate::gnttab::GrantedPage;
use crate::ring::{FrontRing, ring_entries};
use crate::xenbus::{self, Phase, Step};
use crate::xenstore::{StoreError, Xenstore};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use kernel::{DomId, Errno, Hypervisor};
use xen_pv_sys::io::blkif::{MAX_SEGMENTS_PER_REQUEST, RING_ENTRY_SIZE};
use xen_pv_sys::io::xenbus::XenbusState;
use xen_pv_sys::io::xs_wire::ABS_PATH_MAX;
use xen_pv_sys::xen::DOMID_FIRST_RESERVED;

/// How long the back end may take for each step of the handshake. Its hotplug script may
/// still be running.
pub const CONNECT_TIMEOUT_NS: u64 = 60_000_000_000;
/// How long it may take for each step of closing.
const CLOSE_TIMEOUT_NS: u64 = 5_000_000_000;
/// Ring pages at most: `2^3`, 256 entries.
const MAX_RING_PAGE_ORDER: u32 = 3;
/// Segments of one request at most; one indirect page holds them.
const MAX_SEGMENTS: u16 = 256;
/// Segments that a request needs before it takes an indirect page.
const MIN_INDIRECT_SEGMENTS: u16 = 12;
#[expect(clippy::cast_possible_truncation, reason = "11")]
const DIRECT_SEGMENTS: u16 = MAX_SEGMENTS_PER_REQUEST as u16;

/// The layout of ring entries that we speak (`XEN_IO_PROTO_ABI_*`): the native one.
const PROTOCOL: &str = if cfg!(target_arch = "x86_64") { "x86_64-abi" } else { "arm-abi" };

/// What a watch event meant for a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WatchOutcome {
    /// It was not about this disk's back end.
    NotOurs,
    /// Nothing changed.
    Unchanged,
    /// The disk has another length now; see [`BlkFront::geometry`].
    Resized,
    /// The back end left; see [`BlkFront::health`].
    Lost,
}

/// What is agreed before the ring is offered.
#[derive(Clone, Copy, Debug)]
struct Terms {
    ring_page_order: u32,
    max_pages: u16,
    pool_pages: u16,
}

impl Terms {
    /// Reads the back end's limits and takes what is of use to us.
    fn read<H: Hypervisor>(
        xs: &mut Xenstore<H>,
        backend: &str,
        pool_pages: u16,
    ) -> Result<Terms, ConnectError> {
        let order = number(xs, backend, "max-ring-page-order")?.unwrap_or(0);
        let order = u32::try_from(order).unwrap_or(u32::MAX).min(MAX_RING_PAGE_ORDER);
        // No larger than needed for a request per page.
        let enough = (0..order).find(|&order| entries(order) >= u32::from(pool_pages));
        let indirect = number(xs, backend, "feature-max-indirect-segments")?.unwrap_or(0);
        let indirect = u16::try_from(indirect).unwrap_or(u16::MAX).min(MAX_SEGMENTS);
        let max_pages = indirect.max(DIRECT_SEGMENTS).min(pool_pages);
        Ok(Terms { ring_page_order: enough.unwrap_or(order), max_pages, pool_pages })
    }

    /// Pages for segments: enough for all indirect requests that the pool allows.
    fn indirect_pages(self) -> u16 {
        if self.max_pages < MIN_INDIRECT_SEGMENTS {
            return 0;
        }
        let requests = self.pool_pages.checked_div(MIN_INDIRECT_SEGMENTS).unwrap_or(0);
        requests.min(u16::try_from(entries(self.ring_page_order)).unwrap_or(u16::MAX))
    }
}

fn ring_pages(order: u32) -> usize {
    1usize.checked_shl(order).unwrap_or(1)
}

fn entries(order: u32) -> u32 {
    ring_entries(ring_pages(order), RING_ENTRY_SIZE)
}

impl Names {
    fn find<H: Hypervisor>(xs: &mut Xenstore<H>, vdev: u32) -> Result<(Names, DomId), ConnectError> {
        let frontend = format!("device/vbd/{vdev}");
        let missing = |key| {
            move |error: StoreError| {
                if error.is_not_found() { ConnectError::Missing(key) } else { ConnectError::Store(error) }
            }
        };
        let backend = xs.read_string(&format!("{frontend}/backend")).map_err(missing("backend"))?;
        let plain = |byte: &u8| byte.is_ascii_graphic();
        if !backend.starts_with('/')
            || backend.len() > ABS_PATH_MAX / 2
            || !backend.as_bytes().iter().all(plain)
        {
            return Err(ConnectError::BadValue("backend"));
        }
        let domid = xs.read_number(&format!("{frontend}/backend-id")).map_err(missing("backend-id"))?;
        let domid = u16::try_from(domid).ok().filter(|&domid| domid < DOMID_FIRST_RESERVED);
        let domid = domid.ok_or(ConnectError::BadValue("backend-id"))?;
        let token = format!("vbd-{vdev}");
        Ok((Names { frontend, backend, token }, DomId(domid)))
    }
}

impl<H: Hypervisor> BlkFront<H> {
    /// Blocking handshake with the back end of `device/vbd/<vdev>` of our own directory.
    /// Allocates and grants `pool_pages` bounce pages (1 to [`MAX_POOL_PAGES`]).
    ///
    /// A watch on the back end's state stays behind: hand its events to
    /// [`BlkFront::on_watch`].
    ///
    /// # Errors
    /// Why there is no connection. Everything has been given back then, except for pages
    /// that the back end has mapped and keeps.
    pub fn connect(hv: &H, xs: &mut Xenstore<H>, vdev: u32, pool_pages: u16) -> Result<Self, ConnectError> {
        if !(1..=MAX_POOL_PAGES).contains(&pool_pages) {
            return Err(ConnectError::PoolSize(pool_pages));
        }
        let (names, domid) = Names::find(xs, vdev)?;
        match xs.watch(&xenbus::state_path(&names.backend), &names.token) {
            Ok(()) | Err(StoreError::Refused(Errno::EEXIST)) => {}
            Err(error) => return Err(error.into()),
        }
        let connected = Self::negotiate(hv, xs, &names, domid, pool_pages, vdev);
        if connected.is_err() {
            // Best effort: the first error is the one to tell.
            let _ = xs.unwatch(&xenbus::state_path(&names.backend), &names.token);
        }
        connected
    }

    fn negotiate(
        hv: &H,
        xs: &mut Xenstore<H>,
        names: &Names,
        domid: DomId,
        pool_pages: u16,
        vdev: u32,
    ) -> Result<Self, ConnectError> {
        xenbus::write_state(xs, &names.frontend, XenbusState::Initialising)?;
        wait_for(xs, names, Phase::Start, Step::Offer)?;
        let terms = Terms::read(xs, &names.backend, pool_pages)?;
        let mut front = Self::allocate(hv, names, domid, terms, vdev).map_err(ConnectError::Xen)?;
        match front.offer_and_connect(xs) {
            Ok(()) => Ok(front),
            Err(error) => {
                // It may have mapped our pages by now: ask for them back before they go.
                let _ = front.close(xs);
                front.disconnect();
                Err(error)
            }
        }
    }

    /// Everything that needs memory, before the back end sees any of it.
    fn allocate(hv: &H, names: &Names, domid: DomId, terms: Terms, vdev: u32) -> Result<Self, Errno> {
        let port = OwnedPort::alloc(hv, domid)?;
        let grant = |count: usize| -> Result<Vec<_>, Errno> {
            core::iter::repeat_with(|| GrantedPage::alloc(hv, domid)).take(count).collect()
        };
        let ring_pages = grant(ring_pages(terms.ring_page_order))?;
        let shared = ring_pages.iter().map(|page| page.page().clone()).collect();
        let ring = FrontRing::new(shared, RING_ENTRY_SIZE).ok_or(Errno::EINVAL)?;
        let indirect = grant(terms.indirect_pages().into())?;
        let slots = Slots::new(u16::try_from(ring.entries()).map_err(|_| Errno::EINVAL)?);
        Ok(BlkFront {
            ring,
            slots,
            pool: Pool::new(hv, domid, terms.pool_pages, port.port().0)?,
            indirect,
            indirect_free: (0..terms.indirect_pages()).collect(),
            ring_pages,
            port,
            handle: u16::try_from(vdev & 0xffff).unwrap_or(0),
            max_pages: terms.max_pages,
            geometry: Geometry::default(),
            health: Health::Connected,
            names: names.clone(),
        })
    }

    fn offer_and_connect(&mut self, xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        self.offer(xs)?;
        let names = self.names.clone();
        xenbus::write_state(xs, &names.frontend, XenbusState::Initialised)?;
        wait_for(xs, &names, Phase::Offered, Step::Connect)?;
        self.geometry = Geometry::read(xs, &names.backend)?;
        xenbus::write_state(xs, &names.frontend, XenbusState::Connected)?;
        Ok(())
    }

    /// Writes ring, port and features into our directory, all at once.
    fn offer(&self, xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        let dir = &self.names.frontend;
        let mut nodes = Vec::new();
        let mut gone = Vec::new();
        let grefs = self.ring_pages.iter().map(|page| page.gref().to_string());
        if self.ring_pages.len() == 1 {
            nodes.extend(grefs.map(|gref| ("ring-ref".to_string(), gref)));
            // A back end would prefer it to `ring-ref`.
            gone.push("ring-page-order");
        } else {
            nodes.push(("ring-page-order".to_string(), self.ring_pages.len().ilog2().to_string()));
            nodes.extend(grefs.enumerate().map(|(page, gref)| (format!("ring-ref{page}"), gref)));
            gone.push("ring-ref");
        }
        nodes.push(("event-channel".to_string(), self.port().to_string()));
        nodes.push(("protocol".to_string(), PROTOCOL.to_string()));
        nodes.push(("feature-persistent".to_string(), "1".to_string()));
        let written = xs.transaction(|tx| {
            for key in &gone {
                tx.rm(&format!("{dir}/{key}"))?;
            }
            nodes.iter().try_for_each(|(key, value)| tx.write(&format!("{dir}/{key}"), value.as_bytes()))
        });
        written.map_err(ConnectError::Store)
    }

    /// The back end's directory.
    #[must_use]
    pub fn backend_path(&self) -> &str {
        &self.names.backend
    }

    /// Judges a watch event: whether the back end left or the disk was resized. Call it for
    /// every disk when [`Xenstore::take_events_lost`] says that events were dropped, with
    /// the disk's own `backend_path()`.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn on_watch(&mut self, xs: &mut Xenstore<H>, path: &str) -> Result<WatchOutcome, StoreError> {
        let below = path.strip_prefix(self.names.backend.as_str());
        if !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Ok(WatchOutcome::NotOurs);
        }
        if self.health != Health::Connected {
            return Ok(WatchOutcome::Unchanged);
        }
        let state = xenbus::read_state(xs, &self.names.backend)?;
        if xenbus::step(Phase::Connected, state) == Step::Lost {
            self.break_off(PeerFault::Left(state));
            return Ok(WatchOutcome::Lost);
        }
        let sectors = match number(xs, &self.names.backend, "sectors") {
            Ok(Some(sectors)) if self.geometry.sectors_ok(sectors) => sectors,
            Err(ConnectError::Store(error)) => return Err(error),
            // A resize to nothing or to nonsense: keep what was agreed.
            _ => return Ok(WatchOutcome::Unchanged),
        };
        if sectors == self.geometry.sectors {
            return Ok(WatchOutcome::Unchanged);
        }
        self.geometry.sectors = sectors;
        Ok(WatchOutcome::Resized)
    }

    /// Closes the connection in order: Closing, Closed, and the back end has let go of the
    /// pages. Drain first; requests still under way will not complete. Then
    /// [`BlkFront::disconnect`].
    ///
    /// # Errors
    /// [`ConnectError::TimedOut`] if the back end does not follow; the connection counts as
    /// closed all the same.
    pub fn close(&mut self, xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        self.health = Health::Closed;
        let names = self.names.clone();
        xenbus::write_state(xs, &names.frontend, XenbusState::Closing)?;
        let closing = wait_for_within(xs, &names, Phase::Closing, Step::Done, CLOSE_TIMEOUT_NS);
        xenbus::write_state(xs, &names.frontend, XenbusState::Closed)?;
        let closed = wait_for_within(xs, &names, Phase::Closed, Step::Done, CLOSE_TIMEOUT_NS);
        // The back end's directory may be gone, and the watch with it.
        let _ = xs.unwatch(&xenbus::state_path(&names.backend), &names.token);
        closing.and(closed)
    }
}

fn wait_for<H: Hypervisor>(
    xs: &mut Xenstore<H>,
    names: &Names,
    phase: Phase,
    wanted: Step,
) -> Result<(), ConnectError> {
    wait_for_within(xs, names, phase, wanted, CONNECT_TIMEOUT_NS)
}

fn wait_for_within<H: Hypervisor>(
    xs: &mut Xenstore<H>,
    names: &Names,
    phase: Phase,
    wanted: Step,
    timeout_ns: u64,
) -> Result<(), ConnectError> {
    let deadline_ns = xs.hypervisor().now_ns().saturating_add(timeout_ns);
    match xenbus::wait_step(xs, &names.backend, &names.token, phase, deadline_ns)? {
        (step, _) if step == wanted => Ok(()),
        (Step::Wait, state) => Err(ConnectError::TimedOut(state)),
        (_, state) => Err(ConnectError::Refused(state)),
    }
}
