//! The device status field: who may set which bit, and when (virtio 1.3, section 2.1).

use bitflags::bitflags;

bitflags! {
    /// `Status` bits.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct Status: u32 {
        /// The guest has noticed the device.
        const ACKNOWLEDGE = 1;
        /// The guest has a driver for it.
        const DRIVER = 2;
        /// The driver is set up.
        const DRIVER_OK = 4;
        /// Both sides agree on the features.
        const FEATURES_OK = 8;
        /// The device cannot go on; only the device sets it.
        const NEEDS_RESET = 64;
        /// The driver has given up.
        const FAILED = 128;
    }
}

impl Status {
    /// Whether queues may be served.
    #[must_use]
    pub const fn is_live(self) -> bool {
        self.contains(Status::DRIVER_OK) && !self.intersects(Status::NEEDS_RESET.union(Status::FAILED))
    }

    /// What a write of `value` makes of it; none: a reset. `features_acceptable` tells whether
    /// `FEATURES_OK` may be set now; if not, it stays clear, `DRIVER_OK` with it, and the driver
    /// sees that on reading back.
    ///
    /// The specification binds drivers to an order (section 3.1.1), and not to clear a bit without
    /// a reset. Those in the field leave `ACKNOWLEDGE` or `FEATURES_OK` out, or write the new bit
    /// alone. So a write adds what it names, and whoever says `DRIVER_OK` has agreed.
    #[must_use]
    pub fn write(self, value: u32, features_acceptable: bool) -> Option<Status> {
        // Section 2.4: writing 0 is how a driver asks for a reset.
        if value == 0 {
            return None;
        }
        // Unknown bits are dropped. NEEDS_RESET is the device's alone.
        let named = Status::from_bits_truncate(value).difference(Status::NEEDS_RESET);
        let mut new = self.union(named);
        // Whoever says that it drives the device has accepted the features, in its own way.
        if new.contains(Status::DRIVER_OK) {
            new.insert(Status::FEATURES_OK);
        }
        // Once agreed, features stay agreed: what the driver writes to them later is ignored.
        if !features_acceptable && !self.contains(Status::FEATURES_OK) {
            new.remove(Status::FEATURES_OK.union(Status::DRIVER_OK));
        }
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(writes: &[u32]) -> u32 {
        let last = writes.iter().fold(Status::default(), |status, &value| status.write(value, true).unwrap());
        last.bits()
    }

    #[test]
    fn the_four_steps_of_initialisation_lead_to_a_live_device() {
        let mut status = Status::default();
        for value in [1, 3, 0xb, 0xf] {
            status = status.write(value, true).unwrap();
            assert_eq!(status.bits(), value);
        }
        assert!(status.is_live());
        assert_eq!(status.write(0, true), None);
    }

    #[test]
    fn a_step_may_be_left_out_or_named_alone() {
        assert_eq!(after(&[2, 0xa, 0xe]), 0xe, "no ACKNOWLEDGE");
        assert_eq!(after(&[1, 3, 7]), 0xf, "no FEATURES_OK");
        assert_eq!(after(&[1, 2, 8, 4]), 0xf, "each bit alone");
        assert_eq!(after(&[0xf]), 0xf, "all at once");
    }

    #[test]
    fn a_bit_is_cleared_only_by_a_reset() {
        for value in [1, 3, 0xb, 4] {
            assert_eq!(after(&[0xf, value]), 0xf);
        }
        assert_eq!(after(&[0xf, 0x80]), 0x8f, "FAILED counts, however it is written");
    }

    #[test]
    fn features_that_are_not_acceptable_leave_features_ok_clear() {
        let status = Status::from_bits_truncate(3);
        // And DRIVER_OK cannot ride along.
        for value in [0xb, 0xf, 7] {
            assert_eq!(status.write(value, false), Some(status));
        }
    }

    #[test]
    fn only_the_device_sets_needs_reset_and_the_driver_cannot_clear_it() {
        let status = Status::from_bits_truncate(0xf);
        assert_eq!(status.write(0x4f, true), Some(status));
        let broken = status.union(Status::NEEDS_RESET);
        assert!(!broken.is_live());
        assert_eq!(broken.write(0xf, true), Some(broken));
        assert_eq!(broken.write(0x8f, true), Some(broken.union(Status::FAILED)));
    }
}
