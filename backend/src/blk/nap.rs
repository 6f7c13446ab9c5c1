//! How long the device waits for a batch, and what it does when the time is up.
//!
//! The time belongs to what is held back: it is noted when that becomes held, be the stub busy
//! or about to sleep, and judged by [`Device::keep_time`]; a sleep only ends in time for it.

use super::device::Device;
use crate::storage::Storage;

/// Waits in vain in a row after which whatever comes next is worth an event, and no timer is needed:
/// the storage takes its time, or the driver is gone.
const WAITS_IN_VAIN: u32 = 8;

impl<S: Storage> Device<S> {
    /// Whether nothing has come for so long that there is no batch to wait for.
    pub(super) const fn is_stalled(&self) -> bool {
        self.in_vain >= WAITS_IN_VAIN
    }

    /// After [`Device::arm`]: until when it may sleep without an event, because it asked for one of
    /// a batch, or because the driver has not answered an interrupt. `None`: an event comes for
    /// everything. `sharers`: disks of the stub that are busy.
    pub fn nap_until_ns(&mut self, now_ns: u64, sharers: u32) -> Option<u64> {
        // What is held back is not held longer because the stub woke in between.
        let held_until_ns = self.nap_until_ns.filter(|_| self.holds());
        self.nap_until_ns = match (self.waits_for, held_until_ns) {
            (0..=1, _) => None,
            (_, Some(until_ns)) => Some(until_ns),
            (batch, None) => Some(self.wait_until_ns(batch, now_ns, sharers)),
        };
        self.nap_until_ns.into_iter().chain(self.transport.remind_at_ns(now_ns)).min()
    }

    /// Whether [`Device::nap_until_ns`] has to know the time.
    #[must_use]
    pub const fn naps(&self) -> bool {
        self.waits_for > 1 || self.transport.awaits_read()
    }

    /// It is `now_ns`: if the device has waited for long enough, the next [`Device::process`] sends
    /// and signals all there is. What is held since the last call gets its time. An interrupt that
    /// the driver has not answered for long is due again.
    pub fn keep_time(&mut self, now_ns: u64, sharers: u32) {
        self.irq |= self.transport.remind(now_ns);
        match self.nap_until_ns {
            Some(until_ns) if now_ns >= until_ns => {
                self.nap_until_ns = None;
                self.hurry();
            }
            None if self.holds() => {
                self.nap_until_ns = Some(self.wait_until_ns(self.batch_size(), now_ns, sharers));
            }
            _ => {}
        }
    }

    /// Whether [`Device::keep_time`] has something to do, now or later.
    #[must_use]
    pub const fn keeps_time(&self) -> bool {
        self.nap_until_ns.is_some() || self.holds() || self.transport.awaits_read()
    }

    /// Whether something is held whose time is not noted yet.
    #[must_use]
    pub const fn is_untimed(&self) -> bool {
        self.nap_until_ns.is_none() && self.holds()
    }

    /// Until when to wait for a batch that begins now.
    fn wait_until_ns(&mut self, batch: u32, now_ns: u64, sharers: u32) -> u64 {
        self.pace.note(self.stats.used.get(), now_ns, sharers);
        now_ns.saturating_add(self.pace.nap_ns(batch, self.batch.wait_max_ns(), sharers))
    }

    /// Holds nothing back any longer, and learns from it.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
        let expected = core::mem::take(&mut self.expecting);
        if expected && self.in_flight() == 0 && !self.holds() {
            self.batch.note_nothing();
        } else if expected || self.holds() {
            self.batch.note_late();
        } else {
            self.in_vain = self.in_vain.saturating_add(1);
        }
    }

    /// Whether something is held back until it is a batch, or time is up.
    #[must_use]
    pub(super) const fn holds(&self) -> bool {
        self.queued > 0 || self.unsignalled > 0
    }

    /// Whether it has requests under way, or expects some at once.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.expecting || self.in_flight() > 0
    }
}
