//! `InterruptStatus`, and whether the driver is to be interrupted.

use super::reminder::Reminder;

/// Why the driver is interrupted (`regs::INT_*`), and what of it it knows.
#[derive(Debug, Default)]
pub(super) struct Interrupt {
    /// `InterruptStatus`: what the driver has not acknowledged.
    status: u32,
    /// What of `status` the driver has not read since it was raised.
    unread: u32,
    /// For the case that the last interrupt got lost.
    reminder: Reminder,
}

impl Interrupt {
    /// Notes `reasons`. True: by an interrupt, now. None is needed while the driver has still to
    /// read that there are these reasons: it looks at everything after that only, as it would by
    /// a level-triggered line.
    pub(super) fn raise(&mut self, reasons: u32) -> bool {
        let told = self.unread & reasons == reasons;
        self.status |= reasons;
        self.unread |= reasons;
        if !told {
            self.reminder = Reminder::default();
        }
        !told
    }

    /// The driver reads `InterruptStatus`.
    pub(super) const fn read(&mut self) -> u32 {
        self.unread = 0;
        self.status
    }

    /// The driver acknowledges `reasons`.
    pub(super) const fn acknowledge(&mut self, reasons: u32) {
        self.status &= !reasons;
        // A driver that acknowledges without reading knows all the same.
        self.unread &= !reasons;
    }

    /// `InterruptStatus`, and what of it the driver has not read since it was raised.
    pub(super) const fn words(&self) -> (u32, u32) {
        (self.status, self.unread)
    }

    /// Whether the driver has not acknowledged everything.
    pub(super) const fn is_pending(&self) -> bool {
        self.status != 0
    }

    /// Whether the driver has not read everything, and may be reminded of it.
    pub(super) const fn awaits_read(&self) -> bool {
        self.unread != 0 && !self.reminder.is_over()
    }

    /// It is `now_ns`. True: the driver must be interrupted again, now.
    pub(super) fn remind(&mut self, now_ns: u64) -> bool {
        self.awaits_read() && self.reminder.is_due(now_ns)
    }

    /// It is `now_ns`: when [`Interrupt::remind`] has something to do.
    pub(super) fn remind_at_ns(&mut self, now_ns: u64) -> Option<u64> {
        if self.awaits_read() { self.reminder.due_ns(now_ns) } else { None }
    }
}
