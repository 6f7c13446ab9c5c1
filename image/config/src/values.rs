//! What may follow each key, and the rule that a bad value breaks.

use alloc::borrow::ToOwned;
use alloc::string::String;
use kernel::DomId;
use kernel::restart::RESTARTS_MAX;
use xen_pv_sys::arch_arm::{
    GUEST_VIRTIO_MMIO_BASE, GUEST_VIRTIO_MMIO_SIZE, GUEST_VIRTIO_MMIO_SPI_FIRST, GUEST_VIRTIO_MMIO_SPI_LAST,
    VIRTIO_MMIO_DEV_SIZE,
};
use xen_pv_sys::xen::DOMID_FIRST_RESERVED;

use crate::Store;

/// Characters of a serial number (`VIRTIO_BLK_ID_BYTES`).
pub const SERIAL_MAX: usize = 20;
/// The smallest RAM disk: one sector.
const RAM_BYTES_MIN: u64 = 512;
/// The longest time to wait for a storage backend, unless there is no limit: a day.
const BACKEND_TIMEOUT_MAX_MS: u64 = 86_400_000;
/// The longest time to poll for more work.
const BUSY_POLL_MAX_US: u64 = 100_000;
/// The largest window onto the guest's memory in MiB: its slots have numbers of 16 bits.
const MAP_MAX_MIB: u32 = 64 << 10;

/// The rule that a value breaks.
pub(super) type Rule = &'static str;

/// Digits only: no sign, no space.
pub(super) fn decimal<T: TryFrom<u64>>(text: &str) -> Option<T> {
    T::try_from(digits(text, 10)?).ok()
}

/// Not inlined: it is called for most keys, and never in a hurry.
#[inline(never)]
pub(super) fn digits(text: &str, radix: u32) -> Option<u64> {
    let plain = text.chars().all(|character| character.is_digit(radix));
    u64::from_str_radix(text, radix).ok().filter(|_| plain)
}

pub(super) fn domid(text: &str) -> Result<DomId, Rule> {
    let domid = decimal(text).filter(|&domid| (1..DOMID_FIRST_RESERVED).contains(&domid));
    domid.map(DomId).ok_or("not a guest's domid")
}

pub(super) fn restart_count(text: &str) -> Result<u32, Rule> {
    decimal(text).filter(|&count| count <= RESTARTS_MAX).ok_or("not a number from 0 to 8")
}

/// Microseconds, as nanoseconds.
pub(super) fn poll_time(text: &str) -> Result<u64, Rule> {
    let us = decimal(text).filter(|&us: &u64| us <= BUSY_POLL_MAX_US);
    us.map(|us| us.saturating_mul(1_000)).ok_or("not 0 to 100000 microseconds")
}

pub(super) fn map_size(text: &str) -> Result<u32, Rule> {
    decimal(text).filter(|mib| (2..=MAP_MAX_MIB).contains(mib)).ok_or("not 2 to 65536 MiB")
}

pub(super) fn level(text: &str) -> Result<log::LevelFilter, Rule> {
    match text {
        "error" => Ok(log::LevelFilter::Error),
        "warn" => Ok(log::LevelFilter::Warn),
        "info" => Ok(log::LevelFilter::Info),
        "debug" => Ok(log::LevelFilter::Debug),
        _ => Err("not one of error, warn, info, debug"),
    }
}

pub(super) fn window(text: &str) -> Result<u64, Rule> {
    let addr = text.strip_prefix("0x").and_then(|text| digits(text, 16)).ok_or("not a hexadecimal number")?;
    let region = GUEST_VIRTIO_MMIO_BASE..GUEST_VIRTIO_MMIO_BASE.saturating_add(GUEST_VIRTIO_MMIO_SIZE);
    if !region.contains(&addr) {
        return Err("outside the virtio-mmio region 0x2000000-0x20fffff");
    }
    if addr.is_multiple_of(VIRTIO_MMIO_DEV_SIZE) { Ok(addr) } else { Err("not a multiple of 0x200") }
}

pub(super) fn spi(text: &str) -> Result<u32, Rule> {
    let range = GUEST_VIRTIO_MMIO_SPI_FIRST..=GUEST_VIRTIO_MMIO_SPI_LAST;
    decimal(text).filter(|spi| range.contains(spi)).ok_or("not an interrupt from 33 to 43")
}

pub(super) fn mode(text: &str) -> Result<bool, Rule> {
    match text {
        "rw" => Ok(false),
        "ro" => Ok(true),
        _ => Err("neither rw nor ro"),
    }
}

pub(super) fn on_off(text: &str) -> Result<bool, Rule> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("neither on nor off"),
    }
}

pub(super) fn serial_number(text: &str) -> Result<String, Rule> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b',' && byte != b'=';
    if text.is_empty() || text.len() > SERIAL_MAX || !text.bytes().all(plain) {
        return Err("not 1 to 20 printable characters without comma, '=' and space");
    }
    Ok(text.to_owned())
}

/// Milliseconds, as nanoseconds; 0: none.
pub(super) fn backend_timeout(text: &str) -> Result<Option<u64>, Rule> {
    let ms = decimal(text).filter(|&ms: &u64| ms <= BACKEND_TIMEOUT_MAX_MS);
    let ns = ms.map(|ms| ms.saturating_mul(1_000_000)).ok_or("not 0 to 86400000 milliseconds")?;
    Ok(Some(ns).filter(|&ns| ns > 0))
}

pub(super) fn store_of(text: &str) -> Result<Store, Rule> {
    match text.split_once(':') {
        Some(("pv", vdev)) => decimal(vdev).map(Store::Pv).ok_or("pv: needs a virtual device number"),
        Some(("ram", bytes)) => {
            let bytes =
                decimal(bytes).filter(|bytes: &u64| *bytes >= RAM_BYTES_MIN && bytes.is_multiple_of(512));
            bytes.map(Store::Ram).ok_or("ram: needs a size in bytes, a multiple of 512, not 0")
        }
        _ => Err("neither pv:<number> nor ram:<bytes> nor nbd:<server>/<export>"),
    }
}
