//! The frontend of a PV block device: a disk of another domain.
//!
//! Data goes through bounce pages that are granted once ([`pool`](Bounce)); a request takes
//! its pages along and brings them back with its completion. Nothing allocates once
//! connected. The usual round: [`BlkFront::take_pages`], fill, [`BlkFront::submit`],
//! [`BlkFront::kick`]; then [`BlkFront::next_completion`] until none, and
//! [`BlkFront::enable_events`] before sleeping.
//!
//! Blkback is not trusted. A response is copied once; its id must be live and its
//! operation that of the request; anything else ends the connection
//! ([`Health::Broken`]). What it cannot be kept from is lying about the disk's content.
//!
//! One queue. A connection that broke is given up for a [`Reconnect`], which leads to the
//! next one without ever waiting; what was under way is the caller's to submit again.

mod connect;
mod error;
mod geometry;
mod io;
mod negotiate;
mod pool;
mod slots;
mod stale;
mod wire;

pub use crate::frontend::ConnectError;
pub use connect::WatchOutcome;
pub use error::{Health, IoError, PeerFault, SubmitError};
pub use geometry::{Discard, Geometry};
pub use pool::{Bounce, PoolCount};
pub use stale::close_stale;

use crate::evtchn::OwnedPort;
use crate::frontend::{self, Device, Session};
use crate::gnttab::GrantedPage;
use crate::ring::FrontRing;
use alloc::vec::Vec;
use kernel::{DomId, Hypervisor, Port, SharedPage};
use negotiate::RING_ENTRIES_MAX;
use pool::Pool;
use slots::Slots;

/// The largest pool. Linux's blkback keeps up to 1056 persistent grants of a queue; the
/// pool and its indirect pages (one for each 12 pages) stay below.
pub const MAX_POOL_PAGES: u16 = 960;

/// A disk without a connection, on its way to one.
pub type Reconnect<H> = frontend::Reconnect<H, BlkFront<H>>;

/// A request. Sectors are 512-byte units, whatever the disk's logical block. Data starts at
/// the first byte of the first page and is dense.
#[derive(Debug, Eq, PartialEq)]
pub enum Op {
    /// Reads into the pages.
    Read {
        /// First sector.
        first_sector: u64,
        /// Where to.
        bounce: Bounce,
        /// Length; whole logical blocks.
        len_bytes: u32,
    },
    /// Writes from the pages.
    Write {
        /// First sector.
        first_sector: u64,
        /// Where from.
        bounce: Bounce,
        /// Length; whole logical blocks.
        len_bytes: u32,
    },
    /// Makes every write durable that has completed before.
    Flush,
    /// Gives up the sectors' content.
    Discard {
        /// First sector.
        first_sector: u64,
        /// Length.
        sectors: u64,
        /// The content must not be recoverable.
        secure: bool,
    },
}

/// The end of a request.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "its pages are lost if they are not given back"]
pub struct Completion {
    /// The caller's id.
    pub id: u64,
    /// How it went. After a failed read the pages hold nothing of meaning: do not copy them.
    pub outcome: Result<(), IoError>,
    /// The pages of a read or write.
    pub bounce: Option<Bounce>,
}

/// What [`BlkFront::disconnect`] left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disconnected {
    /// Pages taken back and freed.
    pub revoked_pages: usize,
    /// Pages that blkback still had mapped; leaked.
    pub busy_pages: usize,
    /// Requests that never completed, by the caller's ids.
    pub unfinished: Vec<u64>,
}

