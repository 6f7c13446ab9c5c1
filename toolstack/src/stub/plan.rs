//! The stub domain that a guest's disks need: its memory, command line and PV disks, and the
//! xl configuration that says so.

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};
use bytesize::ByteSize;

use super::identity::Identity;
use super::network::Interface;
use super::xl_config::{self, Domain, MAPPED_BY_TABLE};
use crate::config::{BlockScript, Config, Level, MapWindow, OnStubCrash, fit_for_xl};
use crate::disk::disk_file::DiskStorage;
use crate::disk::target::Disk;

/// xvda as a virtual device number (block major 202); 16 minors to a disk.
const XVDA: u32 = 202 << 8;
/// Disks of a stub beyond this would need another numbering; libxl's interrupts end at 11.
const DISKS_MAX: usize = 16;
/// The stub's own default, which need not be said: a command line has an end.
const STUB_BACKEND_TIMEOUT_MS: u64 = 60_000;
/// How often a stub may be restarted in the time that it counts over (10 minutes).
const RESTARTS: u32 = 3;
/// The window onto a guest of unknown size.
const WINDOW_UNKNOWN: u64 = 128 << 20;
/// The window that `stub-memory` has room for, and what each GiB beyond it needs, twice if the stub may
/// restart in place: 144 bytes for each 2 MiB, and 2 of an index.
const WINDOW_INCLUDED: u64 = 4 << 30;
const GIB: u64 = 1 << 30;
const BYTES_BY_WINDOW_GIB: u64 = 150 << 10;

/// What each PV disk but the first adds to `stub-memory`, and all of them at most: their bounce
/// pages and tables, twice if the stub may restart in place. More disks share the same pages; there is
/// room for the 200 KiB that each has of its own (`image/runtime/src/tests/memory.rs`).
const PV_DISK_BYTES: u64 = 4 << 20;
const PV_DISKS_BYTES_MAX: u64 = 8 << 20;
/// What each NBD disk adds: the buffers of its connection, and its share of the network interface's. If the stub
/// may restart in place, each of two incarnations has its own.
const NBD_DISK_BYTES: u64 = 4 << 20;
const NBD_DISK_RESTART_BYTES: u64 = 6 << 20;

/// A stub domain to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Whose it is, and its name and UUID.
    pub identity: Identity,
    /// The virtual device numbers it serves.
    pub disks: Vec<u32>,
    /// The stub's command line.
    pub command_line: String,
    /// The complete xl configuration; of no use for a stub that exists already.
    pub xl_config: String,
    /// Its PV disks, each as xl writes a disk.
    pub vbds: Vec<String>,
    /// Its network interface, if a disk needs one.
    pub interface: Option<Interface>,
    /// Those of the disks that need a key of TLS.
    pub with_tls: Vec<Disk>,
    /// Why the stub will not be restarted although the configuration asks for it.
    pub no_restart: Option<String>,
}

impl Plan {
    /// Lays out a stub for `disks` of `guest`.
    ///
    /// # Errors
    /// More disks or RAM disks than allowed.
    pub fn new(config: &Config, identity: Identity, guest: &Guest, disks: &[Disk]) -> Result<Plan> {
        let window = window(config, guest.memory_bytes);
        Plan::lay_out(config, identity, &guest.name, Reach::Mapped(window), disks)
    }

