//! A fake blkback in domain 0: handshake over the fake xenstored, ring, responses.
//!
//! It looks at the ring only when notified and notifies only when asked to, so a driver
//! that forgets either hangs here as it would on Xen.

mod serve;

use super::backring::BackRing;
use super::disk::{Disk, Grants};
use super::faults::{Faults, Misdeed, Random};
use super::toolstack::Device;
use super::xenstored::XenStored;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Ref, RefCell, RefMut};
use kernel::fake::FakeXen;
use kernel::{DomId, GrantRef, Hypervisor, Port};
use xen_pv_sys::io::blkif::RING_ENTRY_SIZE;

/// The disk and what blkback offers.
#[derive(Clone, Debug)]
pub struct BlkBackConfig {
    /// Length in 512-byte units.
    pub sectors: u64,
    /// Logical block.
    pub sector_size_bytes: u32,
    /// Physical block.
    pub physical_sector_size_bytes: u32,
    /// Refuses writes.
    pub read_only: bool,
    /// Has a cache to flush.
    pub flush: bool,
    /// Discards.
    pub discard: bool,
    /// Discards securely, if at all.
    pub secure_discard: bool,
    /// Keeps grants mapped.
    pub persistent: bool,
    /// `max-ring-page-order`; `None` does not offer it.
    pub max_ring_page_order: Option<u32>,
    /// `feature-max-indirect-segments`; `None` does not offer it.
    pub max_indirect_segments: Option<u16>,
    /// Starts in Initialising and stays there, as if its hotplug script hung.
    pub hangs_at_start: bool,
}

impl Default for BlkBackConfig {
    /// A disk of 1 MiB on what Linux offers.
    fn default() -> Self {
        BlkBackConfig {
            sectors: 2048,
            sector_size_bytes: 512,
            physical_sector_size_bytes: 4096,
            read_only: false,
            flush: true,
            discard: true,
            secure_discard: true,
            persistent: true,
            max_ring_page_order: Some(4),
            max_indirect_segments: Some(256),
            hangs_at_start: false,
        }
    }
}

/// A request taken from the ring and not completed yet.
struct Held {
    entry: Vec<u8>,
    number: u64,
    wait_steps: u32,
}

/// A connected ring.
struct Connection {
    ring: BackRing,
    port: Port,
    grants: Grants,
    held: VecDeque<Held>,
    responses: u64,
    silent: bool,
}

struct Inner {
    me: FakeXen,
    stub: DomId,
    vdev: u32,
    store: XenStored,
    front_dir: String,
    back_dir: String,
    config: BlkBackConfig,
    faults: Faults,
    random: Random,
    disk: Disk,
    connection: Option<Connection>,
    /// Connections that are over and of which it keeps the pages.
    kept: Vec<Connection>,
    /// The driver serves the device.
    is_bound: bool,
    /// The toolstack takes the device away.
    is_leaving: bool,
    requests: u64,
    connections: u64,
    order: Vec<(u8, u64)>,
    most_held: usize,
}

/// A handle on the fake; clones are the same blkback.
#[derive(Clone)]
pub struct BlkBack {
    inner: Rc<RefCell<Inner>>,
}

impl BlkBack {
    /// Creates the device `vdev` of `stub`, both ends' nodes included, as the toolstack
    /// does. Blkback is domain 0.
    #[must_use]
    pub fn attach(stub: &FakeXen, store: &XenStored, vdev: u32, config: BlkBackConfig) -> BlkBack {
        let (me, stub) = (stub.domain(DomId(0)), stub.me());
        let inner = Inner {
            me: me.clone(),
            stub,
            vdev,
            store: store.clone(),
            front_dir: format!("/local/domain/{stub}/device/vbd/{vdev}"),
            back_dir: String::new(),
            disk: Disk::new(config.sectors),
            config,
            faults: Faults::default(),
            random: Random::new(0),
            connection: None,
            kept: Vec::new(),
            is_bound: false,
            is_leaving: false,
            requests: 0,
            connections: 0,
            order: Vec::new(),
            most_held: 0,
        };
        let back = BlkBack { inner: Rc::new(RefCell::new(inner)) };
        back.reattach(DomId(0));
        let peer = back.clone();
        me.on_idle(move || peer.inner.borrow_mut().step());
        back
    }