/// A connection to a blkback.
///
/// # Examples
/// A flush, over fakes of Xen, xenstored and blkback:
///
/// ```
/// use drivers::blkfront::{BlkFront, Op};
/// use drivers::fake::{BlkBack, BlkBackConfig, XenStored};
/// use drivers::xenstore::Xenstore;
/// use kernel::fake::FakeXen;
/// use kernel::{DomId, Hypervisor};
///
/// let xen = FakeXen::new(DomId(5));
/// let store = XenStored::start(&xen);
/// let _blkback = BlkBack::attach(&xen, &store, 51712, BlkBackConfig::default());
/// let mut xenstore = Xenstore::new(&xen).unwrap();
/// let mut disk = BlkFront::connect(&xen, &mut xenstore, 51712, 64).unwrap();
///
/// disk.submit(7, Op::Flush).unwrap();
/// disk.kick();
/// let completion = loop {
///     if let Some(completion) = disk.next_completion() {
///         break completion;
///     }
///     if !disk.enable_events(1) {
///         xen.poll(&[disk.port()], None).unwrap();
///         xen.evtchn_take_pending(disk.port());
///     }
/// };
/// assert_eq!((completion.id, completion.outcome), (7, Ok(())));
/// ```
#[derive(Debug)]
pub struct BlkFront<H: Hypervisor> {
    hv: H,
    session: Session<u16>,
    ring: FrontRing,
    slots: Slots,
    pool: Pool<H>,
    /// Pages for segments, and which of them are free.
    indirect: Vec<GrantedPage<H>>,
    indirect_free: heapless::Vec<u16, RING_ENTRIES_MAX>,
    ring_pages: Vec<GrantedPage<H>>,
    port: OwnedPort<H>,
    /// The low bits of the virtual device number; Linux's blkback ignores it.
    handle: u16,
    max_pages: u16,
    geometry: Geometry,
    health: Health,
    /// Notifications of blkback.
    sends: u64,
}

impl<H: Hypervisor> BlkFront<H> {
    /// The disk's properties.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Blkback's domain.
    #[must_use]
    pub fn backend_domid(&self) -> DomId {
        self.session.paths.domid
    }

    /// The ring's event channel.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port.port()
    }

    /// The most pages that one request may have: 11, or more with indirect segments; never
    /// more than the pool has.
    #[must_use]
    pub fn max_pages_per_request(&self) -> u16 {
        self.max_pages
    }

    /// Requests that the ring holds at most.
    #[must_use]
    pub fn ring_entries(&self) -> u32 {
        self.ring.entries()
    }

    /// Whether it can be used. Look after each round of completions and each
    /// [`BlkFront::on_watch`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// How often blkback was notified.
    #[must_use]
    pub fn sends(&self) -> u64 {
        self.sends
    }

    /// The requests under way, by the caller's ids, in no order.
    pub fn in_flight_ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.slots.in_flight().map(|request| request.caller_id)
    }

    /// Takes `count` pages from the pool; `None` if fewer are free now (or
    /// `count` is 0). `count` up to [`BlkFront::max_pages_per_request`] is available sooner
    /// or later.
    pub fn take_pages(&mut self, count: u16) -> Option<Bounce> {
        self.pool.take(count)
    }

    /// Puts pages back into the pool. They must be this disk's.
    pub fn give_back(&mut self, bounce: Bounce) {
        self.pool.give_back(bounce);
    }

    /// The page at place `index` of a bounce. Walks there: for all of them use
    /// [`BlkFront::pages`].
    #[must_use]
    pub fn page(&self, bounce: &Bounce, index: u16) -> Option<&SharedPage> {
        self.pool.page(bounce, index)
    }

    /// The pages of a bounce, in order.
    pub fn pages(&self, bounce: &Bounce) -> impl Iterator<Item = &SharedPage> {
        self.pool.pages(bounce).map(GrantedPage::page)
    }

    /// Pages of the pool, all and free.
    #[must_use]
    pub fn pool_count(&self) -> PoolCount {
        self.pool.count()
    }

    /// Gives up the connection: takes every grant back, frees the pages, closes the port.
    /// Call [`BlkFront::close`] first if blkback is to let go of the pages in order;
    /// those that it still has mapped are leaked and counted.
    pub fn disconnect(self) -> Disconnected {
        let unfinished = self.in_flight_ids().collect();
        let mut report = Disconnected { revoked_pages: 0, busy_pages: 0, unfinished };
        for page in self.into_pages() {
            let counter = match page.revoke() {
                Ok(()) => &mut report.revoked_pages,
                Err(_) => &mut report.busy_pages,
            };
            *counter = counter.saturating_add(1);
        }
        if report.busy_pages > 0 {
            log::warn!("blkfront: {} pages still mapped by blkback are lost", report.busy_pages);
        }
        report
    }
}

#[cfg(test)]
mod tests;
