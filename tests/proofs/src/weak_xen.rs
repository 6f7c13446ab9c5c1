//! Xen over [`Weak`] memory: event channels of a stub, and an ioreq server with one vCPU.
//!
//! Real are the bits in which the stub finds its events ([`kernel::event_bits`]). A model is what Xen
//! does with them: it sets a bit, and wakes a poller if the bit was clear.

use crate::weak::Weak;
use kernel::{DomId, Errno, GrantRef, Hypervisor, IoservId, Port, SharedPage, ShutdownReason, event_bits};
use loom::sync::Notify;
use loom::sync::atomic::{AtomicU64, Ordering};
use std::rc::Rc;
use xen_pv_sys::dm_op::ioreq;
use xen_pv_sys::xen::shared_info;

/// A stub's port. Its number is that of the other end, too.
pub const PORT: Port = Port(3);

struct Inner {
    shared_info: SharedPage,
    bits: Rc<AtomicU64>,
    /// Wakes the stub, and the other end.
    stub: Notify,
    peer: Notify,
    /// The page of the ioreq server, or the ring of xenstored.
    page: SharedPage,
}

/// A handle on this Xen.
#[derive(Clone)]
pub struct WeakXen(Rc<Inner>);

impl WeakXen {
    /// A Xen whose one shared page is `page`.
    #[must_use]
    pub fn new(weak: &Weak, page: SharedPage) -> WeakXen {
        let shared_info = SharedPage::alloc().expect("memory");
        let bits = weak.word::<u64>(&shared_info, shared_info::EVTCHN_PENDING);
        WeakXen(Rc::new(Inner { shared_info, bits, stub: Notify::new(), peer: Notify::new(), page }))
    }

    /// The other end notifies the stub.
    pub fn send_to_stub(&self) {
        let bit = 1 << PORT.0;
        // One that is pending already wakes nobody.
        if self.0.bits.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
            self.0.stub.notify();
        }
    }

    /// The other end sleeps until the stub notifies it.
    pub fn wait_for_stub(&self) {
        self.0.peer.wait();
    }
}

impl Hypervisor for WeakXen {
    fn evtchn_send(&self, _port: Port) -> Result<(), Errno> {
        self.0.peer.notify();
        Ok(())
    }

    fn evtchn_take_pending(&self, port: Port) -> bool {
        event_bits::take_pending(&self.0.shared_info, port)
    }

    fn poll(&self, ports: &[Port], _deadline_ns: Option<u64>) -> Result<(), Errno> {
        // There is no time: what only a deadline would end is a deadlock.
        while !ports.iter().any(|&port| event_bits::is_pending(&self.0.shared_info, port)) {
            self.0.stub.wait();
        }
        Ok(())
    }

    fn evtchn_alloc_unbound(&self, _remote: DomId) -> Result<Port, Errno> {
        Ok(PORT)
    }

    fn evtchn_bind_interdomain(&self, _remote: DomId, _remote_port: u32) -> Result<Port, Errno> {
        Ok(PORT)
    }

    fn evtchn_close(&self, _port: Port) -> Result<(), Errno> {
        Ok(())
    }

    fn grant_access(&self, _remote: DomId, _page: &SharedPage, _read_only: bool) -> Result<GrantRef, Errno> {
        Err(Errno::ENOSPC)
    }

    fn grant_end(&self, _gref: GrantRef) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn ioreq_server_create(&self, _target: DomId) -> Result<IoservId, Errno> {
        Ok(IoservId(0))
    }

    fn ioreq_server_page(&self, _target: DomId, _id: IoservId) -> Result<SharedPage, Errno> {
        Ok(self.0.page.clone())
    }

    fn ioreq_server_map_mmio(
        &self,
        _target: DomId,
        _id: IoservId,
        _first: u64,
        _last: u64,
    ) -> Result<(), Errno> {
        Ok(())
    }

    fn ioreq_server_set_state(&self, _target: DomId, _id: IoservId, enabled: bool) -> Result<(), Errno> {
        if enabled {
            let stored = self.0.page.store(ioreq::VP_EPORT, PORT.0, kernel::Order::Relaxed);
            stored.map_err(|_| Errno::EINVAL)?;
        }
        Ok(())
    }

    fn ioreq_server_destroy(&self, _target: DomId, _id: IoservId) -> Result<(), Errno> {
        Ok(())
    }

    fn set_irq_level(&self, _target: DomId, _irq: u32, _level: bool) -> Result<(), Errno> {
        self.0.peer.notify();
        Ok(())
    }

    fn nr_vcpus(&self, _target: DomId) -> Result<u32, Errno> {
        Ok(1)
    }

    fn hvm_param(&self, index: u32) -> Result<u64, Errno> {
        // The page of xenstore has any number, its port is the one.
        Ok(if index == xen_pv_sys::hvm::HVM_PARAM_STORE_EVTCHN { PORT.0.into() } else { 1 })
    }

    fn magic_page(&self, _gfn: u64) -> Result<SharedPage, Errno> {
        Ok(self.0.page.clone())
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn yield_cpu(&self) {
        loom::thread::yield_now();
    }

    fn waited_ns(&self) -> u64 {
        0
    }

    fn shutdown(&self, _reason: ShutdownReason) {}
}
