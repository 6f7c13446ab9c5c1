//! A guest access that Xen holds a vCPU for: answered exactly once, on every path.
//!
//! The page is shared with Xen only, but plain loads and byte stores are all it needs: no
//! atomic read-modify-write, and never a store to `vp_eport`, which Xen checks.

use super::event::{Event, Malformed, RawSlot};
use crate::access::Reply;
use kernel::{Hypervisor, Order, OutOfPage, Port, SharedPage};
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::dm_op::ioreq;

/// vCPUs served at most. `SCHEDOP_poll` takes 128 ports; 11 disks, xenstore and console need
/// theirs as well.
pub const MAX_VCPUS: u32 = 112;

/// A vCPU's slot in the ioreq page.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotView<'a> {
    page: &'a SharedPage,
    base: usize,
}

/// Slots that a page has room for. A power of two, so that no slot lies outside by its very form.
const SLOTS: usize = PAGE_SIZE / ioreq::SIZE;
const _: () = assert!(SLOTS.is_power_of_two() && SLOTS >= MAX_VCPUS as usize);

impl<'a> SlotView<'a> {
    #[inline]
    pub(super) fn new(page: &'a SharedPage, vcpu: usize) -> SlotView<'a> {
        SlotView { page, base: (vcpu & (SLOTS - 1)).saturating_mul(ioreq::SIZE) }
    }

    #[inline]
    fn field(&self, offset: usize) -> usize {
        self.base | offset
    }

    /// Byte 30: the state and its neighbours. Orders later reads after it.
    #[inline]
    fn bits(&self) -> Result<u8, OutOfPage> {
        self.page.load(self.field(ioreq::STATE_BITS), Order::AcqRel)
    }

    /// The state alone.
    #[inline]
    pub(super) fn state(&self) -> u8 {
        self.bits().unwrap_or(ioreq::STATE_NONE) & ioreq::STATE_MASK
    }

    /// Whether an access waits, for who asks often: orders no other load or store.
    #[inline]
    pub(super) fn seems_ready(&self) -> bool {
        let bits = self.page.load(self.field(ioreq::STATE_BITS), Order::Relaxed);
        bits.unwrap_or(ioreq::STATE_NONE) & ioreq::STATE_MASK == ioreq::STATE_READY
    }

    /// The port that Xen gave the vCPU.
    pub(super) fn vp_eport(&self) -> Result<u32, OutOfPage> {
        self.page.load(self.field(ioreq::VP_EPORT), Order::Relaxed)
    }

    /// Sets the state, keeping the neighbouring bits; earlier stores stay earlier.
    fn set_state(&self, bits: u8, state: u8) -> Result<(), OutOfPage> {
        // This byte alone: the rest of the slot is Xen's, and it checks `vp_eport`.
        let bits = (bits & !ioreq::STATE_MASK) | state;
        self.page.store(self.field(ioreq::STATE_BITS), bits, Order::AcqRel)
    }

    fn copy_out(&self, bits: u8) -> Result<RawSlot, OutOfPage> {
        Ok(RawSlot {
            addr: self.page.load(self.field(ioreq::ADDR), Order::Relaxed)?,
            data: self.page.load(self.field(ioreq::DATA), Order::Relaxed)?,
            count: self.page.load(self.field(ioreq::COUNT), Order::Relaxed)?,
            size_bytes: self.page.load(self.field(ioreq::SIZE_FIELD), Order::Relaxed)?,
            bits,
            kind: self.page.load(self.field(ioreq::TYPE), Order::Relaxed)?,
        })
    }

    /// Stores the reply, then the state. The caller notifies.
    fn respond(&self, bits: u8, reply: Reply) -> Result<(), OutOfPage> {
        // In this order: Xen reads the data as soon as it sees the state.
        self.page.store(self.field(ioreq::DATA), reply.0, Order::Relaxed)?;
        self.set_state(bits, ioreq::STATE_RESP_READY)
    }

    /// Answers as an absent device would, if the slot waits for an answer.
    pub(super) fn reject<H: Hypervisor>(&self, hv: &H, port: Port) {
        let Ok(bits) = self.bits() else { return };
        if bits & ioreq::STATE_MASK == ioreq::STATE_READY {
            // Inside the page: `bits` was read from the same slot.
            let answered = self.respond(bits, Reply::ALL_ONES);
            debug_assert!(answered.is_ok());
            // A port that cannot be sent to has no vCPU behind it any more.
            let _gone = hv.evtchn_send(port);
        }
    }
}

/// A guest access that waits for its answer; dropped, it answers as an absent device would.
#[must_use = "the guest vCPU stays blocked until the slot is answered"]
pub struct Slot<'a, H: Hypervisor> {
    view: SlotView<'a>,
    hv: &'a H,
    port: Port,
    raw: RawSlot,
    answered: bool,
}

impl<'a, H: Hypervisor> Slot<'a, H> {
    /// Takes the slot's access, if it holds one. It stays READY until it is answered: INPROCESS is
    /// for those who answer later, and tells Xen nothing (`wait_for_io`).
    pub(super) fn take(page: &'a SharedPage, hv: &'a H, vcpu: usize, port: Port) -> Option<Slot<'a, H>> {
        let view = SlotView::new(page, vcpu);
        let bits = view.bits().ok()?;
        if bits & ioreq::STATE_MASK != ioreq::STATE_READY {
            return None;
        }
        let raw = view.copy_out(bits).ok()?;
        Some(Slot { view, hv, port, raw, answered: false })
    }

    /// What the guest wants.
    ///
    /// # Errors
    /// [`Malformed`]; drop the slot then.
    pub fn event(&self) -> Result<Event, Malformed> {
        self.raw.decode()
    }

    /// Lets the vCPU go on. A reply is cut to the access's width by the reader of a read.
    pub fn answer(mut self, reply: Reply) {
        self.finish(reply);
    }

    fn finish(&mut self, reply: Reply) {
        self.answered = true;
        let answered = self.view.respond(self.raw.bits, reply);
        debug_assert!(answered.is_ok());
        // The port was bound at start; if the guest is gone, nobody waits.
        let _gone = self.hv.evtchn_send(self.port);
    }
}

impl<H: Hypervisor> Drop for Slot<'_, H> {
    fn drop(&mut self) {
        // An early return must not strand the vCPU.
        if !self.answered {
            self.finish(Reply::ALL_ONES);
        }
    }
}
