//! Register offsets and constants of virtio-mmio (virtio 1.3, section 4.2.2, table 4.1).

use crate::access::{Access, Direction};

/// Bytes of one device's window.
pub const WINDOW_BYTES: u64 = 0x200;
/// `MagicValue`: "virt".
pub const MAGIC: u32 = 0x7472_6976;
/// `Version` of a non-legacy device.
pub const VERSION: u32 = 2;

/// `MagicValue`, R.
pub const MAGIC_VALUE: u64 = 0x000;
/// `Version`, R.
pub const VERSION_REG: u64 = 0x004;
/// `DeviceID`, R.
pub const DEVICE_ID: u64 = 0x008;
/// `VendorID`, R.
pub const VENDOR_ID: u64 = 0x00c;
/// `DeviceFeatures`, R.
pub const DEVICE_FEATURES: u64 = 0x010;
/// `DeviceFeaturesSel`, W.
pub const DEVICE_FEATURES_SEL: u64 = 0x014;
/// `DriverFeatures`, W.
pub const DRIVER_FEATURES: u64 = 0x020;
/// `DriverFeaturesSel`, W.
pub const DRIVER_FEATURES_SEL: u64 = 0x024;
/// `GuestPageSize` of version 1, W.
pub const LEGACY_GUEST_PAGE_SIZE: u64 = 0x028;
/// `QueueSel`, W.
pub const QUEUE_SEL: u64 = 0x030;
/// `QueueSizeMax`, R (`QueueNumMax` in older texts).
pub const QUEUE_SIZE_MAX: u64 = 0x034;
/// `QueueSize`, W (`QueueNum`).
pub const QUEUE_SIZE: u64 = 0x038;
/// `QueuePFN` of version 1, RW.
pub const LEGACY_QUEUE_PFN: u64 = 0x040;
/// `QueueReady`, RW.
pub const QUEUE_READY: u64 = 0x044;
/// `QueueNotify`, W.
pub const QUEUE_NOTIFY: u64 = 0x050;
/// `InterruptStatus`, R.
pub const INTERRUPT_STATUS: u64 = 0x060;
/// `InterruptACK`, W.
pub const INTERRUPT_ACK: u64 = 0x064;
/// `Status`, RW.
pub const STATUS: u64 = 0x070;
/// `QueueDescLow`, W.
pub const QUEUE_DESC_LOW: u64 = 0x080;
/// `QueueDescHigh`, W.
pub const QUEUE_DESC_HIGH: u64 = 0x084;
/// `QueueDriverLow`, W: the available ring.
pub const QUEUE_DRIVER_LOW: u64 = 0x090;
/// `QueueDriverHigh`, W.
pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
/// `QueueDeviceLow`, W: the used ring.
pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
/// `QueueDeviceHigh`, W.
pub const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
/// `SHMLenLow`, R.
pub const SHM_LEN_LOW: u64 = 0x0b0;
/// `SHMLenHigh`, R.
pub const SHM_LEN_HIGH: u64 = 0x0b4;
/// `SHMBaseLow`, R.
pub const SHM_BASE_LOW: u64 = 0x0b8;
/// `SHMBaseHigh`, R.
pub const SHM_BASE_HIGH: u64 = 0x0bc;
/// `ConfigGeneration`, R.
pub const CONFIG_GENERATION: u64 = 0x0fc;
/// Start of the device's configuration space.
pub const CONFIG: u64 = 0x100;

/// `InterruptStatus` bit: buffers were used.
pub const INT_USED: u32 = 1;
/// `InterruptStatus` bit: the configuration or the device's status changed.
pub const INT_CONFIG: u32 = 2;

/// `VIRTIO_F_INDIRECT_DESC`.
pub const F_INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`.
pub const F_EVENT_IDX: u64 = 1 << 29;
/// `VIRTIO_F_VERSION_1`.
pub const F_VERSION_1: u64 = 1 << 32;
/// `VIRTIO_F_ACCESS_PLATFORM`: addresses are what the platform makes of them, here grants.
pub const F_ACCESS_PLATFORM: u64 = 1 << 33;

/// Whether `access`, at an offset in a device's window, may change what was agreed with the
/// driver. The two registers written for each request and each interrupt do not.
pub(crate) const fn changes_set_up(access: &Access) -> bool {
    matches!(access.direction, Direction::Write(_)) && !matches!(access.addr, QUEUE_NOTIFY | INTERRUPT_ACK)
}
