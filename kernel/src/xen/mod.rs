//! The real Xen behind the [`Hypervisor`] seam.

mod delay;
mod dm;
pub mod event_bits;
mod events;
mod grants;
mod guest_grants;
pub(crate) mod hypercalls;
pub mod hypervisor;
mod memory;
#[cfg(feature = "hostile")]
pub(crate) use memory::add_foreign;

pub use delay::Delay;
pub use memory::{Unused, XenWindow};

use crate::mem::foreign::ForeignMap;
use crate::mem::granted::GrantMap;
use crate::mem::magic;
use crate::mem::shared::SharedPage;
use crate::{restart, time};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;
use events::Events;
use grants::GrantTable;
use guest_grants::XenGrants;
use hypervisor::{DomId, GrantRef, Hypervisor, IoservId, Port, ShutdownReason};
use memory::Physmap;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::hvm::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN};
use xen_pv_sys::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};

/// The target's RAM, mapped by the real Xen.
pub type XenForeignMap = ForeignMap<XenWindow>;

/// This domain's handle on Xen. Copies reach the same state.
#[derive(Clone, Copy)]
pub struct Xen(&'static State);

struct State {
    events: Events,
    grants: RefCell<GrantTable>,
    physmap: Physmap,
}

impl fmt::Debug for Xen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Xen")
    }
}

impl Xen {
    /// Sets up event channels. Called once in each incarnation.
    ///
    /// # Errors
    /// What Xen answers.
    #[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "only the stub has a Xen"))]
    pub(crate) fn new(ram: Range<u64>, unused: Unused) -> Result<Xen, Errno> {
        let physmap = Physmap::new(unused)?;
        let events = Events::new(&physmap)?;
        let mut grants = GrantTable::new(ram);
        grants.adopt(restart::grant_frames())?;
        let grants = RefCell::new(grants);
        Ok(Xen(Box::leak(Box::new(State { events, grants, physmap }))))
    }

    /// A window through which up to `chunks` times 2 MiB of the target's RAM are reachable at
    /// once. Each chunk costs one page of this domain's p2m pool (`shadow_memory`).
    ///
    /// # Errors
    /// `ENOSPC` if there are not that many unused addresses left.
    pub fn foreign_map(&self, target: DomId, chunks: u16) -> Result<XenForeignMap, Errno> {
        Ok(ForeignMap::new(XenWindow::new(&self.0.physmap, target, chunks)?))
    }
}

impl Xen {
    /// What the target grants to this domain. Nothing of its memory is mapped but pages of rings, and those
    /// by grants. They cost one page of this domain's p2m pool.
    ///
    /// # Errors
    /// `ENOSPC` if there are no unused addresses left.
    pub fn grant_map(&self, target: DomId) -> Result<GrantMap, Errno> {
        Ok(GrantMap::new(XenGrants::new(&self.0.physmap, target)?))
    }
}

/// After a restart: what an earlier incarnation left.
impl Xen {
    /// Closes every port but `kept` and those of console and xenstore.
    pub fn close_previous_ports(&self, kept: &[Port]) {
        let magic = [HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN].map(hypercalls::hvm_param);
        let magic = magic.into_iter().filter_map(|port| u32::try_from(port.ok()?).ok()).map(Port);
        let kept: Vec<Port> = kept.iter().copied().chain(magic).collect();
        events::close_all_but(&kept);
    }

    /// From now on a panic leads to a restart in place. The next incarnation takes the memory of the
    /// incarnation before this one, so what that granted is ended first. Whether there will be one: not if the
    /// configuration wants none.
    ///
    /// # Errors
    /// How many pages of that incarnation are in use by a peer or by Xen: there is no restart then.
    pub fn allow_restart(&self) -> Result<bool, usize> {
        let granted = self.0.grants.borrow_mut().end_previous();
        // Where this incarnation could not register a run state, Xen goes on with the previous one's.
        let run_state = usize::from(restart::is_restarted() && !self.0.events.has_runstate());
        match granted + run_state {
            0 => Ok(restart::allow_restart()),
            pages => Err(pages),
        }
    }

    /// The page that it granted as `gref`, while that grant stands: RAM that this incarnation leaves
    /// alone otherwise. `None` if it is anything else.
    #[must_use]
    pub fn previous_page(&self, gref: GrantRef) -> Option<SharedPage> {
        let address = self.0.grants.borrow().previous_page(gref)?;
        restart::previous_page(address)
    }
}

