//! Who is told of what, and when: the storage backend, the driver, and the stub itself.
//!
//! The [coalescer](crate::coalesce) decides; here its answers become notifications, interrupts,
//! and thresholds in the rings.

use super::device::Device;
use crate::guest_mem::GuestMemory;
use crate::mmio::regs::INT_USED;
use crate::storage::Storage;

impl<S: Storage> Device<S> {
    /// What the driver has outstanding is what a batch can be made of.
    pub(super) fn note_outstanding(&mut self, mem: &dyn GuestMemory) {
        let has_events = self.storage.port().is_some();
        self.coalescer.on_storage(has_events);
        // Without events there are no batches, and this reads the guest's memory.
        if has_events {
            let queues = self.queues.iter().filter_map(|slot| slot.queue.as_ref());
            let outstanding = queues.map(|queue| u32::from(queue.outstanding(mem)));
            self.coalescer.on_outstanding(outstanding.fold(0, u32::saturating_add));
        }
    }

    /// Whether a whole batch waits to be collected, of which the driver was not told yet.
    pub(super) fn is_batch_back(&self) -> bool {
        let Some(threshold) = self.coalescer.early_signal_threshold() else { return false };
        // A driver that has still to read why the last interrupt came sees these as well.
        !self.awaits_ack() && self.storage.responses() >= threshold
    }

    /// Shows the storage backend what was submitted, once that is a batch or nobody may wait.
    pub(super) fn send_if_due(&mut self) {
        // What waits for room gets it only from a completion, so what was submitted must not be held then.
        if self.coalescer.submit_now(!self.waiting.is_empty()) {
            self.storage.kick();
        }
    }

    /// Signals what was published once it is a batch, or nothing is at the storage: each interrupt
    /// costs the driver two accesses for which its vCPU waits.
    pub(super) fn signal_if_due(&mut self, mem: &dyn GuestMemory, ahead: bool) {
        let queues = self.queues.iter().filter_map(|slot| slot.queue.as_ref());
        let unsignalled: u32 = queues.map(|queue| u32::from(queue.unsignalled())).sum();
        // Nobody can be told of what a driver that is gone was to hear, so it is not held either.
        let unsignalled = if self.transport.status().is_live() { unsignalled } else { 0 };
        self.coalescer.on_published(self.stats.used.get(), unsignalled);
        if self.coalescer.signal_now(ahead) {
            self.signal(mem);
        }
    }

    /// Signals what was published, if the driver wants that; one interrupt for all of it.
    fn signal(&mut self, mem: &dyn GuestMemory) {
        let mut signal = false;
        for (index, slot) in self.queues.iter_mut().enumerate() {
            let Some(queue) = slot.queue.as_mut() else { continue };
            // Also a queue without any: it has no part in this batch, nor in the next one.
            self.coalescer.on_signalled(index, queue.unsignalled());
            match queue.needs_notification(mem) {
                Ok(wanted) => signal |= wanted,
                Err(fault) => {
                    // It interrupts the driver by itself: the device needs a reset.
                    self.fail(fault);
                    return;
                }
            }
        }
        // A driver that is not interrupted does not come because of this, so no batch is expected.
        if signal {
            self.irq |= self.transport.raise(INT_USED);
            self.coalescer.on_interrupt();
        }
    }

    /// Whether accesses of the driver are about to come: it has been interrupted, and reads and
    /// acknowledges why.
    #[must_use]
    pub const fn awaits_ack(&self) -> bool {
        self.transport.is_interrupting()
    }

    /// Whether requests go in batches, so that an event comes for one.
    #[must_use]
    pub fn is_coalescing(&self) -> bool {
        self.coalescer.is_coalescing()
    }

