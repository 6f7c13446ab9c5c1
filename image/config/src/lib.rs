//! The stub's command line: which guest, which disks.
//!
//! Space-separated `key=value`:
//! `target=<guest domid> disk=<k=v,...> [disk=...]... [log=error|warn|info|debug]
//! [restarts=0..8] [poll-us=0..100000] [map-mib=2..65536] [grants=on|off]`.
//! Keys of a disk: `id`, `mmio`, `irq`, `mode`, `store`, and optionally `serial`, `discard` and
//! `backend-timeout-ms`. The daemon writes it; every rule is checked here all the same, and the
//! first broken one is named.
//!
//! A crate of its own because it runs once and is compiled for size, and the devices for speed.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use kernel::DomId;
use kernel::restart::RESTARTS_MAX;
use xen_pv_sys::arch_arm::{
    GUEST_VIRTIO_MMIO_BASE, GUEST_VIRTIO_MMIO_SIZE, GUEST_VIRTIO_MMIO_SPI_FIRST, GUEST_VIRTIO_MMIO_SPI_LAST,
    VIRTIO_MMIO_DEV_SIZE,
};
use xen_pv_sys::xen::DOMID_FIRST_RESERVED;

/// Disks at most: libxl has as many interrupts for virtio devices.
pub const DISKS_MAX: usize = 11;
/// Characters of a serial number (`VIRTIO_BLK_ID_BYTES`).
pub const SERIAL_MAX: usize = 20;
/// The smallest RAM disk: one sector.
const RAM_BYTES_MIN: u64 = 512;
/// The time without a storage backend after which requests fail, if nothing is said.
const BACKEND_TIMEOUT_NS: u64 = 60_000_000_000;
/// The longest time to wait for a storage backend, unless there is no limit: a day.
const BACKEND_TIMEOUT_MAX_MS: u64 = 86_400_000;
/// The longest time to poll for more work.
const BUSY_POLL_MAX_US: u64 = 100_000;
/// How long to poll if nothing is said: longer than most waits for a fast disk.
const BUSY_POLL_NS: u64 = 1_500_000;
/// The largest window onto the guest's memory in MiB: its slots have numbers of 16 bits.
const MAP_MAX_MIB: u32 = 64 << 10;
/// The window's size if nothing is said.
const MAP_MIB: u32 = 128;
/// How much of a bad value an error repeats.
const SHOWN_CHARS: usize = 64;

/// What the stub is to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The guest.
    pub target: DomId,
    /// Its disks, at least one.
    pub disks: Vec<DiskConfig>,
    /// How much to log.
    pub log: log::LevelFilter,
    /// Restarts in place after a panic, in the time that the kernel names; 0: none.
    pub restarts: u32,
    /// How long to poll for more work before the CPU is given away, at most; 0: not at all.
    pub busy_poll_ns: u64,
    /// How much of the guest's memory may be mapped at once, in MiB.
    pub map_mib: u32,
    /// The guest grants its memory: none of it is mapped otherwise.
    pub grants: bool,
}

/// One disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskConfig {
    /// Virtual device number in the guest.
    pub id: u32,
    /// Guest physical address of its window.
    pub mmio: u64,
    /// SPI (INTID).
    pub irq: u32,
    /// Refuse writes.
    pub read_only: bool,
    /// The guest may discard, where the storage can.
    pub discard: bool,
    /// Serial number; `pf-<id>` unless given.
    pub serial: String,
    /// Where the data is.
    pub store: Store,
    /// Without a storage backend for longer than this, requests fail; `None`: they wait without limit.
    pub backend_timeout_ns: Option<u64>,
}

/// Where a disk's data is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Store {
    /// The PV disk with this virtual device number in the stub.
    Pv(u32),
    /// Memory of the stub; its size in bytes.
    Ram(u64),
}