#[cfg(feature = "hostile")]
impl Xen {
    pub(crate) fn foreign_page(&self, domain: DomId, gfn: u64) -> Result<SharedPage, Errno> {
        self.0.physmap.foreign_page(domain, gfn)
    }

    pub(crate) fn grant_table_page(&self, domain: DomId) -> Result<SharedPage, Errno> {
        self.0.physmap.grant_table_page(domain)
    }

    /// Writes the flags of a grant that this domain has made, whoever uses it.
    pub(crate) fn store_grant_flags(&self, gref: GrantRef, flags: u16) -> Result<(), Errno> {
        self.0.grants.borrow().store_flags(gref, flags)
    }

    /// A block of frames at which nothing is, and of which this domain will use none.
    pub(crate) fn unused_gfns(&self) -> Result<Range<u64>, Errno> {
        self.0.physmap.unused_gfns()
    }
}

#[cfg(any(feature = "guest", feature = "hostile"))]
impl Xen {
    pub(crate) fn shared_info(&self) -> SharedPage {
        self.0.events.shared_info.clone()
    }
}

impl Hypervisor for Xen {
    fn evtchn_alloc_unbound(&self, remote: DomId) -> Result<Port, Errno> {
        events::alloc_unbound(remote)
    }

    fn evtchn_bind_interdomain(&self, remote: DomId, remote_port: u32) -> Result<Port, Errno> {
        events::bind_interdomain(remote, remote_port)
    }

    fn evtchn_send(&self, port: Port) -> Result<(), Errno> {
        hypercalls::evtchn_send(port)
    }

    fn evtchn_close(&self, port: Port) -> Result<(), Errno> {
        events::close(port)
    }

    fn evtchn_take_pending(&self, port: Port) -> bool {
        self.0.events.take_pending(port)
    }

    fn poll(&self, ports: &[Port], deadline_ns: Option<u64>) -> Result<(), Errno> {
        self.0.events.poll(ports, deadline_ns)
    }

    fn grant_access(&self, remote: DomId, page: &SharedPage, read_only: bool) -> Result<GrantRef, Errno> {
        self.0.grants.borrow_mut().access(remote, page, read_only)
    }

    fn grant_end(&self, gref: GrantRef) -> Result<(), Errno> {
        // The page's last handle may go here: drop it after the borrow has ended.
        let page = self.0.grants.borrow_mut().end(gref)?;
        drop(page);
        Ok(())
    }

    fn ioreq_server_create(&self, target: DomId) -> Result<IoservId, Errno> {
        dm::create(target)
    }

    fn ioreq_server_page(&self, target: DomId, id: IoservId) -> Result<SharedPage, Errno> {
        self.0.physmap.ioreq_page(target, id)
    }

    fn ioreq_server_map_mmio(&self, target: DomId, id: IoservId, first: u64, last: u64) -> Result<(), Errno> {
        dm::map_mmio(target, id, first, last)
    }

    fn ioreq_server_set_state(&self, target: DomId, id: IoservId, enabled: bool) -> Result<(), Errno> {
        dm::set_state(target, id, enabled)
    }

    fn ioreq_server_destroy(&self, target: DomId, id: IoservId) -> Result<(), Errno> {
        dm::destroy(target, id)
    }

    fn set_irq_level(&self, target: DomId, irq: u32, level: bool) -> Result<(), Errno> {
        dm::set_irq_level(target, irq, level)
    }

    fn nr_vcpus(&self, target: DomId) -> Result<u32, Errno> {
        dm::nr_vcpus(target)
    }

    fn hvm_param(&self, index: u32) -> Result<u64, Errno> {
        hypercalls::hvm_param(index)
    }

    fn magic_page(&self, gfn: u64) -> Result<SharedPage, Errno> {
        magic::page(gfn)
    }

    fn now_ns(&self) -> u64 {
        time::now_ns()
    }

    fn yield_cpu(&self) {
        hypercalls::sched_yield();
    }

    fn waited_ns(&self) -> u64 {
        self.0.events.waited_ns()
    }

    fn shutdown(&self, reason: ShutdownReason) {
        hypercalls::sched_shutdown(match reason {
            ShutdownReason::Poweroff => SHUTDOWN_POWEROFF,
            ShutdownReason::Crash => SHUTDOWN_CRASH,
        });
    }
}