    /// The toolstack makes the device again, with domain `backend` as its blkback and the
    /// same disk behind it. Whatever was there before is gone, as if that domain had died.
    pub fn reattach(&self, backend: DomId) {
        let mut inner = self.inner.borrow_mut();
        inner.disconnect();
        let Inner { stub, vdev, store, front_dir, back_dir, .. } = &*inner;
        let device = Device { store, front_dir, class: "vbd", number: *vdev, stub: *stub, backend };
        let back_dir = device.make(back_dir, &[], &[("frontend", front_dir)]);
        inner.me = inner.me.domain(backend);
        inner.back_dir = back_dir;
        inner.is_bound = true;
        inner.is_leaving = false;
    }

    /// The toolstack takes the device away: it asks blkback to close and removes both
    /// ends' nodes when that is done.
    pub fn detach(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.is_leaving = true;
        inner.store.write(&format!("{}/online", inner.back_dir), "0");
        inner.go_to(5);
    }

    /// Blkback's domain dies: Xen unmaps what it had mapped, its nodes go.
    pub fn die(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.disconnect();
        inner.is_bound = false;
        inner.store.rm(&inner.back_dir);
    }

    /// Takes the driver off the device, as Linux does: requests are dropped, the state stays.
    pub fn unbind(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.disconnect();
        inner.is_bound = false;
    }

    /// Gives the device to its driver again. As in Linux, it takes up the ring that it finds
    /// in the frontend's nodes.
    pub fn bind(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.is_bound = true;
        inner.go_to(2);
    }

    /// Changes what it offers to the next connection.
    pub fn configure(&self, change: impl FnOnce(&mut BlkBackConfig)) {
        change(&mut self.inner.borrow_mut().config);
    }

    /// Breaks this rule with its next response.
    pub fn misbehave(&self, misdeed: Misdeed) {
        let at = self.responses();
        let mut inner = self.inner.borrow_mut();
        inner.faults.misdeed_at = Some((at, misdeed));
        if let Some(connection) = &mut inner.connection {
            connection.silent = false;
        }
    }

    /// Responses given on the present connection.
    #[must_use]
    pub fn responses(&self) -> u64 {
        self.inner.borrow().connection.as_ref().map_or(0, |connection| connection.responses)
    }

    /// Unmaps what [`Faults::keep_grants`] made it keep. The requests that it had taken reach the disk only
    /// now: that is why it kept the pages.
    pub fn let_go(&self) {
        let mut inner = self.inner.borrow_mut();
        let rules = inner.rules();
        let Inner { kept, me, stub, disk, .. } = &mut *inner;
        for mut connection in kept.drain(..) {
            for held in core::mem::take(&mut connection.held) {
                disk.serve(&held.entry, &mut connection.grants, rules);
            }
            connection.grants.unmap_all();
            connection.ring.unmap(me, *stub);
        }
    }

    /// Connections made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.inner.borrow().connections
    }

    /// The requests completed since the last call, in that order: operation and first sector.
    #[must_use]
    pub fn take_order(&self) -> Vec<(u8, u64)> {
        core::mem::take(&mut self.inner.borrow_mut().order)
    }

    /// Sets how it serves from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut inner = self.inner.borrow_mut();
        inner.random = Random::new(faults.seed);
        inner.faults = faults;
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> Ref<'_, Disk> {
        Ref::map(self.inner.borrow(), |inner| &inner.disk)
    }

    /// The disk, to be changed.
    #[must_use]
    pub fn disk_mut(&self) -> RefMut<'_, Disk> {
        RefMut::map(self.inner.borrow_mut(), |inner| &mut inner.disk)
    }

    /// A node of its directory, to be changed; the frontend's watch sees it if it is the
    /// state.
    pub fn set_node(&self, key: &str, value: &str) {
        let inner = self.inner.borrow();
        inner.store.write(&format!("{}/{key}", inner.back_dir), value);
    }

    /// Blkback's state.
    #[must_use]
    pub fn state(&self) -> u32 {
        self.inner.borrow().state_of(&self.inner.borrow().back_dir)
    }

    /// Data pages that it keeps mapped now.
    #[must_use]
    pub fn mapped_pages(&self) -> usize {
        self.inner.borrow().connection.as_ref().map_or(0, |connection| connection.grants.mapped())
    }

    /// The most requests that it held at once.
    #[must_use]
    pub fn most_held(&self) -> usize {
        self.inner.borrow().most_held
    }
}

