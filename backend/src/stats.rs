//! Counters of what a stub does: one addition each on the data path, text only when somebody
//! asks. They wrap, never reset: what is of interest is the difference of two readings.

use core::fmt;

/// A number of events, or of bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count(u64);

impl Count {
    /// One more.
    pub fn bump(&mut self) {
        self.add(1);
    }

    /// Adds this many.
    pub fn add(&mut self, more: u64) {
        self.0 = self.0.wrapping_add(more);
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a device has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DeviceStats {
    /// Chains taken from its queues.
    pub requests: Count,
    /// Chains put into their used rings.
    pub used: Count,
    /// Bytes of data of the reads and writes among them: what was copied.
    pub data_bytes: Count,
    /// Notifications of the driver.
    pub notifications: Count,
    /// Interrupts asserted.
    pub interrupts: Count,
}

impl fmt::Display for DeviceStats {
    /// `key=value` for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeviceStats { requests, used, data_bytes, notifications, interrupts } = self;
        write!(
            f,
            "requests={requests} used={used} data_bytes={data_bytes} notifications={notifications} \
             interrupts={interrupts}"
        )
    }
}

/// What the event loop has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LoopStats {
    /// Polls of all slots, queues and rings.
    pub polls: Count,
    /// Rounds that found work.
    pub worked: Count,
    /// Times that the CPU was given away until an event.
    pub blocks: Count,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_count_wraps_and_prints_as_a_number() {
        let mut count = Count::default();
        count.add(u64::MAX);
        count.bump();
        count.bump();
        assert_eq!((count.get(), count.to_string()), (1, "1".to_string()));
    }
}
