//! The least an ioreq server needs: one range, one vCPU, answers without any device behind.

use kernel::{DomId, Errno, Hypervisor, IoservId, Order, OutOfPage, Port, SharedPage, full_barrier};
use xen_pv_sys::dm_op::ioreq;

/// The registers that the guest of the scenario reads: libxl's first virtio device.
const FIRST: u64 = 0x0200_0000;
const LAST: u64 = 0x0200_01ff;
/// What a read returns: the magic value of a virtio-mmio device.
const ANSWER: u64 = 0x7472_6976;

/// An enabled server for vCPU 0 of the target.
#[derive(Debug)]
pub struct Server {
    /// The page shared with Xen.
    pub page: SharedPage,
    /// Our end of vCPU 0's event channel.
    pub port: Port,
    /// Its identifier.
    pub id: IoservId,
    /// The guest's end of that event channel, which Xen compares with the slot's.
    pub remote: u32,
}

impl Server {
    /// Creates, maps, enables and binds, in the order that Xen demands.
    ///
    /// # Errors
    /// What Xen answers to the first step that fails.
    pub fn new<H: Hypervisor>(xen: &H, target: DomId) -> Result<Server, Errno> {
        Server::over(xen, target, FIRST, LAST)
    }

    /// As [`Server::new`], for other addresses.
    ///
    /// # Errors
    /// As there.
    pub fn over<H: Hypervisor>(xen: &H, target: DomId, first: u64, last: u64) -> Result<Server, Errno> {
        let id = xen.ioreq_server_create(target)?;
        let page = xen.ioreq_server_page(target, id)?;
        xen.ioreq_server_map_mmio(target, id, first, last)?;
        xen.ioreq_server_set_state(target, id, true)?;
        let remote = page.load::<u32>(ioreq::VP_EPORT, Order::AcqRel).map_err(|_| Errno::EFAULT)?;
        let port = xen.evtchn_bind_interdomain(target, remote)?;
        Ok(Server { page, port, id, remote })
    }

    /// Answers vCPU 0's access if there is one; whether there was.
    ///
    /// # Errors
    /// Never: all offsets are inside the page.
    pub fn answer<H: Hypervisor>(&self, xen: &H) -> Result<bool, OutOfPage> {
        let bits = self.page.load::<u8>(ioreq::STATE_BITS, Order::AcqRel)?;
        if bits & ioreq::STATE_MASK != ioreq::STATE_READY {
            return Ok(false);
        }
        if bits & ioreq::DIR_READ != 0 {
            self.page.store(ioreq::DATA, ANSWER, Order::Relaxed)?;
        }
        full_barrier();
        let answered = (bits & !ioreq::STATE_MASK) | ioreq::STATE_RESP_READY;
        self.page.store(ioreq::STATE_BITS, answered, Order::AcqRel)?;
        // A port that is gone means that the guest is.
        let _ = xen.evtchn_send(self.port);
        Ok(true)
    }

    /// The state of vCPU 0's slot.
    ///
    /// # Errors
    /// Never, as below.
    pub fn state(&self) -> Result<u8, OutOfPage> {
        Ok(self.page.load::<u8>(ioreq::STATE_BITS, Order::AcqRel)? & ioreq::STATE_MASK)
    }

    /// Writes the state of vCPU 0's slot, whatever it is, and notifies.
    ///
    /// # Errors
    /// Never, as below.
    pub fn set_state<H: Hypervisor>(&self, xen: &H, state: u8) -> Result<(), OutOfPage> {
        let bits = self.page.load::<u8>(ioreq::STATE_BITS, Order::AcqRel)?;
        self.page.store(ioreq::STATE_BITS, (bits & !ioreq::STATE_MASK) | state, Order::AcqRel)?;
        // A port that is gone means that the guest is.
        let _ = xen.evtchn_send(self.port);
        Ok(())
    }

    /// Gives the event channel up, and takes it again.
    ///
    /// # Errors
    /// What Xen answers.
    pub fn rebind<H: Hypervisor>(&mut self, xen: &H, target: DomId) -> Result<(), Errno> {
        xen.evtchn_close(self.port)?;
        self.port = xen.evtchn_bind_interdomain(target, self.remote)?;
        Ok(())
    }

    /// Has Xen send no access any more, by a port that is not the slot's, and answers the one
    /// that may be under way: whatever is written to the slot from then on, no vCPU waits in it.
    ///
    /// # Errors
    /// Never, as above.
    pub fn withdraw<H: Hypervisor>(&self, xen: &H) -> Result<(), OutOfPage> {
        self.page.store(ioreq::VP_EPORT, !self.remote, Order::AcqRel)?;
        full_barrier();
        // Xen may have looked at the port just before.
        let until = xen.now_ns().saturating_add(200_000_000);
        while xen.now_ns() < until {
            self.answer(xen)?;
            xen.yield_cpu();
        }
        Ok(())
    }

    /// Puts the slot back into the state in which Xen takes it: empty, and with its port.
    ///
    /// # Errors
    /// Never, as above.
    pub fn restore<H: Hypervisor>(&self, xen: &H) -> Result<(), OutOfPage> {
        self.page.store(ioreq::VP_EPORT, self.remote, Order::Relaxed)?;
        self.page.store(ioreq::STATE_BITS, ioreq::STATE_NONE, Order::AcqRel)?;
        // Wakes a vCPU that waits: it finds its access gone.
        let _ = xen.evtchn_send(self.port);
        Ok(())
    }

    /// Waits for an access, then moves its state forward and back again; whether one came.
    ///
    /// # Errors
    /// Never, as above.
    pub fn go_backwards<H: Hypervisor>(&self, xen: &H, until_ns: u64) -> Result<bool, OutOfPage> {
        while xen.now_ns() < until_ns {
            let bits = self.page.load::<u8>(ioreq::STATE_BITS, Order::AcqRel)?;
            if bits & ioreq::STATE_MASK != ioreq::STATE_READY {
                continue;
            }
            for state in [ioreq::STATE_INPROCESS, ioreq::STATE_READY] {
                self.page.store(ioreq::STATE_BITS, (bits & !ioreq::STATE_MASK) | state, Order::AcqRel)?;
                let _ = xen.evtchn_send(self.port);
                // Xen's vCPU has to see both.
                let seen = xen.now_ns().saturating_add(200_000_000);
                while xen.now_ns() < seen {
                    xen.yield_cpu();
                }
            }
            return Ok(true);
        }
        Ok(false)
    }
}
