//! The set-up registers of a queue (virtio 1.3, section 4.2.2).

use super::regs;

/// The set-up registers of one queue.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QueueRegs {
    /// `QueueSize`.
    pub size: u32,
    /// `QueueReady`.
    pub ready: bool,
    /// `QueueDesc`.
    pub desc: u64,
    /// `QueueDriver`, the available ring.
    pub driver: u64,
    /// `QueueDevice`, the used ring.
    pub device: u64,
}

impl QueueRegs {
    /// A write to one of the registers; the queue is not ready.
    pub(super) fn write(&mut self, offset: u64, value: u32) {
        // Nothing is judged here: a half-written address is normal, and the whole is checked when the
        // queue is made ready (`Layout::new`).
        match offset {
            regs::QUEUE_SIZE => self.size = value,
            regs::QUEUE_DESC_LOW => set_low(&mut self.desc, value),
            regs::QUEUE_DESC_HIGH => set_high(&mut self.desc, value),
            regs::QUEUE_DRIVER_LOW => set_low(&mut self.driver, value),
            regs::QUEUE_DRIVER_HIGH => set_high(&mut self.driver, value),
            regs::QUEUE_DEVICE_LOW => set_low(&mut self.device, value),
            regs::QUEUE_DEVICE_HIGH => set_high(&mut self.device, value),
            // No other register belongs to a queue; those of the future are ignored.
            _ => {}
        }
    }
}

// Drivers write the halves in either order, or one of them alone.
fn set_low(word: &mut u64, value: u32) {
    *word = (*word & !0xffff_ffff) | u64::from(value);
}

fn set_high(word: &mut u64, value: u32) {
    *word = (*word & 0xffff_ffff) | (u64::from(value) << 32);
}
