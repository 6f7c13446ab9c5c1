//! The two pages in which Xen tells a domain of events, for test guests (feature `guest`).
//!
//! A stub keeps all ports masked, and Xen then writes one of them only. Here one port is open, so
//! that Xen writes all three words that an event may need. Nobody takes the interrupt.

use crate::arch;
use crate::mem::shared::{Order, OutOfPage, SharedPage, full_barrier};
use crate::xen::Xen;
use crate::xen::hypervisor::{DomId, Hypervisor, Port};
use xen_pv_sys::PAGE_SHIFT;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::vcpu::{RegisterVcpuInfo, VCPUOP_REGISTER_VCPU_INFO};
use xen_pv_sys::xen::{HYPERVISOR_VCPU_OP, shared_info};

/// The first port whose byte of the event bits has none of the ports that the toolstack made.
const FIRST_OWN_PORT: u32 = 8;

/// Where Xen tells this domain of events.
#[derive(Debug)]
pub struct EventMemory {
    shared_info: SharedPage,
    vcpu_info: SharedPage,
}

impl EventMemory {
    /// Has Xen keep vCPU 0's `vcpu_info` in a page of this domain's RAM from now on, as Linux does.
    /// That cannot be undone, and works once.
    ///
    /// # Errors
    /// `ENOMEM` without a page, or what Xen answers.
    pub fn register(xen: &Xen) -> Result<EventMemory, Errno> {
        let vcpu_info = SharedPage::alloc().ok_or(Errno::ENOMEM)?;
        let mut arg = RegisterVcpuInfo { mfn: vcpu_info.addr() >> PAGE_SHIFT, offset: 0, rsvd: 0 };
        let address = (&raw mut arg).addr() as u64;
        // Never freed: Xen writes there for as long as the domain lives.
        core::mem::forget(vcpu_info.clone());
        // SAFETY: Xen reads the structure, and from now on writes `struct vcpu_info` to a page that is never
        // freed and is reached as a `SharedPage` only.
        let result =
            unsafe { arch::hypercall(HYPERVISOR_VCPU_OP, [VCPUOP_REGISTER_VCPU_INFO, 0, address, 0, 0]) };
        Errno::check(result)?;
        Ok(EventMemory { shared_info: xen.shared_info(), vcpu_info })
    }

    /// The frame of `shared_info`, with the event bits.
    #[must_use]
    pub fn shared_info_gfn(&self) -> u64 {
        self.shared_info.addr() >> PAGE_SHIFT
    }

    /// The frame of `vcpu_info`, which begins with it.
    #[must_use]
    pub fn vcpu_info_gfn(&self) -> u64 {
        self.vcpu_info.addr() >> PAGE_SHIFT
    }

    /// Offers `remote` a port with a byte of the event bits for itself.
    ///
    /// # Errors
    /// What Xen answers.
    pub fn offer_port(&self, xen: &Xen, remote: DomId) -> Result<Port, Errno> {
        loop {
            let port = xen.evtchn_alloc_unbound(remote)?;
            if port.0 >= FIRST_OWN_PORT {
                return Ok(port);
            }
        }
    }

    /// Makes all that Xen sets for an event on `port` clear again, and the port open. By plain
    /// stores: whoever contends for these words could make an atomic of ours fail without end.
    ///
    /// # Errors
    /// [`OutOfPage`] for a port beyond the page.
    pub fn arm(&self, port: Port) -> Result<(), OutOfPage> {
        let byte = usize::try_from(port.0 / 8).map_err(|_| OutOfPage)?;
        self.shared_info.store(shared_info::EVTCHN_MASK + byte, 0_u8, Order::Relaxed)?;
        // From the last that Xen sets to the first: the first lets it set the others.
        self.vcpu_info.store(shared_info::EVTCHN_UPCALL_PENDING, 0_u8, Order::Relaxed)?;
        self.vcpu_info.store(shared_info::EVTCHN_PENDING_SEL, 0_u64, Order::AcqRel)?;
        self.shared_info.store(shared_info::EVTCHN_PENDING + byte, 0_u8, Order::AcqRel)?;
        full_barrier();
        Ok(())
    }

    /// Whether Xen has gone all the way for an event.
    ///
    /// # Errors
    /// Never: the word is inside its page.
    pub fn is_told(&self) -> Result<bool, OutOfPage> {
        Ok(self.vcpu_info.load::<u8>(shared_info::EVTCHN_UPCALL_PENDING, Order::AcqRel)? != 0)
    }
}
