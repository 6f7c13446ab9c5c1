//! The rings and interrupts of a device as both sides see them, in text: for whoever looks for one
//! that got lost.

use super::device::Device;
use crate::guest_mem::GuestMemory;
use crate::storage::Storage;
use core::fmt;

/// Shows a device's state, as `key=value`: first what concerns all of it, then each queue that the
/// driver has set up. -1 stands for a word that cannot be reached.
pub struct Inspection<'a, S> {
    device: &'a Device<S>,
    mem: &'a dyn GuestMemory,
}

impl<S: Storage> Device<S> {
    /// Its state, to be shown.
    #[must_use]
    pub fn inspect<'a>(&'a self, mem: &'a dyn GuestMemory) -> Inspection<'a, S> {
        Inspection { device: self, mem }
    }
}

impl<S: Storage> fmt::Display for Inspection<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection { device, mem } = self;
        let (interrupts, unread) = device.transport.interrupts();
        write!(
            f,
            "status={:#x} interrupt_status={interrupts} unread={unread} in_flight={} queued={} held={}",
            device.transport.status().bits(),
            device.in_flight(),
            device.coalescer.unsent(),
            device.waiting.len(),
        )?;
        for (index, slot) in device.queues.iter().enumerate() {
            let Some(queue) = &slot.queue else { continue };
            let [avail, used, used_event, avail_event] =
                queue.words(*mem).map(|word| word.map_or(-1, i32::from));
            write!(
                f,
                " queue={index} avail={avail} taken={} used={used} unsignalled={} \
                 used_event={used_event} avail_event={avail_event}",
                queue.taken(),
                queue.unsignalled(),
            )?;
        }
        Ok(())
    }
}