    /// Whether it has requests under way, or expects some at once.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.coalescer.is_busy()
    }

    /// Whether the next event is the storage's.
    #[must_use]
    pub fn awaits_storage(&self) -> bool {
        self.in_flight() > 0 && self.storage.port().is_some()
    }

    /// Whether [`Device::process`] finds work. This is polled: it costs little and takes nothing. Only
    /// what would be acted on counts, under the same conditions. The stub does not sleep while this
    /// is true, so anything else would keep it awake for ever.
    #[must_use]
    pub fn has_pending_work(&self, mem: &dyn GuestMemory) -> bool {
        let owes = self.coalescer.is_overdue() || self.irq || self.resumed;
        // Responses without requests are a storage backend's mistake, and nobody takes them.
        owes || (self.in_flight() > 0 && self.storage.responses() > 0)
            || (self.may_pop() && self.queues.iter().any(|slot| slot.has_available(mem)))
    }

    /// Asks driver and storage for events, before the stub blocks. True: there is work now,
    /// do not block.
    pub fn enable_notifications(&mut self, mem: &dyn GuestMemory) -> bool {
        // A connection that was given up since the last turn sends no event: nothing is held for one.
        self.coalescer.on_storage(self.storage.port().is_some());
        self.coalescer.on_idle();
        if self.coalescer.idle_batch_size() == 1 {
            // The batch became smaller since the last turn: what is held for it must not stay.
            self.send_if_due();
        }
        self.signal_if_due(mem, false);
        let thresholds = self.coalescer.thresholds();
        // With nothing in flight no response is due, and one that came would not be taken.
        if self.in_flight() > 0 && self.storage.enable_events(thresholds.completions) {
            return true;
        }
        // Where no chain may be taken, requests are at the storage: its event comes first.
        self.may_pop() && self.notify_from(mem, thresholds.requests)
    }

    /// Asks for a notification of the `batch`-th request from now of each active queue, and of the
    /// first of any other. True: there are some.
    fn notify_from(&mut self, mem: &dyn GuestMemory, batch: u16) -> bool {
        let mut more = false;
        for (index, slot) in self.queues.iter_mut().enumerate() {
            // No part of a batch is expected of a queue that is not in use: its first request counts.
            let batch = if self.coalescer.is_active(index) { batch } else { 1 };
            let Some(queue) = slot.queue.as_mut() else { continue };
            if queue.is_notification_enabled() && queue.notification_threshold() == batch {
                // Asked already, and it saves a barrier and a store to the guest's memory.
                continue;
            }
            match queue.enable_notification(mem, batch) {
                Ok(arrived) => {
                    slot.notified |= arrived;
                    more |= arrived;
                }
                Err(fault) => {
                    self.fail(fault);
                    return true;
                }
            }
        }
        more
    }

    /// After [`Device::enable_notifications`]: until when it may sleep without an event, because it asked for one of
    /// a batch, or because the driver has not answered an interrupt. `None`: an event comes for
    /// everything. `busy_disks`: disks of the stub that are busy.
    pub fn hold_deadline_ns(&mut self, now_ns: u64, busy_disks: u32) -> Option<u64> {
        let hold_ns = self.coalescer.deadline_ns(now_ns, busy_disks);
        hold_ns.into_iter().chain(self.transport.remind_at_ns(now_ns)).min()
    }

    /// Whether [`Device::hold_deadline_ns`] has to know the time.
    #[must_use]
    pub const fn needs_timer(&self) -> bool {
        self.coalescer.needs_timer() || self.transport.awaits_read()
    }

    /// It is `now_ns`: if the device has waited for long enough, the next [`Device::process`] sends
    /// and signals all there is. What is held since the last call gets its time. An interrupt that
    /// the driver has not answered for long is due again.
    pub fn check_deadline(&mut self, now_ns: u64, busy_disks: u32) {
        self.irq |= self.transport.remind(now_ns);
        // Without the storage's events a batch is one request, and the wait for it short.
        self.coalescer.on_storage(self.storage.port().is_some());
        self.coalescer.on_clock(now_ns, busy_disks);
    }

    /// Whether [`Device::check_deadline`] has something to do, now or later.
    #[must_use]
    pub const fn needs_clock(&self) -> bool {
        self.coalescer.needs_clock() || self.transport.awaits_read()
    }

    /// Whether something is held whose time is not noted yet.
    #[must_use]
    pub const fn is_untimed(&self) -> bool {
        self.coalescer.is_untimed()
    }
}
