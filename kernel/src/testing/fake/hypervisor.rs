//! What a domain asks of the fake Xen.

use super::{Channel, Event, FakeXen, Grant, Server};
use crate::mem::shared::{Order, SharedPage};
use crate::xen::hypervisor::{DomId, GrantRef, Hypervisor, IoservId, Port, ShutdownReason};
use alloc::vec::Vec;
use xen_pv_sys::dm_op::ioreq;
use xen_pv_sys::errno::Errno;

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
        self.run_hooks("evtchn_take_pending");
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
        // Counted only under a limit: a network interface has 512 grants.
        let limit = self.machine.borrow().grant_limit;
        if limit.is_some_and(|limit| self.live_grants() >= limit) {
            return Err(Errno::ENOSPC);
        }
        let mut machine = self.machine.borrow_mut();
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
