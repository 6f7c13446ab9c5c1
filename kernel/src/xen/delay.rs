//! Waiting for time alone.

use super::hypervisor::{Hypervisor, Port};
use embedded_hal::delay::DelayNs;

/// Waits by blocking in Xen, so that others have the CPU meanwhile.
#[derive(Clone, Debug)]
pub struct Delay<H: Hypervisor> {
    hv: H,
}

impl<H: Hypervisor> Delay<H> {
    /// A delay on this domain's clock.
    pub fn new(hv: &H) -> Delay<H> {
        Delay { hv: hv.clone() }
    }
}

impl<H: Hypervisor> DelayNs for Delay<H> {
    fn delay_ns(&mut self, ns: u32) {
        const NO_PORTS: &[Port] = &[];
        let deadline_ns = self.hv.now_ns().saturating_add(u64::from(ns));
        while self.hv.now_ns() < deadline_ns {
            // The trait promises the time at least: whoever cannot block passes it otherwise.
            if self.hv.poll(NO_PORTS, Some(deadline_ns)).is_err() {
                self.hv.yield_cpu();
            }
        }
    }
}
