//! The device's interrupt line.

use crate::limit::{Limiter, warn_limited};
use kernel::{DomId, Hypervisor};

/// A guest's SPI.
///
/// `InterruptStatus` holds the reason until the driver acknowledges it; the line only says
/// that there is one. On Arm every level-1 call injects once and level 0 means nothing to
/// Xen, so one call per batch is all there is: nothing is lowered.
pub struct IrqLine<H: Hypervisor> {
    hv: H,
    target: DomId,
    spi: u32,
    limiter: Limiter,
}

impl<H: Hypervisor> IrqLine<H> {
    /// The line of SPI `spi` (INTID) of `target`.
    pub fn new(hv: &H, target: DomId, spi: u32) -> IrqLine<H> {
        IrqLine { hv: hv.clone(), target, spi, limiter: Limiter::new() }
    }

    /// Injects once.
    pub fn assert(&mut self) {
        if let Err(errno) = self.hv.set_irq_level(self.target, self.spi, true) {
            // The guest is going away, or the configuration names a wrong interrupt.
            warn_limited!(self.limiter, "irq {}: {errno}", self.spi);
        }
    }
}
