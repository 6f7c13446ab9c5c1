//! An interrupt that the driver does not answer is raised again.
//!
//! None is raised while the driver has still to read why the last one came, so one that gets lost
//! would stop the disk for good. Xen does lose one whose target vCPU is just going down. A driver
//! that never reads (it may poll) gets a few, further and further apart, and then no more.

/// The first comes so long after the interrupt, each further one after twice the time before it.
const FIRST_NS: u64 = 32_000_000;
/// The last one waits no longer than this.
const LAST_NS: u64 = 1_024_000_000;

/// When to raise the present interrupt again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reminder {
    due_ns: Option<u64>,
    /// The time up to `due_ns`, or that before there was one.
    wait_ns: u64,
}

impl Reminder {
    /// The interrupt was raised as often as it may be.
    pub(super) const fn is_over(self) -> bool {
        self.wait_ns > LAST_NS
    }

    /// It is `now_ns`, and the driver has not read: whether to raise it again.
    pub(super) fn is_due(&mut self, now_ns: u64) -> bool {
        let due = self.due_ns.is_some_and(|due_ns| now_ns >= due_ns);
        if (due || self.due_ns.is_none()) && !self.is_over() {
            self.wait_ns = self.wait_ns.saturating_mul(2).max(FIRST_NS);
            self.due_ns = Some(now_ns.saturating_add(self.wait_ns)).filter(|_| !self.is_over());
        }
        due
    }

    /// It is `now_ns`: when it is due.
    pub(super) fn due_ns(&mut self, now_ns: u64) -> Option<u64> {
        if self.due_ns.is_none() {
            // The interrupt is new: its time begins now.
            self.is_due(now_ns);
        }
        self.due_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_never_reads_is_reminded_a_few_times_further_and_further_apart() {
        let mut reminder = Reminder::default();
        assert_eq!(reminder.due_ns(0), Some(FIRST_NS));
        let times: std::vec::Vec<u64> = (0..100_000).filter(|ms| reminder.is_due(ms * 1_000_000)).collect();
        assert_eq!(times, [32, 96, 224, 480, 992, 2016]);
        assert!(reminder.is_over());
        assert_eq!(reminder.due_ns(0), None);
    }

    #[test]
    fn a_clock_at_its_end_breaks_nothing() {
        let mut reminder = Reminder::default();
        let due = (0..99).filter(|_| reminder.is_due(u64::MAX)).count();
        assert_eq!(due, 6);
    }
}