    /// Lays out what a stub that waits is to do for `disks` of a guest that grants its memory.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn granted(config: &Config, identity: Identity, disks: &[Disk]) -> Result<Plan> {
        // Its name is for a network interface, and it has none.
        Plan::lay_out(config, identity, "", Reach::Granted, disks)
    }

    fn lay_out(
        config: &Config,
        identity: Identity,
        guest: &str,
        reach: Reach,
        disks: &[Disk],
    ) -> Result<Plan> {
        ensure!(
            !disks.is_empty() && disks.len() <= DISKS_MAX,
            "{} disks: 1 to {DISKS_MAX} can be served",
            disks.len()
        );
        let ram = ram_disks(config, disks)?;
        let (disk_words, vbds) = storage(config, disks)?;
        let interface = Interface::of(config, guest, disks)?;
        let mut words = vec![format!("target={}", identity.guest)];
        words.extend(interface.as_ref().map(Interface::word));
        words.extend(disk_words);
        words.push(format!("log={}", level_word(config.stub_log)));
        words.push(format!("poll-us={}", config.poll_us));
        let window = match reach {
            Reach::Mapped(window) => {
                words.push(format!("map-mib={}", window >> 20));
                window
            }
            Reach::Granted => {
                // The stub that waits was made without one.
                ensure!(
                    interface.is_none(),
                    "storage = \"nbd\": a stub of grant-stubs has no network interface"
                );
                words.push("grants=on".to_owned());
                0
            }
        };
        let no_restart = no_restart(config, reach, disks);
        let restarts = config.on_stub_crash == OnStubCrash::Restart && no_restart.is_none();
        if restarts {
            words.push(format!("restarts={RESTARTS}"));
        }
        let command_line = words.join(" ");
        let other = ram.saturating_add(nbd_bytes(disks, restarts)?);
        let memory = memory_mib(config, other, vbds.len(), window)?;
        let domain = Domain {
            name: &identity.name(),
            uuid: &identity.uuid,
            memory_mib: memory,
            window,
            command_line: &command_line,
            vbds: &vbds,
            image: if interface.is_some() { &config.stub_net_image } else { &config.stub_image },
            vif: interface.as_ref().map(Interface::vif),
        };
        let xl_config = xl_config::text(config, &domain);
        let with_tls = disks.iter().filter(|disk| has_tls(disk)).cloned().collect();
        let disks = disks.iter().map(|d| d.node.disk).collect();
        Ok(Plan { identity, disks, command_line, xl_config, vbds, interface, with_tls, no_restart })
    }
}

/// What is known of a guest.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    /// Its name; empty if it has none.
    pub name: String,
    /// What it has at most.
    pub memory_bytes: Option<u64>,
}

/// How a stub reaches its guest's memory.
#[derive(Clone, Copy)]
enum Reach {
    /// It maps what it wants, through a window of that many bytes.
    Mapped(u64),
    /// The guest grants it.
    Granted,
}

fn has_tls(disk: &Disk) -> bool {
    matches!(disk.storage, DiskStorage::Nbd { tls: Some(_), .. })
}

/// Bytes of all RAM disks.
fn ram_disks(config: &Config, disks: &[Disk]) -> Result<u64> {
    let bytes = |disk: &Disk| match disk.storage {
        DiskStorage::Ram(bytes) => bytes,
        DiskStorage::Pv { .. } | DiskStorage::Nbd { .. } => 0,
    };
    let ram = disks.iter().map(bytes).fold(0_u64, u64::saturating_add);
    // It is the host's memory: a slip in a disk file must not take it all.
    if ram > config.ram_disk_limit {
        bail!(
            "RAM disks of {} in all: ram-disk-limit = \"{}\"",
            ByteSize(ram),
            ByteSize(config.ram_disk_limit)
        );
    }
    Ok(ram)
}

/// What all NBD disks add to the stub's memory.
fn nbd_bytes(disks: &[Disk], restarts: bool) -> Result<u64> {
    let count = disks.iter().filter(|disk| matches!(disk.storage, DiskStorage::Nbd { .. })).count();
    let each = if restarts { NBD_DISK_RESTART_BYTES } else { NBD_DISK_BYTES };
    Ok(u64::try_from(count)?.saturating_mul(each))
}

/// Where the disks' data is: as words of the command line, and as PV disks of the xl configuration.
fn storage(config: &Config, disks: &[Disk]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut words, mut vbds) = (Vec::new(), Vec::new());
    for disk in disks {
        let store = match &disk.storage {
            DiskStorage::Ram(bytes) => format!("ram:{bytes}"),
            DiskStorage::Pv { target, backend } => {
                let (letter, number) = vbd(vbds.len())?;
                let place = match backend {
                    // Its own `xl devd` attaches the disk there.
                    Some(domain) => format!("backend={domain},"),
                    None => script(config)?,
                };
                let access = if disk.node.read_only { "ro" } else { "rw" };
                // Not even a stub that a guest has taken over punches holes.
                let discard = if disk.node.discard { "" } else { "no-discard," };
                // target= comes last: xl takes all that follows as the path.
                vbds.push(format!(
                    "vdev=xvd{letter},format=raw,backendtype=phy,{place}{discard}access={access},target={target}"
                ));
                format!("pv:{number}")
            }
            DiskStorage::Nbd { export, .. } => export.word(),
        };
        words.push(disk_word(config, disk, &store));
    }
    Ok((words, vbds))
}

