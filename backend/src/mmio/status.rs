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

/// What a write to `Status` leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transition {
    /// Zero was written.
    Reset,
    /// The status becomes this.
    To(Status),
    /// The driver cleared a bit without a reset, or set one out of order; nothing changes.
    Refused,
}

impl Status {
    /// Whether queues may be served.
    #[must_use]
    pub const fn is_live(self) -> bool {
        self.contains(Status::DRIVER_OK) && !self.intersects(Status::NEEDS_RESET.union(Status::FAILED))
    }

    /// Judges a write of `value`. `features_acceptable` tells whether `FEATURES_OK` may be
    /// set now; if not, that bit stays clear and the driver sees it on reading back.
    #[must_use]
    pub fn write(self, value: u32, features_acceptable: bool) -> Transition {
        if value == 0 {
            return Transition::Reset;
        }
        let driver_bits = Status::all().difference(Status::NEEDS_RESET);
        let mut wanted = Status::from_bits_truncate(value).intersection(driver_bits);
        // A bit is cleared only by a reset.
        if !wanted.contains(self.intersection(driver_bits)) {
            return Transition::Refused;
        }
        let new = wanted.difference(self);
        if new.contains(Status::FEATURES_OK) && !features_acceptable {
            wanted.remove(Status::FEATURES_OK);
        }
        // Each step stands on the one before it (section 3.1.1).
        let steps = [
            (Status::DRIVER, Status::ACKNOWLEDGE),
            (Status::FEATURES_OK, Status::DRIVER),
            (Status::DRIVER_OK, Status::FEATURES_OK),
        ];
        for (step, base) in steps {
            if new.contains(step) && wanted.contains(step) && !wanted.contains(base) {
                return Transition::Refused;
            }
        }
        Transition::To(wanted.union(self.intersection(Status::NEEDS_RESET)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_steps_of_initialisation_are_taken_in_order() {
        let mut status = Status::default();
        for value in [1, 3, 0xb, 0xf] {
            let Transition::To(next) = status.write(value, true) else { panic!("{value:#x} refused") };
            assert_eq!(next.bits(), value);
            status = next;
        }
        assert!(status.is_live());
        assert_eq!(status.write(0, true), Transition::Reset);
    }

    #[test]
    fn a_step_without_its_base_is_refused() {
        for value in [2, 8, 4, 0xc, 9, 7] {
            assert_eq!(Status::default().write(value, true), Transition::Refused, "{value:#x}");
        }
    }

    #[test]
    fn a_bit_is_cleared_only_by_a_reset() {
        let status = Status::from_bits_truncate(0xf);
        for value in [1, 3, 0xb, 0x4] {
            assert_eq!(status.write(value, true), Transition::Refused);
        }
    }

    #[test]
    fn features_that_are_not_acceptable_leave_features_ok_clear() {
        let status = Status::from_bits_truncate(3);
        assert_eq!(status.write(0xb, false), Transition::To(status));
        // And DRIVER_OK cannot ride along.
        assert_eq!(status.write(0xf, false), Transition::Refused);
    }

    #[test]
    fn only_the_device_sets_needs_reset_and_the_driver_cannot_clear_it() {
        let status = Status::from_bits_truncate(0xf);
        assert_eq!(status.write(0x4f, true), Transition::To(status));
        let broken = status.union(Status::NEEDS_RESET);
        assert!(!broken.is_live());
        assert_eq!(broken.write(0xf, true), Transition::To(broken));
        assert_eq!(broken.write(0x8f, true), Transition::To(broken.union(Status::FAILED)));
    }
}