/// The first broken rule of a command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// The key concerned, with the disk's place for a disk's keys (`disk[1].irq`).
    pub key: String,
    /// What it was set to; empty if it is missing.
    pub value: String,
    /// The rule.
    pub rule: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}: {}", self.key, self.value, self.rule)
    }
}

impl core::error::Error for ConfigError {}

impl ConfigError {
    #[cold]
    #[inline(never)]
    fn new(key: &str, value: &str, rule: &'static str) -> ConfigError {
        let end = value.char_indices().nth(SHOWN_CHARS).map_or(value.len(), |(end, _)| end);
        let value = value.get(..end).unwrap_or_default();
        ConfigError { key: key.to_owned(), value: value.to_owned(), rule }
    }
}

impl Config {
    /// Reads and judges a command line.
    ///
    /// # Errors
    /// [`ConfigError`] names the first key that breaks a rule.
    pub fn parse(command_line: &str) -> Result<Config, ConfigError> {
        let mut target = None;
        let mut log = None;
        let mut restarts = None;
        let mut busy_poll_ns = None;
        let mut map_mib = None;
        let mut grants = None;
        let mut disks: Vec<DiskConfig> = Vec::new();
        for word in command_line.split_ascii_whitespace() {
            let (key, value) = split(word)?;
            match key {
                "target" => once(&mut target, key, value, domid(value))?,
                "restarts" => once(&mut restarts, key, value, restart_count(value))?,
                "poll-us" => once(&mut busy_poll_ns, key, value, poll_time(value))?,
                "map-mib" => once(&mut map_mib, key, value, map_size(value))?,
                "grants" => once(&mut grants, key, value, on_off(value))?,
                "log" => once(&mut log, key, value, level(value))?,
                "disk" if disks.len() == DISKS_MAX => {
                    return Err(ConfigError::new(key, value, "more disks than the 11 that a guest can have"));
                }
                "disk" => {
                    let disk = DiskConfig::parse(disks.len(), value)?;
                    disk.check_distinct(&disks)?;
                    disks.push(disk);
                }
                _ => {
                    return Err(ConfigError::new(
                        key,
                        value,
                        "unknown key; known are target, disk, log, restarts, poll-us, map-mib, grants",
                    ));
                }
            }
        }
        let target = target.ok_or_else(|| ConfigError::new("target", "", "is missing"))?;
        if disks.is_empty() {
            return Err(ConfigError::new("disk", "", "is missing"));
        }
        let log = log.unwrap_or(log::LevelFilter::Info);
        let restarts = restarts.unwrap_or(0);
        let grants = grants.unwrap_or(false);
        check_restarts(restarts, grants, &disks)?;
        let busy_poll_ns = busy_poll_ns.unwrap_or(BUSY_POLL_NS);
        let map_mib = map_mib.unwrap_or(MAP_MIB);
        Ok(Config { target, disks, log, restarts, busy_poll_ns, map_mib, grants })
    }
}

impl DiskConfig {
    fn parse(place: usize, text: &str) -> Result<DiskConfig, ConfigError> {
        let name = |key: &str| of_disk(place, key);
        let (mut id, mut mmio, mut irq, mut read_only) = (None, None, None, None);
        let (mut serial, mut store, mut timeout, mut discard) = (None, None, None, None);
        for item in text.split(',') {
            let (key, value) = split(item).map_err(|error| ConfigError { key: name(&error.key), ..error })?;
            let full = name(key);
            match key {
                "id" => once(&mut id, &full, value, decimal(value).ok_or("not a 32-bit decimal number"))?,
                "mmio" => once(&mut mmio, &full, value, window(value))?,
                "irq" => once(&mut irq, &full, value, spi(value))?,
                "mode" => once(&mut read_only, &full, value, mode(value))?,
                "discard" => once(&mut discard, &full, value, on_off(value))?,
                "serial" => once(&mut serial, &full, value, serial_number(value))?,
                "store" => once(&mut store, &full, value, store_of(value))?,
                "backend-timeout-ms" => once(&mut timeout, &full, value, backend_timeout(value))?,
                _ => return Err(ConfigError::new(&full, value, "unknown key")),
            }
        }
        let missing = |key: &str| ConfigError::new(&name(key), "", "is missing");
        let id = id.ok_or_else(|| missing("id"))?;
        Ok(DiskConfig {
            id,
            mmio: mmio.ok_or_else(|| missing("mmio"))?,
            irq: irq.ok_or_else(|| missing("irq"))?,
            read_only: read_only.ok_or_else(|| missing("mode"))?,
            discard: discard.unwrap_or(true),
            serial: serial.unwrap_or_else(|| format!("pf-{id}")),
            store: store.ok_or_else(|| missing("store"))?,
            backend_timeout_ns: timeout.unwrap_or(Some(BACKEND_TIMEOUT_NS)),
        })
    }

