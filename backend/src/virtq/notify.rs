//! When the driver must be signalled, and when it must notify (virtio 1.3, sections 2.7.7
//! to 2.7.10). Both sides race: each publishes its own word, then reads the other's. Without
//! a full barrier between the two, both may miss each other and wait without end.

use super::fault::QueueFault;
use super::layout::{AVAIL_F_NO_INTERRUPT, USED_F_NO_NOTIFY};
use super::queue::{Queue, RingIndex};
use crate::guest_mem::GuestMemory;
use core::num::Wrapping;
use kernel::Order;
use kernel::shared::full_barrier;

/// Whether an index that moves from `old` to `new` passes `event` (`vring_need_event`).
/// All three wrap.
fn passes(event: RingIndex, new: RingIndex, old: RingIndex) -> bool {
    // How far behind `new` each lies: `event` has to be nearer than `old`, or it passed before.
    new - event - Wrapping(1) < new - old
}

impl Queue {
    /// How many chains were published since the last decision whether to signal.
    #[must_use]
    pub fn unsignalled(&self) -> u16 {
        (self.published - self.signalled).0
    }

    /// Whether what was published since the last call deserves a used-buffer notification.
    ///
    /// # Errors
    /// [`QueueFault::Memory`] if the available ring cannot be reached.
    pub fn needs_notification(&mut self, mem: &dyn GuestMemory) -> Result<bool, QueueFault> {
        let (new, old) = (self.published, self.signalled);
        // An event index says nothing where nothing moved, and flags would cost an interrupt for nothing.
        if new == old {
            return Ok(false);
        }
        // used.idx must be visible before used_event (or flags) is read.
        full_barrier();
        self.signalled = new;
        if self.features.event_idx {
            let event = mem.load_u16(self.layout.used_event(), Order::Relaxed)?;
            return Ok(passes(Wrapping(event), new, old));
        }
        // Without event indices the driver can only say yes or no (section 2.7.7.2).
        let flags = mem.load_u16(self.layout.avail_flags(), Order::Relaxed)?;
        Ok(flags & AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Chains that the driver has given and not got back, as the ring says; not judged. 0 if the
    /// ring cannot be reached.
    #[must_use]
    pub fn outstanding(&self, mem: &dyn GuestMemory) -> u16 {
        let avail_idx = mem.load_u16(self.layout.avail_idx(), Order::Relaxed);
        // Not judged here: a nonsensical index counts as a full queue, and `pop` finds the fault.
        avail_idx.map_or(0, |idx| (Wrapping(idx) - self.next_used).0.min(self.layout.size()))
    }

    /// Whether the driver has made chains available that were not seen yet: a poll, which takes
    /// and judges nothing. True as well if the ring cannot be reached.
    #[must_use]
    pub fn has_available(&self, mem: &dyn GuestMemory) -> bool {
        // An unreachable ring counts as well: whoever pops next finds out.
        mem.load_u16(self.layout.avail_idx(), Order::Relaxed) != Ok(self.next_avail.0)
    }

    /// Asks the driver for a notification of the `threshold`-th chain from now (of the next one, if
    /// `VIRTIO_F_EVENT_IDX` was not negotiated), then checks again: true if a chain arrived
    /// before the driver could know. In that case pop, do not wait. After a `threshold` of more than 1,
    /// fewer chains may wait without a notification: somebody must poll in time.
    ///
    /// # Errors
    /// [`QueueFault`] as for [`Queue::pop`].
    pub fn enable_notification(&mut self, mem: &dyn GuestMemory, threshold: u16) -> Result<bool, QueueFault> {
        self.notification_threshold = 1;
        if self.features.event_idx {
            self.notification_threshold = threshold.max(1);
            // The driver notifies when its index passes this one: the next chain is `next_avail` itself.
            let event = self.next_avail + Wrapping(self.notification_threshold) - Wrapping(1);
            mem.store_u16(self.layout.avail_event(), event.0, Order::Relaxed)?;
        // Flags know no threshold; and they are written only if they change, for the driver reads them.
        } else if !self.notification_enabled {
            mem.store_u16(self.layout.used_flags(), 0, Order::Relaxed)?;
        }
        self.notification_enabled = true;
        // The request for notifications must be visible before avail.idx is read again.
        full_barrier();
        // What is to be taken again is not in the ring: no notification comes for it.
        Ok(self.refresh_avail_idx(mem)? || self.has_retake())
    }

    /// Tells the driver that notifications are not needed while the queue is being polled.
    /// A hint: with EVENT_IDX the old `avail_event` says so by itself.
    ///
    /// # Errors
    /// [`QueueFault::Memory`] if the used ring cannot be reached.
    pub fn disable_notification(&mut self, mem: &dyn GuestMemory) -> Result<(), QueueFault> {
        // The old event index lies behind: the driver does not pass it again for 65536 chains.
        if self.notification_enabled && !self.features.event_idx {
            mem.store_u16(self.layout.used_flags(), USED_F_NO_NOTIFY, Order::Relaxed)?;
        }
        self.notification_enabled = false;
        Ok(())
    }

    /// Whether the driver was asked to notify; if not, somebody must keep polling.
    #[must_use]
    pub const fn is_notification_enabled(&self) -> bool {
        self.notification_enabled
    }

    /// The notification threshold, in chains, if notifications are enabled.
    #[must_use]
    pub const fn notification_threshold(&self) -> u16 {
        self.notification_threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: u16, new: u16, old: u16) -> bool {
        passes(Wrapping(event), Wrapping(new), Wrapping(old))
    }

    #[test]
    fn every_event_is_passed_by_the_indices_that_step_over_it() {
        // Only differences count, so a few starts stand for all.
        for old in [0, 1, 32_767, 65_500, 65_535] {
            for moved in [0, 1, 2, 3, 8, 255, 256, 1023, 1024] {
                let new = u16::wrapping_add(old, moved);
                for event in 0..=u16::MAX {
                    assert_eq!(
                        check(event, new, old),
                        event.wrapping_sub(old) < moved,
                        "{event} {new} {old}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_event_is_passed_exactly_once_also_across_65535() {
        // Old index, new index, events that lie between them.
        assert!(check(4, 5, 4));
        assert!(!check(5, 5, 4));
        assert!(!check(3, 5, 4));
        assert!(check(65535, 0, 65535));
        assert!(check(65534, 1, 65530));
        assert!(check(0, 1, 65530));
        assert!(!check(1, 1, 65530));
        assert!(!check(65529, 1, 65530));
    }
}