impl Inner {
    fn state_of(&self, dir: &str) -> u32 {
        self.store.read(&format!("{dir}/state")).and_then(|state| state.parse().ok()).unwrap_or(0)
    }

    fn go_to(&self, state: u32) {
        self.store.write(&format!("{}/state", self.back_dir), &state.to_string());
    }

    fn step(&mut self) -> bool {
        if !self.is_bound {
            return false;
        }
        let (theirs, ours) = (self.state_of(&self.front_dir), self.state_of(&self.back_dir));
        if self.is_leaving && theirs == 6 && ours == 6 {
            self.store.rm(&self.front_dir);
            self.store.rm(&self.back_dir);
            self.is_bound = false;
            return true;
        }
        match (theirs, ours) {
            (_, 1) if !self.config.hangs_at_start => self.offer(),
            (3 | 4, 2) => self.connect(),
            (5, 2..=4) => self.go_to(5),
            (6, 2..=5) => {
                self.disconnect();
                self.go_to(6);
            }
            (1, 6) if !self.is_leaving => self.go_to(2),
            (_, 4) if self.faults.flaps => {
                self.disconnect();
                self.go_to(6);
            }
            (_, 4) => return self.serve(),
            _ => return false,
        }
        true
    }

    fn offer(&self) {
        let limits = [
            ("max-ring-page-order", self.config.max_ring_page_order),
            ("feature-max-indirect-segments", self.config.max_indirect_segments.map(u32::from)),
        ];
        for (key, value) in limits {
            if let Some(value) = value {
                self.store.write(&format!("{}/{key}", self.back_dir), &value.to_string());
            }
        }
        self.go_to(2);
    }

    fn connect(&mut self) {
        let number = |key: &str| -> Option<u32> {
            self.store.read(&format!("{}/{key}", self.front_dir))?.parse().ok()
        };
        let grefs: Option<Vec<u32>> = match number("ring-page-order") {
            Some(order) => (0..1 << order).map(|page| number(&format!("ring-ref{page}"))).collect(),
            None => number("ring-ref").map(|gref| vec![gref]),
        };
        let (Some(grefs), Some(remote_port)) = (grefs, number("event-channel")) else { return self.go_to(5) };
        // What the nodes name may be what is left of an earlier connection.
        let Ok(port) = self.me.evtchn_bind_interdomain(self.stub, remote_port) else { return self.go_to(5) };
        let grefs: Vec<_> = grefs.into_iter().map(GrantRef).collect();
        let persistent = self.config.persistent && number("feature-persistent") == Some(1);
        let connection = Connection {
            ring: BackRing::map(&self.me, self.stub, grefs, RING_ENTRY_SIZE),
            port,
            grants: Grants::new(self.me.clone(), self.stub, persistent),
            held: VecDeque::new(),
            responses: 0,
            silent: false,
        };
        self.connection = Some(connection);
        self.connections += 1;
        self.write_properties();
        self.go_to(4);
    }

    /// What it says of the disk, in its directory.
    fn write_properties(&self) {
        let config = &self.config;
        let flag = u32::from;
        let nodes = [
            ("feature-flush-cache", flag(config.flush)),
            ("feature-discard", flag(config.discard)),
            ("discard-granularity", config.physical_sector_size_bytes),
            ("discard-alignment", 0),
            ("discard-secure", flag(config.discard && config.secure_discard)),
            ("feature-persistent", flag(config.persistent)),
            ("sector-size", config.sector_size_bytes),
            ("physical-sector-size", config.physical_sector_size_bytes),
            ("info", if config.read_only { 4 } else { 0 }),
        ];
        for (key, value) in nodes {
            self.store.write(&format!("{}/{key}", self.back_dir), &value.to_string());
        }
        // A test may have written another length already.
        let sectors = format!("{}/sectors", self.back_dir);
        if self.store.read(&sectors).is_none() {
            self.store.write(&sectors, &config.sectors.to_string());
        }
    }

    fn disconnect(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        // The frontend may have closed its end already.
        let _ = self.me.evtchn_close(connection.port);
        if self.faults.keep_grants {
            self.kept.push(connection);
            return;
        }
        connection.grants.unmap_all();
        connection.ring.unmap(&self.me, self.stub);
    }
}
