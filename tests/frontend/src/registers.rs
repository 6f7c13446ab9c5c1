//! The registers of a virtio-mmio device by offset (virtio 1.3, section 4.2.2).

use alloc::string::String;
use core::ops::Range;
use kernel::testing::registers::Registers;

/// A device's registers.
pub fn map(window: &Range<u64>) -> Result<Registers, String> {
    let len = usize::try_from(window.end - window.start).map_err(|_| "a window too large")?;
    Registers::map(window.start, len).ok_or_else(|| String::from("the registers cannot be mapped"))
}

/// `MagicValue`.
pub const MAGIC_VALUE: usize = 0x000;
/// `Version`.
pub const VERSION: usize = 0x004;
/// `DeviceID`.
pub const DEVICE_ID: usize = 0x008;
/// `DeviceFeatures`.
pub const DEVICE_FEATURES: usize = 0x010;
/// `DeviceFeaturesSel`.
pub const DEVICE_FEATURES_SEL: usize = 0x014;
/// `DriverFeatures`.
pub const DRIVER_FEATURES: usize = 0x020;
/// `DriverFeaturesSel`.
pub const DRIVER_FEATURES_SEL: usize = 0x024;
/// `QueueSel`.
pub const QUEUE_SEL: usize = 0x030;
/// `QueueSizeMax`.
pub const QUEUE_SIZE_MAX: usize = 0x034;
/// `QueueSize`.
pub const QUEUE_SIZE: usize = 0x038;
/// `QueueReady`.
pub const QUEUE_READY: usize = 0x044;
/// `QueueNotify`.
pub const QUEUE_NOTIFY: usize = 0x050;
/// `InterruptStatus`.
pub const INTERRUPT_STATUS: usize = 0x060;
/// `InterruptACK`.
pub const INTERRUPT_ACK: usize = 0x064;
/// `Status`.
pub const STATUS: usize = 0x070;
/// `QueueDescLow`.
pub const QUEUE_DESC: usize = 0x080;
/// `QueueDriverLow`.
pub const QUEUE_DRIVER: usize = 0x090;
/// `QueueDeviceLow`.
pub const QUEUE_DEVICE: usize = 0x0a0;
/// `SHMSel`.
pub const SHM_SEL: usize = 0x0ac;
/// `ConfigGeneration`.
pub const CONFIG_GENERATION: usize = 0x0fc;
/// `Config`.
pub const CONFIG: usize = 0x100;
