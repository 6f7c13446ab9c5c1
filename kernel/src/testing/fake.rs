//! An in-memory Xen for host tests: domains, event channels, grants, ioreq servers.
//!
//! [`FakeXen::domain`] gives a handle that acts as one domain. A fake peer (blkback,
//! xenstored, a guest) is another handle on the same machine, driven by the test. `poll`
//! runs the peers registered with [`FakeXen::on_idle`] until a port is pending, so a
//! single-threaded test can host both ends.

mod heap;
mod hypervisor;

pub use heap::CountedHeap;

use crate::mem::shared::{Order, SharedPage};
use crate::xen::hypervisor::{DomId, GrantRef, Hypervisor, IoservId, Port, ShutdownReason};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use xen_pv_sys::dm_op::ioreq;
use xen_pv_sys::errno::Errno;

/// What the device model asked Xen to do, in order; for assertions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// `set_irq_level(target, irq, level)`.
    Irq(DomId, u32, bool),
    /// The server's state was set.
    ServerState(IoservId, bool),
    /// The server was destroyed.
    ServerDestroyed(IoservId),
    /// The domain ended.
    Shutdown(DomId, ShutdownReason),
}

/// An access of a guest, as an ioreq tells it.
#[derive(Clone, Copy, Debug)]
pub struct GuestAccess {
    /// `TYPE_COPY`, `TYPE_INVALIDATE` or what no stub expects.
    pub kind: u8,
    /// Guest physical address.
    pub addr: u64,
    /// Bytes.
    pub size_bytes: u32,
    /// What is written; `None`: a read.
    pub write: Option<u64>,
}

impl GuestAccess {
    /// A read of 4 bytes.
    #[must_use]
    pub const fn read(addr: u64) -> GuestAccess {
        GuestAccess { kind: ioreq::TYPE_COPY, addr, size_bytes: 4, write: None }
    }

    /// A write of 4 bytes.
    #[must_use]
    pub const fn write(addr: u64, value: u64) -> GuestAccess {
        GuestAccess { write: Some(value), ..GuestAccess::read(addr) }
    }

