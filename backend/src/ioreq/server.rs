//! The ioreq server from start to end: claimed addresses in, guest accesses out, an orderly end.
//!
//! Xen holds a guest vCPU for each access until its slot is answered. So the end has a fixed
//! order: disable (nothing new comes), answer every slot, wait until Xen has taken each
//! answer, destroy. A server destroyed earlier would leave a vCPU waiting without end.

use super::slot::{MAX_VCPUS, Slot, SlotView};
use super::state::ServerState;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;
use kernel::{DomId, Errno, Hypervisor, IoservId, Port, SharedPage};
use xen_pv_sys::dm_op::ioreq;

/// How often a vCPU is given time to take its answer before it counts as stopped.
const DRAIN_ROUNDS: u32 = 20_000;
/// How long that may take in all.
const DRAIN_NS: u64 = 200_000_000;

/// Which step of the start failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartError {
    /// The number of vCPUs could not be learned.
    Vcpus(Errno),
    /// The guest has more than [`MAX_VCPUS`].
    TooManyVcpus(u32),
    /// The server could not be created. `EPERM`: no privilege over the guest.
    Create(Errno),
    /// The ioreq page could not be mapped.
    Page(Errno),
    /// An address range could not be claimed.
    Claim {
        /// First address of the range.
        first: u64,
        /// What Xen answered.
        errno: Errno,
    },
    /// The server could not be enabled.
    Enable(Errno),
    /// A vCPU's port could not be bound.
    Bind {
        /// The vCPU.
        vcpu: u32,
        /// What Xen answered; `EINVAL` if the page names no port.
        errno: Errno,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Vcpus(errno) => write!(f, "cannot count the guest's vCPUs: {errno}"),
            StartError::TooManyVcpus(count) => {
                write!(f, "{count} vCPUs are more than the {MAX_VCPUS} that can be served")
            }
            StartError::Create(errno) => write!(f, "cannot create the ioreq server: {errno}"),
            StartError::Page(errno) => write!(f, "cannot map the ioreq page: {errno}"),
            StartError::Claim { first, errno } => {
                write!(f, "cannot claim guest addresses at {first:#x}: {errno}")
            }
            StartError::Enable(errno) => write!(f, "cannot enable the ioreq server: {errno}"),
            StartError::Bind { vcpu, errno } => write!(f, "cannot bind the port of vCPU {vcpu}: {errno}"),
        }
    }
}

impl core::error::Error for StartError {}

/// How a server ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TeardownOutcome {
    /// Drained and destroyed.
    Clean,
    /// Answered and disabled, but this many vCPUs did not take their answers (a paused or
    /// dying guest). The server was left for Xen to destroy together with the guest.
    Undrained(u32),
}

impl fmt::Display for TeardownOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TeardownOutcome::Clean => f.write_str("clean"),
            TeardownOutcome::Undrained(vcpus) => write!(f, "{vcpus} vCPUs did not take their answers"),
        }
    }
}

/// What it takes to end a server, apart from the server itself: for the panic path.
#[derive(Clone)]
pub struct PanicTeardown<H: Hypervisor> {
    hv: H,
    target: DomId,
    id: IoservId,
    page: SharedPage,
    ports: Vec<Port>,
}

impl<H: Hypervisor> PanicTeardown<H> {
    /// Disables the server, answers every slot, waits for Xen to take each answer, destroys
    /// the server. Allocates nothing; may be called more than once.
    pub fn run(&self) -> TeardownOutcome {
        // An error means that the server or the guest is gone, with all its vCPUs.
        let _gone = self.hv.ioreq_server_set_state(self.target, self.id, false);
        self.tell_answered();
        let deadline_ns = self.hv.now_ns().saturating_add(DRAIN_NS);
        let mut waiting = 0;
        // Bounded twice: a paused guest never takes its answers, and the clock may stand still.
        for _ in 0..DRAIN_ROUNDS {
            waiting = 0;
            for (vcpu, &port) in self.ports.iter().enumerate() {
                let view = SlotView::new(&self.page, vcpu);
                // Also catches an access that Xen sent before it saw the server disabled.
                view.reject(&self.hv, port);
                if view.state() != ioreq::STATE_NONE {
                    waiting = u32::saturating_add(waiting, 1);
                }
            }
            if waiting == 0 || self.hv.now_ns() > deadline_ns {
                break;
            }
            self.hv.yield_cpu();
        }
        // Destroying it now would leave those vCPUs in Xen without end. Left alone, it ends with the guest.
        if waiting > 0 {
            return TeardownOutcome::Undrained(waiting);
        }
        let _gone = self.hv.ioreq_server_destroy(self.target, self.id);
        TeardownOutcome::Clean
    }

    /// Sends for each slot that is answered: a panic may have come between the answer and its event.
    /// One event too many does no harm, as Xen looks at the slot again.
    fn tell_answered(&self) {
        for (vcpu, &port) in self.ports.iter().enumerate() {
            if SlotView::new(&self.page, vcpu).state() == ioreq::STATE_RESP_READY {
                // If the guest is gone, nobody waits.
                let _gone = self.hv.evtchn_send(port);
            }
        }
    }
}

/// An enabled ioreq server of one guest.
pub struct Server<H: Hypervisor> {
    /// Everything the end needs, kept ready.
    parts: PanicTeardown<H>,
    ended: bool,
}

