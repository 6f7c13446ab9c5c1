//! The register file, as an incarnation leaves it to the next.

use super::queue_regs::QueueRegs;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Queues that there is room for.
pub const STATE_QUEUES: usize = 8;
/// Bytes of configuration space that there is room for.
pub const STATE_CONFIG_BYTES: usize = 72;

/// A queue's set-up registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct QueueRegsState {
    /// `QueueSize`.
    pub size: u32,
    /// `QueueReady`.
    pub ready: u32,
    /// `QueueDesc`.
    pub desc: u64,
    /// `QueueDriver`.
    pub driver: u64,
    /// `QueueDevice`.
    pub device: u64,
}

impl From<QueueRegs> for QueueRegsState {
    fn from(regs: QueueRegs) -> QueueRegsState {
        let QueueRegs { size, ready, desc, driver, device } = regs;
        QueueRegsState { size, ready: u32::from(ready), desc, driver, device }
    }
}

impl From<QueueRegsState> for QueueRegs {
    fn from(state: QueueRegsState) -> QueueRegs {
        let QueueRegsState { size, ready, desc, driver, device } = state;
        QueueRegs { size, ready: ready != 0, desc, driver, device }
    }
}

/// What the driver and the device have agreed on. `InterruptStatus` is not part of it: after
/// a restart the driver is interrupted for every reason there is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TransportState {
    /// Features that were offered.
    pub features: u64,
    /// `DriverFeatures`.
    pub driver_features: u64,
    /// `Status`.
    pub status: u32,
    /// `DeviceFeaturesSel`.
    pub device_features_sel: u32,
    /// `DriverFeaturesSel`.
    pub driver_features_sel: u32,
    /// A feature beyond bit 63 was asked for.
    pub foreign_features: u32,
    /// `QueueSel`.
    pub queue_sel: u32,
    /// `ConfigGeneration`.
    pub config_generation: u32,
    /// The driver may not know the configuration as it is.
    pub config_changed: u32,
    /// Queues that the device has.
    pub queue_count: u32,
    /// The queues' registers.
    pub queues: [QueueRegsState; STATE_QUEUES],
    /// The configuration space.
    pub config: [u8; STATE_CONFIG_BYTES],
}
