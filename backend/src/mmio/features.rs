//! The feature registers (virtio 1.3, sections 2.2 and 4.2.2): 64 bits of which the driver sees
//! and writes 32 at a time.

/// What is offered and what the driver accepts.
#[derive(Debug)]
pub(super) struct FeatureRegs {
    pub(super) offered: u64,
    /// `DriverFeatures`.
    pub(super) accepted: u64,
    /// A feature beyond bit 63 was asked for; none is offered.
    pub(super) foreign: bool,
    /// `DeviceFeaturesSel`.
    pub(super) device_sel: u32,
    /// `DriverFeaturesSel`.
    pub(super) driver_sel: u32,
}

impl FeatureRegs {
    /// After a reset.
    pub(super) const fn new(offered: u64) -> FeatureRegs {
        FeatureRegs { offered, accepted: 0, foreign: false, device_sel: 0, driver_sel: 0 }
    }

    /// What a read of `DeviceFeatures` returns.
    pub(super) const fn read(&self) -> u32 {
        half(self.offered, self.device_sel)
    }

    /// A write to `DriverFeatures`; the features are not agreed yet.
    pub(super) const fn write(&mut self, value: u32) {
        match self.driver_sel {
            0 => self.accepted = (self.accepted & !0xffff_ffff) | value as u64,
            1 => self.accepted = (self.accepted & 0xffff_ffff) | ((value as u64) << 32),
            // Drivers clear words that they do not know; only a bit that is set asks for something.
            _ => self.foreign |= value != 0,
        }
    }

    /// Section 2.2.2. A driver without `VERSION_1` is served too, as little-endian like any other.
    /// One of another byte order does no harm: no device knows the type of its writes.
    pub(super) const fn are_acceptable(&self) -> bool {
        self.accepted & !self.offered == 0 && !self.foreign
    }
}

/// 32 bits of a feature word; none beyond bit 63.
pub(super) const fn half(bits: u64, select: u32) -> u32 {
    match select {
        0 => (bits & 0xffff_ffff) as u32,
        1 => (bits >> 32) as u32,
        _ => 0,
    }
}