    /// No two disks share a number, a window, an interrupt or a PV disk.
    fn check_distinct(&self, others: &[DiskConfig]) -> Result<(), ConfigError> {
        let place = others.len();
        let taken = |key: &str, value: String| {
            Err(ConfigError::new(&of_disk(place, key), &value, "another disk has the same"))
        };
        for other in others {
            if other.id == self.id {
                return taken("id", format!("{}", self.id));
            }
            if other.mmio == self.mmio {
                return taken("mmio", format!("{:#x}", self.mmio));
            }
            if other.irq == self.irq {
                return taken("irq", format!("{}", self.irq));
            }
            if let (Store::Pv(ours), Store::Pv(theirs)) = (self.store, other.store)
                && ours == theirs
            {
                return taken("store", format!("pv:{ours}"));
            }
        }
        Ok(())
    }
}

/// What has to outlive a restart has to be in the journal.
fn check_restarts(restarts: u32, grants: bool, disks: &[DiskConfig]) -> Result<(), ConfigError> {
    let volatile = disks.iter().any(|disk| matches!(disk.store, Store::Ram(_)));
    let rule = if volatile {
        "a RAM disk's content does not outlive a restart"
    } else if grants {
        "the rings of a guest that grants them cannot be mapped anew after a restart"
    } else {
        return Ok(());
    };
    if restarts > 0 {
        return Err(ConfigError::new("restarts", &format!("{restarts}"), rule));
    }
    Ok(())
}

/// A disk's key as errors name it.
#[inline(never)]
fn of_disk(place: usize, key: &str) -> String {
    format!("disk[{place}].{key}")
}

type Rule = &'static str;

#[inline(never)]
fn split(word: &str) -> Result<(&str, &str), ConfigError> {
    word.split_once('=').ok_or_else(|| ConfigError::new(word, "", "not of the form key=value"))
}

/// Stores a parsed value; a key may occur once.
#[inline(never)]
fn once<T>(slot: &mut Option<T>, key: &str, value: &str, parsed: Result<T, Rule>) -> Result<(), ConfigError> {
    let rule = match parsed {
        _ if slot.is_some() => "given twice",
        Ok(parsed) => {
            *slot = Some(parsed);
            return Ok(());
        }
        Err(rule) => rule,
    };
    Err(ConfigError::new(key, value, rule))
}

/// Digits only: no sign, no space.
fn decimal<T: TryFrom<u64>>(text: &str) -> Option<T> {
    T::try_from(digits(text, 10)?).ok()
}

/// Not inlined: it is called for most keys, and never in a hurry.
#[inline(never)]
fn digits(text: &str, radix: u32) -> Option<u64> {
    let plain = text.chars().all(|character| character.is_digit(radix));
    u64::from_str_radix(text, radix).ok().filter(|_| plain)
}

fn domid(text: &str) -> Result<DomId, Rule> {
    let domid = decimal(text).filter(|&domid| (1..DOMID_FIRST_RESERVED).contains(&domid));
    domid.map(DomId).ok_or("not a guest's domid")
}