impl<H: Hypervisor> Server<H> {
    /// Creates and enables a server that claims `ranges` of guest physical addresses.
    ///
    /// Call it while the guest is still paused: an access to an unclaimed address aborts
    /// the guest.
    ///
    /// # Errors
    /// [`StartError`]; what was made before is undone.
    pub fn start(hv: &H, target: DomId, ranges: &[RangeInclusive<u64>]) -> Result<Server<H>, StartError> {
        let vcpus = hv.nr_vcpus(target).map_err(StartError::Vcpus)?;
        // Each needs a port, and Xen waits for a limited number at once.
        if vcpus > MAX_VCPUS {
            return Err(StartError::TooManyVcpus(vcpus));
        }
        let slots = usize::try_from(vcpus).unwrap_or(0);
        let id = hv.ioreq_server_create(target).map_err(StartError::Create)?;
        // The page must exist before the server is enabled: only then does Xen fill in the
        // ports.
        let page = match hv.ioreq_server_page(target, id) {
            Ok(page) => page,
            Err(errno) => {
                // Nothing owns the server yet that would end it.
                let _gone = hv.ioreq_server_destroy(target, id);
                return Err(StartError::Page(errno));
            }
        };
        let parts = PanicTeardown { hv: hv.clone(), target, id, page, ports: Vec::with_capacity(slots) };
        // From here on an early return ends the server by `Drop`.
        let mut server = Server { parts, ended: false };
        for range in ranges {
            let (first, last) = (*range.start(), *range.end());
            hv.ioreq_server_map_mmio(target, id, first, last)
                .map_err(|errno| StartError::Claim { first, errno })?;
        }
        // Ranges first: an access that comes between the two would find nobody.
        hv.ioreq_server_set_state(target, id, true).map_err(StartError::Enable)?;
        for vcpu in 0..vcpus {
            // Xen has put the port that we bind to into each slot when it enabled the server.
            let slot = usize::try_from(vcpu).unwrap_or(usize::MAX);
            let port = SlotView::new(&server.parts.page, slot)
                .vp_eport()
                .map_err(|_| Errno::EINVAL)
                .and_then(|remote_port| hv.evtchn_bind_interdomain(target, remote_port))
                .map_err(|errno| StartError::Bind { vcpu, errno })?;
            server.parts.ports.push(port);
        }
        Ok(server)
    }

    /// Takes over a server that the incarnation before enabled. What that one took and did not answer
    /// still waits, until the devices are there; if they never are, dropping the server ends it in
    /// order.
    ///
    /// # Errors
    /// [`StartError::Page`]: the server's page cannot be mapped again.
    pub fn resume(hv: &H, state: &ServerState) -> Result<Server<H>, StartError> {
        let page = hv.ioreq_server_page(state.target, state.id).map_err(StartError::Page)?;
        let (target, id, ports) = (state.target, state.id, state.ports.clone());
        let parts = PanicTeardown { hv: hv.clone(), target, id, page, ports };
        parts.tell_answered();
        Ok(Server { parts, ended: false })
    }

    /// What the next incarnation needs to take the server over.
    #[must_use]
    pub fn state(&self) -> ServerState {
        let PanicTeardown { target, id, ports, .. } = &self.parts;
        ServerState { target: *target, id: *id, ports: ports.clone() }
    }

    /// One port for each vCPU, in order.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.parts.ports
    }

    /// The first vCPU from `from` on in whose slot an access waits: one load a slot, which orders
    /// nothing. [`Server::take`] does.
    #[inline]
    #[must_use]
    pub fn next_waiting(&self, from: usize) -> Option<usize> {
        let page = &self.parts.page;
        (from..self.parts.ports.len()).find(|&vcpu| SlotView::new(page, vcpu).seems_ready())
    }

    /// Takes the access in the slot of vCPU `vcpu`. Xen shows an access before it sends the
    /// event, so whoever polls need not wait for that: an answer in time finds the vCPU still on
    /// its CPU. Events are cleared by [`Server::enable_events`] only.
    pub fn take(&self, vcpu: usize) -> Option<Slot<'_, H>> {
        let port = *self.parts.ports.get(vcpu)?;
        Slot::take(&self.parts.page, &self.parts.hv, vcpu, port)
    }

    /// Clears what events there were, so that the next access sends one. True: one waits already.
    pub fn enable_events(&self) -> bool {
        for &port in &self.parts.ports {
            self.parts.hv.evtchn_take_pending(port);
        }
        // Slots after events, by ordered loads: an access that comes in between has set its event again.
        let mut slots = (0..self.parts.ports.len()).map(|vcpu| SlotView::new(&self.parts.page, vcpu));
        slots.any(|slot| slot.state() == ioreq::STATE_READY)
    }

    /// What a panic handler needs to release the guest's vCPUs.
    #[must_use]
    pub fn panic_teardown(&self) -> PanicTeardown<H> {
        self.parts.clone()
    }

    /// Ends the server in the order that strands no vCPU, and closes its ports.
    pub fn end(&mut self) -> TeardownOutcome {
        self.ended = true;
        let teardown = self.parts.run();
        for port in core::mem::take(&mut self.parts.ports) {
            let _gone = self.parts.hv.evtchn_close(port);
        }
        teardown
    }
}

impl<H: Hypervisor> Drop for Server<H> {
    fn drop(&mut self) {
        // Also one that was made by half: its guest's vCPUs would wait for ever.
        if !self.ended {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests;