/// Why the stub cannot restart in place, although the configuration asks for it.
fn no_restart(config: &Config, reach: Reach, disks: &[Disk]) -> Option<String> {
    if config.on_stub_crash != OnStubCrash::Restart {
        return None;
    }
    if matches!(reach, Reach::Granted) {
        return Some("its guest's rings, which are granted, cannot be mapped anew".to_owned());
    }
    // A stub that restarts begins with empty memory, but for its journal.
    disks.iter().find_map(|disk| {
        let why = match disk.storage {
            DiskStorage::Ram(_) => "is in the stub's own memory",
            DiskStorage::Nbd { tls: Some(_), .. } => "has a key of TLS, which does not outlive a restart",
            DiskStorage::Nbd { tls: None, .. } | DiskStorage::Pv { .. } => return None,
        };
        Some(format!("disk {} {why}", disk.node.label()))
    })
}

/// RAM of the stub in MiB, for `other` bytes of RAM and NBD disks, so many PV disks and `window` bytes of window.
fn memory_mib(config: &Config, other: u64, vbds: usize, window: u64) -> Result<u64> {
    // `stub-memory` includes the first PV disk and the first 4 GiB of window.
    let further = u64::try_from(vbds.saturating_sub(1))?;
    let pv = further.saturating_mul(PV_DISK_BYTES).min(PV_DISKS_BYTES_MAX);
    let map = window.saturating_sub(WINDOW_INCLUDED).div_ceil(GIB) * BYTES_BY_WINDOW_GIB;
    let memory = config.stub_memory.saturating_add(pv).saturating_add(other);
    let memory = memory.saturating_add(map);
    Ok(memory.div_ceil(1 << 20))
}

/// The part of a PV disk that names who attaches it.
fn script(config: &Config) -> Result<String> {
    if config.block_script == BlockScript::Xen {
        return Ok(String::new());
    }
    let exe = std::env::current_exe()?;
    // Linux says so after an upgrade under a running daemon; the new program is at the path.
    let path = exe.to_str().map(|p| p.strip_suffix(" (deleted)").unwrap_or(p));
    let path = path.filter(|p| fit_for_xl(p) && !p.contains([',', ' ']));
    let Some(path) = path else {
        bail!("{}: xl cannot call that: set block-script = \"xen\"", exe.display());
    };
    Ok(format!("script={path},"))
}

/// The `disk=` word of the stub's command line.
fn disk_word(config: &Config, disk: &Disk, store: &str) -> String {
    let node = &disk.node;
    let mode = if node.read_only { "ro" } else { "rw" };
    let mut word =
        format!("disk=id={},mmio={:#x},irq={},mode={mode},store={store}", node.disk, node.mmio, node.irq);
    if !node.discard {
        word.push_str(",discard=off");
    }
    if let Some(serial) = &disk.serial {
        // Writing to a String cannot fail.
        let _ = write!(word, ",serial={serial}");
    }
    if has_tls(disk) {
        word.push_str(",tls=on");
    }
    let timeout_ms = disk.backend_timeout_ms.unwrap_or(config.backend_timeout_ms);
    if timeout_ms != STUB_BACKEND_TIMEOUT_MS && !matches!(disk.storage, DiskStorage::Ram(_)) {
        let _ = write!(word, ",backend-timeout-ms={timeout_ms}");
    }
    word
}

/// The letter and the device number of the stub's PV disk `index`.
fn vbd(index: usize) -> Result<(char, u32)> {
    let letter = ('a'..='p').nth(index);
    let (Some(letter), Ok(index)) = (letter, u32::try_from(index)) else { bail!("too many PV disks") };
    Ok((letter, XVDA + 16 * index))
}

/// A level as the stub's command line spells it.
fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

/// Bytes of the guest's memory that the stub may map at once: a multiple of what a table maps.
fn window(config: &Config, guest_memory: Option<u64>) -> u64 {
    let bytes = match config.map_window {
        MapWindow::Bytes(bytes) => bytes,
        MapWindow::Auto => guest_memory.unwrap_or(WINDOW_UNKNOWN).min(config.map_window_max),
    };
    bytes.div_ceil(MAPPED_BY_TABLE).max(1) * MAPPED_BY_TABLE
}

#[cfg(test)]
mod tests;
