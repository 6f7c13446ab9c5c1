//! The stub's command line: which guest, which disks.
//!
//! Space-separated `key=value`:
//! `target=<guest domid> disk=<k=v,...> [disk=...]... [log=error|warn|info|debug]
//! [restarts=0..8] [poll-us=0..100000] [map-mib=2..65536] [grants=on|off]
//! [net=ip=<address>/<prefix>[,gateway=<address>]]`.
//! Keys of a disk: `id`, `mmio`, `irq`, `mode`, `store`, and optionally `serial`, `discard`,
//! `backend-timeout-ms`, and `tls` for an NBD disk. The daemon writes it; every rule is checked here all the same, and the
//! first broken one is named.
//!
//! `store` is `pv:<number>`, `ram:<bytes>` or `nbd:<address>:<port>/<export>`, where the export's name has
//! `%` and two hexadecimal digits for each byte outside `[A-Za-z0-9._~/-]`. Only an image with the feature
//! `nbd` knows the last, and `net`.
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

#[cfg(any(test, feature = "nbd"))]
mod network;
mod values;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use kernel::DomId;
use values::{
    Rule, backend_timeout, decimal, domid, level, map_size, mode, on_off, poll_time, restart_count,
    serial_number, spi, store_of, window,
};

#[cfg(any(test, feature = "nbd"))]
pub use network::{EXPORT_MAX_BYTES, NbdStore, Net, NetConfig};
pub use values::SERIAL_MAX;

/// Disks at most: libxl has as many interrupts for virtio devices.
pub const DISKS_MAX: usize = 11;
/// The time without a storage backend after which requests fail, if nothing is said.
const BACKEND_TIMEOUT_NS: u64 = 60_000_000_000;
/// How long to poll if nothing is said: longer than most waits for a fast disk.
const BUSY_POLL_NS: u64 = 1_500_000;
/// The window's size if nothing is said.
const MAP_MIB: u32 = 128;
/// How much of a bad value an error repeats.
const SHOWN_CHARS: usize = 64;
/// What is wrong with the words of a network in the image that has none.
#[cfg(not(any(test, feature = "nbd")))]
const NO_NETWORK: values::Rule = "needs the image pilotfish-net.img";

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
    /// The stub's network interface, number 0. There is one if a disk needs it.
    #[cfg(any(test, feature = "nbd"))]
    pub net: Option<Net>,
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
    /// The way to the NBD server is TLS. The key comes by xenstore.
    #[cfg(any(test, feature = "nbd"))]
    pub tls: bool,
}

/// Where a disk's data is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Store {
    /// The PV disk with this virtual device number in the stub.
    Pv(u32),
    /// Memory of the stub; its size in bytes.
    Ram(u64),
    /// An export of an NBD server.
    #[cfg(any(test, feature = "nbd"))]
    Nbd(NbdStore),
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
        #[cfg(any(test, feature = "nbd"))]
        let mut net = None;
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
                #[cfg(any(test, feature = "nbd"))]
                "net" => once(&mut net, key, value, Ok(Net::parse(value)?))?,
                #[cfg(not(any(test, feature = "nbd")))]
                "net" => return Err(ConfigError::new(key, value, NO_NETWORK)),
                "disk" => add_disk(&mut disks, value)?,
                _ => {
                    return Err(ConfigError::new(
                        key,
                        value,
                        "unknown key; known are target, disk, log, restarts, poll-us, map-mib, grants, net",
                    ));
                }
            }
        }
        let target = target.ok_or_else(|| ConfigError::new("target", "", "is missing"))?;
        let config = Config {
            target,
            disks,
            log: log.unwrap_or(log::LevelFilter::Info),
            restarts: restarts.unwrap_or(0),
            busy_poll_ns: busy_poll_ns.unwrap_or(BUSY_POLL_NS),
            map_mib: map_mib.unwrap_or(MAP_MIB),
            grants: grants.unwrap_or(false),
            #[cfg(any(test, feature = "nbd"))]
            net,
        };
        config.check()?;
        Ok(config)
    }

    /// What concerns several words.
    fn check(&self) -> Result<(), ConfigError> {
        if self.disks.is_empty() {
            return Err(ConfigError::new("disk", "", "is missing"));
        }
        check_restarts(self.restarts, self.grants, &self.disks)?;
        #[cfg(any(test, feature = "nbd"))]
        self.check_network()?;
        Ok(())
    }
}

fn add_disk(disks: &mut Vec<DiskConfig>, value: &str) -> Result<(), ConfigError> {
    if disks.len() == DISKS_MAX {
        return Err(ConfigError::new("disk", value, "more disks than the 11 that a guest can have"));
    }
    let disk = DiskConfig::parse(disks.len(), value)?;
    disk.check_distinct(disks)?;
    disks.push(disk);
    Ok(())
}

fn any_store(text: &str) -> Result<Store, Rule> {
    match text.strip_prefix("nbd:") {
        #[cfg(any(test, feature = "nbd"))]
        Some(export) => network::store(export),
        #[cfg(not(any(test, feature = "nbd")))]
        Some(_) => Err(NO_NETWORK),
        None => store_of(text),
    }
}

impl DiskConfig {
    fn parse(place: usize, text: &str) -> Result<DiskConfig, ConfigError> {
        let name = |key: &str| of_disk(place, key);
        let (mut id, mut mmio, mut irq, mut read_only) = (None, None, None, None);
        let (mut serial, mut store, mut timeout, mut discard) = (None, None, None, None);
        #[cfg(any(test, feature = "nbd"))]
        let mut tls = None;
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
                "store" => once(&mut store, &full, value, any_store(value))?,
                "backend-timeout-ms" => once(&mut timeout, &full, value, backend_timeout(value))?,
                #[cfg(any(test, feature = "nbd"))]
                "tls" => once(&mut tls, &full, value, on_off(value))?,
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
            #[cfg(any(test, feature = "nbd"))]
            tls: tls.unwrap_or(false),
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
            match (&self.store, &other.store) {
                (Store::Pv(ours), Store::Pv(theirs)) if ours == theirs => {
                    return taken("store", format!("pv:{ours}"));
                }
                #[cfg(any(test, feature = "nbd"))]
                (Store::Nbd(ours), Store::Nbd(theirs)) if ours == theirs => {
                    return taken("store", format!("nbd:{}/{}", ours.server, ours.export));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(not(any(test, feature = "nbd")))]
impl DiskConfig {
    /// There are no disks with a key.
    const fn has_tls(&self) -> bool {
        false
    }
}

/// What has to outlive a restart has to be in the journal.
fn check_restarts(restarts: u32, grants: bool, disks: &[DiskConfig]) -> Result<(), ConfigError> {
    let volatile = disks.iter().any(|disk| matches!(disk.store, Store::Ram(_)));
    let rule = if volatile {
        "a RAM disk's content does not outlive a restart"
    } else if disks.iter().any(DiskConfig::has_tls) {
        "a key of TLS does not outlive a restart"
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

#[cfg(test)]
mod tests;
