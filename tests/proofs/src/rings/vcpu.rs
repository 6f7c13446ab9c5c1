//! A vCPU of the guest, as Xen's `common/ioreq.c` has it wait for its device model.

use crate::weak::Weak;
use crate::weak_xen::WeakXen;
use kernel::{Order, SharedPage};
use loom::sync::atomic::{AtomicU64, Ordering};
use std::rc::Rc;
use xen_pv_sys::dm_op::ioreq;

/// The vCPU, its slot and its port.
pub struct Vcpu {
    page: SharedPage,
    xen: WeakXen,
    state: Rc<AtomicU64>,
}

impl Vcpu {
    /// vCPU 0 of the page.
    #[must_use]
    pub fn new(weak: &Weak, page: &SharedPage, xen: &WeakXen) -> Vcpu {
        for (field, bytes) in [(ioreq::ADDR, 8), (ioreq::DATA, 8), (ioreq::COUNT, 8), (ioreq::TYPE, 1)] {
            weak.data(page, field, bytes);
        }
        Vcpu { page: page.clone(), xen: xen.clone(), state: weak.word::<u8>(page, ioreq::STATE_BITS) }
    }

    /// An access, which needs no answer yet (`ioreq_send`).
    ///
    /// # Panics
    /// If the slot is in use.
    pub fn send(&self, addr: u64) {
        assert_eq!(self.state.load(Ordering::Relaxed) & 0xf, u64::from(ioreq::STATE_NONE));
        let store = |field, value: u64| self.page.store(field, value, Order::Relaxed).expect("inside");
        store(ioreq::ADDR, addr);
        store(ioreq::DATA, 0);
        self.page.store(ioreq::COUNT, 1u32, Order::Relaxed).expect("inside");
        self.page.store(ioreq::SIZE_FIELD, 4u32, Order::Relaxed).expect("inside");
        self.page.store(ioreq::TYPE, ioreq::TYPE_COPY, Order::Relaxed).expect("inside");
        self.state.store((ioreq::STATE_READY | ioreq::DIR_READ).into(), Ordering::Release);
        self.xen.send_to_stub();
    }

    /// Waits for the answer (`wait_for_io`).
    ///
    /// # Panics
    /// If the device model left the slot in a state that it may not.
    #[must_use]
    pub fn answer(&self) -> u64 {
        loop {
            let bits = u8::try_from(self.state.load(Ordering::Acquire)).expect("a byte");
            match bits & ioreq::STATE_MASK {
                ioreq::STATE_RESP_READY => {
                    assert_eq!(bits & ioreq::DIR_READ, ioreq::DIR_READ, "the neighbours of the state stay");
                    let data = self.page.load(ioreq::DATA, Order::Relaxed).expect("inside");
                    self.state.store(0, Ordering::Relaxed);
                    return data;
                }
                ioreq::STATE_READY | ioreq::STATE_INPROCESS => self.xen.wait_for_stub(),
                other => panic!("state {other}: Xen ends the guest"),
            }
        }
    }
}