fn restart_count(text: &str) -> Result<u32, Rule> {
    decimal(text).filter(|&count| count <= RESTARTS_MAX).ok_or("not a number from 0 to 8")
}

/// Microseconds, as nanoseconds.
fn poll_time(text: &str) -> Result<u64, Rule> {
    let us = decimal(text).filter(|&us: &u64| us <= BUSY_POLL_MAX_US);
    us.map(|us| us.saturating_mul(1_000)).ok_or("not 0 to 100000 microseconds")
}

fn map_size(text: &str) -> Result<u32, Rule> {
    decimal(text).filter(|mib| (2..=MAP_MAX_MIB).contains(mib)).ok_or("not 2 to 65536 MiB")
}

fn level(text: &str) -> Result<log::LevelFilter, Rule> {
    match text {
        "error" => Ok(log::LevelFilter::Error),
        "warn" => Ok(log::LevelFilter::Warn),
        "info" => Ok(log::LevelFilter::Info),
        "debug" => Ok(log::LevelFilter::Debug),
        _ => Err("not one of error, warn, info, debug"),
    }
}

fn window(text: &str) -> Result<u64, Rule> {
    let addr = text.strip_prefix("0x").and_then(|text| digits(text, 16)).ok_or("not a hexadecimal number")?;
    let region = GUEST_VIRTIO_MMIO_BASE..GUEST_VIRTIO_MMIO_BASE.saturating_add(GUEST_VIRTIO_MMIO_SIZE);
    if !region.contains(&addr) {
        return Err("outside the virtio-mmio region 0x2000000-0x20fffff");
    }
    if addr.is_multiple_of(VIRTIO_MMIO_DEV_SIZE) { Ok(addr) } else { Err("not a multiple of 0x200") }
}

fn spi(text: &str) -> Result<u32, Rule> {
    let range = GUEST_VIRTIO_MMIO_SPI_FIRST..=GUEST_VIRTIO_MMIO_SPI_LAST;
    decimal(text).filter(|spi| range.contains(spi)).ok_or("not an interrupt from 33 to 43")
}

fn mode(text: &str) -> Result<bool, Rule> {
    match text {
        "rw" => Ok(false),
        "ro" => Ok(true),
        _ => Err("neither rw nor ro"),
    }
}

fn on_off(text: &str) -> Result<bool, Rule> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("neither on nor off"),
    }
}

fn serial_number(text: &str) -> Result<String, Rule> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b',' && byte != b'=';
    if text.is_empty() || text.len() > SERIAL_MAX || !text.bytes().all(plain) {
        return Err("not 1 to 20 printable characters without comma, '=' and space");
    }
    Ok(text.to_owned())
}

/// Milliseconds, as nanoseconds; 0: none.
fn backend_timeout(text: &str) -> Result<Option<u64>, Rule> {
    let ms = decimal(text).filter(|&ms: &u64| ms <= BACKEND_TIMEOUT_MAX_MS);
    let ns = ms.map(|ms| ms.saturating_mul(1_000_000)).ok_or("not 0 to 86400000 milliseconds")?;
    Ok(Some(ns).filter(|&ns| ns > 0))
}

fn store_of(text: &str) -> Result<Store, Rule> {
    match text.split_once(':') {
        Some(("pv", vdev)) => decimal(vdev).map(Store::Pv).ok_or("pv: needs a virtual device number"),
        Some(("ram", bytes)) => {
            let bytes =
                decimal(bytes).filter(|bytes: &u64| *bytes >= RAM_BYTES_MIN && bytes.is_multiple_of(512));
            bytes.map(Store::Ram).ok_or("ram: needs a size in bytes, a multiple of 512, not 0")
        }
        _ => Err("neither pv:<number> nor ram:<bytes>"),
    }
}

#[cfg(test)]
mod tests;
