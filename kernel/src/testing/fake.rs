//! An in-memory Xen for host tests: domains, event channels, grants, ioreq servers.
//!
//! [`FakeXen::domain`] gives a handle that acts as one domain. A fake peer (blkback,
//! xenstored, a guest) is another handle on the same machine, driven by the test. `poll`
//! runs the peers registered with [`FakeXen::on_idle`] until a port is pending, so a
//! single-threaded test can host both ends.

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

/// A handle on the fake machine, acting as one domain.
#[derive(Clone)]
pub struct FakeXen {
    machine: Rc<RefCell<Machine>>,
    peers: Rc<RefCell<Vec<Peer>>>,
    me: DomId,
}

impl FakeXen {
    /// A new machine; the handle acts as domain `me`.
    #[must_use]
    pub fn new(me: DomId) -> FakeXen {
        let machine = Machine { next_port: 1, next_gref: 8, ..Machine::default() };
        FakeXen { machine: Rc::new(RefCell::new(machine)), peers: Rc::default(), me }
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

    /// Ends every peer. A peer that holds a handle keeps the machine alive otherwise.
    pub fn forget_peers(&self) {
        // Dropped after the borrow ends: a peer's end may reach this machine.
        drop(self.peers.take());
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
    /// server that claims `addr` and notifies. `None` if nobody does (the guest would abort).
    /// The caller then runs the server and reads the reply from the returned page.
    pub fn guest_access(
        &self,
        vcpu: usize,
        kind: u8,
        addr: u64,
        size_bytes: u32,
        write: Option<u64>,
    ) -> Option<SharedPage> {
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

impl Hypervisor for FakeXen {
    fn evtchn_alloc_unbound(&self, remote: DomId) -> Result<Port, Errno> {
        self.failure("evtchn_alloc_unbound")?;
        let mut machine = self.machine.borrow_mut();
        let port = Port(machine.next_port);
        machine.next_port += 1;
        machine.channels.insert((self.me, port), Channel::Unbound { remote });
        Ok(port)
    }

    fn evtchn_bind_interdomain(&self, remote: DomId, remote_port: u32) -> Result<Port, Errno> {
        self.failure("evtchn_bind_interdomain")?;
        let mut machine = self.machine.borrow_mut();
        let theirs = (remote, Port(remote_port));
        if machine.channels.get(&theirs) != Some(&Channel::Unbound { remote: self.me }) {
            return Err(Errno::EINVAL);
        }
        let port = Port(machine.next_port);
        machine.next_port += 1;
        machine.channels.insert(theirs, Channel::Bound { remote: self.me, remote_port: port });
        machine.channels.insert((self.me, port), Channel::Bound { remote, remote_port: theirs.1 });
        machine.pending.insert((self.me, port));
        Ok(port)
    }

    fn evtchn_send(&self, port: Port) -> Result<(), Errno> {
        self.failure("evtchn_send")?;
        let mut machine = self.machine.borrow_mut();
        match machine.channels.get(&(self.me, port)).copied() {
            Some(Channel::Bound { remote, remote_port }) => {
                machine.pending.insert((remote, remote_port));
                Ok(())
            }
            // Xen drops a notification of an unbound port silently.
            Some(Channel::Unbound { .. }) => Ok(()),
            None => Err(Errno::EINVAL),
        }
    }

    fn evtchn_close(&self, port: Port) -> Result<(), Errno> {
        let mut machine = self.machine.borrow_mut();
        let channel = machine.channels.remove(&(self.me, port)).ok_or(Errno::EINVAL)?;
        machine.pending.remove(&(self.me, port));
        if let Channel::Bound { remote, remote_port } = channel {
            machine.channels.insert((remote, remote_port), Channel::Unbound { remote: self.me });
        }
        Ok(())
    }

    fn evtchn_take_pending(&self, port: Port) -> bool {
        self.machine.borrow_mut().pending.remove(&(self.me, port))
    }

    fn poll(&self, ports: &[Port], deadline_ns: Option<u64>) -> Result<(), Errno> {
        self.failure("poll")?;
        let ready = || {
            let machine = self.machine.borrow();
            if ports.iter().any(|&port| !machine.channels.contains_key(&(self.me, port))) {
                return Err(Errno::EINVAL);
            }
            Ok(ports.iter().any(|&port| machine.pending.contains(&(self.me, port))))
        };
        if !ready()? {
            self.run_peers(100);
        }
        if !ready()? {
            match deadline_ns {
                Some(deadline) => {
                    let mut machine = self.machine.borrow_mut();
                    machine.now_ns = machine.now_ns.max(deadline);
                }
                None => panic!("poll would never return: no peer has anything to do"),
            }
        }
        Ok(())
    }

    fn grant_access(&self, remote: DomId, page: &SharedPage, read_only: bool) -> Result<GrantRef, Errno> {
        self.failure("grant_access")?;
        let live = self.live_grants();
        let mut machine = self.machine.borrow_mut();
        if machine.grant_limit.is_some_and(|limit| live >= limit) {
            return Err(Errno::ENOSPC);
        }
        let gref = GrantRef(machine.next_gref);
        machine.next_gref += 1;
        machine.grants.insert((self.me, gref), Grant { remote, page: page.clone(), read_only, mapped: 0 });
        Ok(gref)
    }

    fn grant_end(&self, gref: GrantRef) -> Result<(), Errno> {
        let mut machine = self.machine.borrow_mut();
        match machine.grants.get(&(self.me, gref)) {
            None => Err(Errno::EINVAL),
            Some(grant) if grant.mapped > 0 => Err(Errno::EBUSY),
            Some(_) => {
                machine.grants.remove(&(self.me, gref));
                Ok(())
            }
        }
    }

    fn ioreq_server_create(&self, target: DomId) -> Result<IoservId, Errno> {
        self.failure("ioreq_server_create")?;
        let page = SharedPage::alloc().ok_or(Errno::ENOMEM)?;
        let mut machine = self.machine.borrow_mut();
        if !machine.targets.contains_key(&(self.me, target)) {
            return Err(Errno::EPERM);
        }
        let id = IoservId(machine.next_server);
        machine.next_server += 1;
        let server =
            Server { owner: self.me, target, page, ranges: Vec::new(), enabled: false, ports: Vec::new() };
        machine.servers.insert(id, server);
        Ok(id)
    }

    fn ioreq_server_page(&self, _target: DomId, id: IoservId) -> Result<SharedPage, Errno> {
        self.failure("ioreq_server_page")?;
        Ok(self.machine.borrow().servers.get(&id).ok_or(Errno::ENOENT)?.page.clone())
    }

    fn ioreq_server_map_mmio(
        &self,
        _target: DomId,
        id: IoservId,
        first: u64,
        last: u64,
    ) -> Result<(), Errno> {
        self.failure("ioreq_server_map_mmio")?;
        let mut machine = self.machine.borrow_mut();
        machine.servers.get_mut(&id).ok_or(Errno::ENOENT)?.ranges.push((first, last));
        Ok(())
    }

    fn ioreq_server_set_state(&self, target: DomId, id: IoservId, enabled: bool) -> Result<(), Errno> {
        self.failure("ioreq_server_set_state")?;
        let vcpus = self.nr_vcpus(target)?;
        let needs_ports =
            enabled && self.machine.borrow().servers.get(&id).is_some_and(|server| server.ports.is_empty());
        if needs_ports {
            // Xen fills vp_eport when the server is enabled.
            let guest = self.domain(target);
            for vcpu in 0..vcpus as usize {
                let port = guest.evtchn_alloc_unbound(self.me)?;
                let mut machine = self.machine.borrow_mut();
                let server = machine.servers.get_mut(&id).ok_or(Errno::ENOENT)?;
                server.ports.push(port);
                server
                    .page
                    .store(vcpu * ioreq::SIZE + ioreq::VP_EPORT, port.0, Order::Relaxed)
                    .map_err(|_| Errno::EINVAL)?;
            }
        }
        let mut machine = self.machine.borrow_mut();
        machine.servers.get_mut(&id).ok_or(Errno::ENOENT)?.enabled = enabled;
        machine.events.push(Event::ServerState(id, enabled));
        Ok(())
    }

    fn ioreq_server_destroy(&self, _target: DomId, id: IoservId) -> Result<(), Errno> {
        let mut machine = self.machine.borrow_mut();
        match machine.servers.get(&id) {
            Some(server) if server.owner == self.me => {
                machine.servers.remove(&id);
                machine.events.push(Event::ServerDestroyed(id));
                Ok(())
            }
            Some(_) => Err(Errno::EPERM),
            None => Err(Errno::ENOENT),
        }
    }

    fn set_irq_level(&self, target: DomId, irq: u32, level: bool) -> Result<(), Errno> {
        self.failure("set_irq_level")?;
        self.machine.borrow_mut().events.push(Event::Irq(target, irq, level));
        Ok(())
    }

    fn nr_vcpus(&self, target: DomId) -> Result<u32, Errno> {
        self.failure("nr_vcpus")?;
        self.machine.borrow().targets.get(&(self.me, target)).copied().ok_or(Errno::EPERM)
    }

    fn hvm_param(&self, index: u32) -> Result<u64, Errno> {
        self.machine.borrow().params.get(&(self.me, index)).copied().ok_or(Errno::EINVAL)
    }

    fn magic_page(&self, gfn: u64) -> Result<SharedPage, Errno> {
        self.machine.borrow().magic.get(&(self.me, gfn)).cloned().ok_or(Errno::EFAULT)
    }

    fn now_ns(&self) -> u64 {
        let mut machine = self.machine.borrow_mut();
        machine.now_ns += machine.tick_ns;
        machine.now_ns
    }

    fn yield_cpu(&self) {
        self.run_peers(1);
    }

    fn waited_ns(&self) -> u64 {
        self.machine.borrow().waited_ns
    }

    fn shutdown(&self, reason: ShutdownReason) {
        self.machine.borrow_mut().events.push(Event::Shutdown(self.me, reason));
    }
}