    /// The guest's memory map has changed.
    #[must_use]
    pub const fn invalidate() -> GuestAccess {
        GuestAccess { kind: ioreq::TYPE_INVALIDATE, ..GuestAccess::write(0, u64::MAX) }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Channel {
    Unbound { remote: DomId },
    Bound { remote: DomId, remote_port: Port },
}

struct Grant {
    remote: DomId,
    page: SharedPage,
    read_only: bool,
    mapped: u32,
}

struct Server {
    owner: DomId,
    target: DomId,
    page: SharedPage,
    ranges: Vec<(u64, u64)>,
    enabled: bool,
    ports: Vec<Port>,
}

#[derive(Default)]
struct Machine {
    channels: BTreeMap<(DomId, Port), Channel>,
    pending: BTreeSet<(DomId, Port)>,
    grants: BTreeMap<(DomId, GrantRef), Grant>,
    /// Grants allowed per domain; `None` is unlimited.
    grant_limit: Option<usize>,
    servers: BTreeMap<IoservId, Server>,
    /// Privilege: (device model, target) and the target's vCPUs.
    targets: BTreeMap<(DomId, DomId), u32>,
    params: BTreeMap<(DomId, u32), u64>,
    magic: BTreeMap<(DomId, u64), SharedPage>,
    now_ns: u64,
    /// How far the clock moves each time that it is read.
    tick_ns: u64,
    waited_ns: u64,
    next_port: u32,
    next_gref: u32,
    next_server: u16,
    events: Vec<Event>,
    failures: VecDeque<(&'static str, Errno)>,
}

type Peer = Box<dyn FnMut() -> bool>;
/// Whose call of which method it comes before.
type Hook = (DomId, &'static str, Box<dyn FnMut()>);

/// A handle on the fake machine, acting as one domain.
#[derive(Clone)]
pub struct FakeXen {
    machine: Rc<RefCell<Machine>>,
    peers: Rc<RefCell<Vec<Peer>>>,
    hooks: Rc<RefCell<Vec<Hook>>>,
    me: DomId,
}

impl FakeXen {
    /// A new machine; the handle acts as domain `me`.
    #[must_use]
    pub fn new(me: DomId) -> FakeXen {
        let machine = Machine { next_port: 1, next_gref: 8, ..Machine::default() };
        FakeXen { machine: Rc::new(RefCell::new(machine)), peers: Rc::default(), hooks: Rc::default(), me }
    }

    /// The same machine, as seen by another domain.
    #[must_use]
    pub fn domain(&self, me: DomId) -> FakeXen {
        FakeXen { me, ..self.clone() }
    }

    /// The domain this handle acts as.
    #[must_use]
    pub fn me(&self) -> DomId {
        self.me
    }

    /// Registers a peer: `poll` calls it while no port is pending; it returns whether it did
    /// anything.
    pub fn on_idle(&self, peer: impl FnMut() -> bool + 'static) {
        self.peers.borrow_mut().push(Box::new(peer));
    }

    /// Ends every peer and hook. One that holds a handle keeps the machine alive otherwise.
    pub fn forget_peers(&self) {
        // Dropped after the borrow ends: a peer's end may reach this machine.
        drop((self.peers.take(), self.hooks.take()));
    }

    /// Runs `hook` before each call that this domain makes of the method `name`: what others do at
    /// that moment. Calls that a hook makes have no hooks.
    pub fn before(&self, name: &'static str, hook: impl FnMut() + 'static) {
        self.hooks.borrow_mut().push((self.me, name, Box::new(hook)));
    }

    fn run_hooks(&self, name: &'static str) {
        // Taken out while they run: a hook may call the method that it comes before.
        let mut hooks = self.hooks.take();
        let mine = |hook: &&mut Hook| (hook.0, hook.1) == (self.me, name);
        hooks.iter_mut().filter(mine).for_each(|(.., hook)| hook());
        let added = self.hooks.replace(hooks);
        self.hooks.borrow_mut().extend(added);
    }

    /// Runs every peer until none has anything to do (at most `rounds` times).
    pub fn run_peers(&self, rounds: usize) {
        for _ in 0..rounds {
            // Taken out while they run: a peer may register another.
            let mut peers = core::mem::take(&mut *self.peers.borrow_mut());
            let busy = peers.iter_mut().fold(false, |busy, peer| peer() | busy);
            let added = core::mem::replace(&mut *self.peers.borrow_mut(), peers);
            self.peers.borrow_mut().extend(added);
            if !busy {
                return;
            }
        }
    }

    /// Makes the next call of method `name` fail.
    pub fn fail_next(&self, name: &'static str, errno: Errno) {
        self.machine.borrow_mut().failures.push_back((name, errno));
    }

    fn failure(&self, name: &'static str) -> Result<(), Errno> {
        self.run_hooks(name);
        let mut machine = self.machine.borrow_mut();
        match machine.failures.iter().position(|(method, _)| *method == name) {
            Some(at) => Err(machine.failures.remove(at).map_or(Errno::EINVAL, |(_, errno)| errno)),
            None => Ok(()),
        }
    }

    /// Gives domain `me` privilege over `target`, a guest with `vcpus` vCPUs.
    pub fn set_target(&self, target: DomId, vcpus: u32) {
        self.machine.borrow_mut().targets.insert((self.me, target), vcpus);
    }

    /// Sets an `HVM_PARAM_*` of this domain.
    pub fn set_param(&self, index: u32, value: u64) {
        self.machine.borrow_mut().params.insert((self.me, index), value);
    }

    /// Puts a magic page at `gfn` of this domain and returns it for the peer.
    #[must_use]
    pub fn add_magic_page(&self, gfn: u64) -> SharedPage {
        let page = SharedPage::alloc().expect("host memory");
        self.machine.borrow_mut().magic.insert((self.me, gfn), page.clone());
        page
    }

    /// Limits how many grants a domain may have.
    pub fn limit_grants(&self, limit: usize) {
        self.machine.borrow_mut().grant_limit = Some(limit);
    }

    /// Moves the clock.
    pub fn advance_ns(&self, nanoseconds: u64) {
        self.machine.borrow_mut().now_ns += nanoseconds;
    }

    /// Lets the clock move by `nanoseconds` each time that it is read; 0: only as it is told.
    pub fn set_tick_ns(&self, nanoseconds: u64) {
        self.machine.borrow_mut().tick_ns = nanoseconds;
    }

    /// Others had the CPU for so long while a domain wanted it.
    pub fn add_waited_ns(&self, nanoseconds: u64) {
        self.machine.borrow_mut().waited_ns += nanoseconds;
    }

    /// What happened since the last call.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        core::mem::take(&mut self.machine.borrow_mut().events)
    }

    /// Maps a page that `owner` granted to this domain (`GNTTABOP_map_grant_ref`).
    ///
    /// # Errors
    /// `EINVAL` for a bad reference, `EPERM` if it is not ours or `write` is not allowed.
    pub fn map_grant(&self, owner: DomId, gref: GrantRef, write: bool) -> Result<SharedPage, Errno> {
        let mut machine = self.machine.borrow_mut();
        let grant = machine.grants.get_mut(&(owner, gref)).ok_or(Errno::EINVAL)?;
        if grant.remote != self.me || (write && grant.read_only) {
            return Err(Errno::EPERM);
        }
        grant.mapped += 1;
        Ok(grant.page.clone())
    }

    /// Undoes one [`FakeXen::map_grant`].
    ///
    /// # Errors
    /// `EINVAL` if it is not mapped.
    pub fn unmap_grant(&self, owner: DomId, gref: GrantRef) -> Result<(), Errno> {
        let mut machine = self.machine.borrow_mut();
        let grant = machine.grants.get_mut(&(owner, gref)).ok_or(Errno::EINVAL)?;
        grant.mapped = grant.mapped.checked_sub(1).ok_or(Errno::EINVAL)?;
        Ok(())
    }

    /// Grants that this domain has given and not taken back.
    #[must_use]
    pub fn live_grants(&self) -> usize {
        self.machine.borrow().grants.keys().filter(|(owner, _)| *owner == self.me).count()
    }

    /// Ports that this domain has open.
    #[must_use]
    pub fn open_ports(&self) -> usize {
        self.machine.borrow().channels.keys().filter(|(owner, _)| *owner == self.me).count()
    }

    /// As Xen on a guest's access: puts a request into vCPU `vcpu`'s slot of the enabled
    /// server that claims the address and notifies. `None` if nobody does (the guest would abort).
    /// The caller then runs the server and reads the reply from the returned page.
    pub fn guest_access(&self, vcpu: usize, access: GuestAccess) -> Option<SharedPage> {
        let GuestAccess { kind, addr, size_bytes, write } = access;
        let (page, port, target) = {
            let machine = self.machine.borrow();
            let claims = |server: &&Server| {
                server.enabled
                    && (kind == ioreq::TYPE_INVALIDATE
                        || server.ranges.iter().any(|&(first, last)| first <= addr && addr <= last))
            };
            let server = machine.servers.values().rev().find(claims)?;
            (server.page.clone(), *server.ports.get(vcpu)?, server.target)
        };
        let base = vcpu * ioreq::SIZE;
        let state = ioreq::STATE_READY | if write.is_none() { ioreq::DIR_READ } else { 0 };
        page.store(base + ioreq::ADDR, addr, Order::Relaxed).ok()?;
        page.store(base + ioreq::DATA, write.unwrap_or(0), Order::Relaxed).ok()?;
        page.store(base + ioreq::COUNT, u32::from(kind == ioreq::TYPE_COPY), Order::Relaxed).ok()?;
        page.store(base + ioreq::SIZE_FIELD, size_bytes, Order::Relaxed).ok()?;
        page.store(base + ioreq::TYPE, kind, Order::Relaxed).ok()?;
        page.store(base + ioreq::STATE_BITS, state, Order::AcqRel).ok()?;
        self.domain(target).evtchn_send(port).ok()?;
        Some(page)
    }
}
