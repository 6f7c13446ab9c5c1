//! The stub domain that a guest's disks need: its memory, command line and PV disks, and the
//! xl configuration that says so.

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};
use bytesize::ByteSize;

use crate::config::{BlockScript, Config, Level, OnStubCrash, fit_for_xl};
use crate::disk::file::DiskStorage;
use crate::disk::target::Disk;
use crate::identity::Identity;

/// xvda as a virtual device number (block major 202); 16 minors to a disk.
const XVDA: u32 = 202 << 8;
/// Disks of a stub beyond this would need another numbering; libxl's interrupts end at 11.
const DISKS_MAX: usize = 16;
/// The stub's own default, which need not be said: a command line has an end.
const STUB_BACKEND_TIMEOUT_MS: u64 = 60_000;
/// How often a stub may be restarted in the time that it counts over (10 minutes).
const RESTARTS: u32 = 3;
/// Bytes of guest memory that one 4 KiB page table of the stub maps.
const MAPPED_BY_TABLE: u64 = 2 << 20;

/// What each PV disk but the first adds to `stub-memory`, and all of them at most: their bounce
/// pages and tables, twice if the stub may restart in place. More disks share the same pages.
const PV_DISK_BYTES: u64 = 4 << 20;
const PV_DISKS_BYTES_MAX: u64 = 8 << 20;

/// A stub domain to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Whose it is, and its name and UUID.
    pub identity: Identity,
    /// The virtual device numbers it serves.
    pub disks: Vec<u32>,
    /// The stub's command line.
    pub command_line: String,
    /// The complete xl configuration.
    pub xl_config: String,
    /// Why the stub will not be restarted although the configuration asks for it.
    pub no_restart: Option<String>,
}

impl Plan {
    /// Lays out a stub for `disks`.
    ///
    /// # Errors
    /// More disks or RAM disks than allowed.
    pub fn new(config: &Config, identity: Identity, disks: &[Disk]) -> Result<Plan> {
        ensure!(
            !disks.is_empty() && disks.len() <= DISKS_MAX,
            "{} disks: 1 to {DISKS_MAX} can be served",
            disks.len()
        );
        let mut ram: u64 = 0;
        let mut words = vec![format!("target={}", identity.guest)];
        let mut vbds = Vec::new();
        for disk in disks {
            let store = match &disk.storage {
                DiskStorage::Ram(bytes) => {
                    ram = ram.saturating_add(*bytes);
                    format!("ram:{bytes}")
                }
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
            };
            words.push(disk_word(config, disk, &store));
        }
        if ram > config.ram_disk_limit {
            bail!(
                "RAM disks of {} in all: ram-disk-limit = \"{}\"",
                ByteSize(ram),
                ByteSize(config.ram_disk_limit)
            );
        }
        words.push(format!("log={}", level_word(config.stub_log)));
        words.push(format!("poll-us={}", config.poll_us));
        let mut no_restart = None;
        if config.on_stub_crash == OnStubCrash::Restart {
            match disks.iter().find(|disk| matches!(disk.storage, DiskStorage::Ram(_))) {
                None => words.push(format!("restarts={RESTARTS}")),
                Some(disk) => {
                    no_restart = Some(format!("disk {} is in the stub's own memory", disk.node.label()));
                }
            }
        }
        let command_line = words.join(" ");
        let further = u64::try_from(vbds.len().saturating_sub(1))?;
        let pv = further.saturating_mul(PV_DISK_BYTES).min(PV_DISKS_BYTES_MAX);
        let memory = config.stub_memory.saturating_add(pv).saturating_add(ram).div_ceil(1 << 20);
        let xl_config = xl_config(config, &identity, memory, &command_line, &vbds);
        let disks = disks.iter().map(|d| d.node.disk).collect();
        Ok(Plan { identity, disks, command_line, xl_config, no_restart })
    }
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
    let timeout_ms = disk.backend_timeout_ms.unwrap_or(config.backend_timeout_ms);
    if timeout_ms != STUB_BACKEND_TIMEOUT_MS && matches!(disk.storage, DiskStorage::Pv { .. }) {
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

/// MiB of paging memory for a stub of `memory` MiB that maps `window` bytes of its guest:
/// libxl's own rule for one vCPU (4 KiB for each MiB, 256 + 128 pages more) and the tables of
/// the window.
fn shadow_memory(memory: u64, window: u64) -> u64 {
    let pages = memory + 256 + 128 + window.div_ceil(MAPPED_BY_TABLE);
    (pages * 4).div_ceil(1024)
}

/// Values that reach this text were checked to hold no quotes or control characters.
fn xl_config(
    config: &Config,
    identity: &Identity,
    memory: u64,
    command_line: &str,
    vbds: &[String],
) -> String {
    let mut text = format!(
        "name = \"{}\"\nuuid = \"{}\"\ntype = \"pvh\"\nkernel = \"{}\"\ncmdline = \"{command_line}\"\n\
         memory = {memory}\nmaxmem = {memory}\nvcpus = 1\n",
        identity.name(),
        identity.uuid,
        config.stub_image.display(),
    );
    // Nobody but the daemon acts on the stub's end: what is left of it stays for inspection.
    for event in ["poweroff", "reboot", "crash", "watchdog"] {
        let _ = writeln!(text, "on_{event} = \"preserve\"");
    }
    if config.map_window > 0 {
        let _ = writeln!(text, "shadow_memory = {}", shadow_memory(memory, config.map_window));
    }
    if !config.stub_seclabel.is_empty() {
        let _ = writeln!(text, "seclabel = \"{}\"", config.stub_seclabel);
    }
    if !vbds.is_empty() {
        let quoted: Vec<String> = vbds.iter().map(|v| format!("\"{v}\"")).collect();
        let _ = writeln!(text, "disk = [ {} ]", quoted.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::DiskNode;

    fn disk(n: u32, storage: DiskStorage, read_only: bool, serial: Option<&str>) -> Disk {
        let node = DiskNode {
            disk: 51712 + 16 * n,
            name: format!("xvd{}", char::from(b'a' + u8::try_from(n).unwrap())),
            target: String::new(),
            read_only,
            discard: true,
            mmio: 0x0200_0000 + 0x200 * u64::from(n),
            irq: 33 + n,
        };
        Disk { node, storage, serial: serial.map(str::to_owned), backend_timeout_ms: None }
    }

    fn here(target: &str) -> DiskStorage {
        DiskStorage::Pv { target: target.to_owned(), backend: None }
    }

    fn identity() -> Identity {
        Identity { guest: 5, uuid: "70696c6f-7466-8000-8000-000500000000".to_owned() }
    }

    #[test]
    fn the_command_line_is_the_one_the_image_parses() {
        let disks = [
            disk(0, here("/a.img"), false, None),
            disk(1, DiskStorage::Ram(8 << 20), false, Some("swap")),
            disk(2, here("/b,c.img"), true, None),
        ];
        let config = Config { block_script: BlockScript::Xen, ..Config::default_for_tests() };
        let plan = Plan::new(&config, identity(), &disks).unwrap();
        assert_eq!(
            plan.command_line,
            "target=5 disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=pv:51712 \
             disk=id=51728,mmio=0x2000200,irq=34,mode=rw,store=ram:8388608,serial=swap \
             disk=id=51744,mmio=0x2000400,irq=35,mode=ro,store=pv:51728 log=info poll-us=1500"
        );
        assert_eq!(plan.disks, [51712, 51728, 51744]);
        assert!(plan.xl_config.contains("memory = 20\n"), "{}", plan.xl_config);
        assert!(plan.xl_config.contains(
            "disk = [ \"vdev=xvda,format=raw,backendtype=phy,access=rw,target=/a.img\", \
             \"vdev=xvdb,format=raw,backendtype=phy,access=ro,target=/b,c.img\" ]\n"
        ));
        assert!(!plan.xl_config.contains("shadow_memory"));
        let plan = Plan::new(&Config::default_for_tests(), identity(), &disks).unwrap();
        let script = format!("script={},access=rw,target=/a.img", std::env::current_exe().unwrap().display());
        assert!(plan.xl_config.contains(&script), "{}", plan.xl_config);
    }

    #[test]
    fn a_driver_domains_disk_names_the_domain_and_no_script() {
        let storage = DiskStorage::Pv { target: "/dev/vdb".into(), backend: Some("store".into()) };
        let disks = [disk(0, storage, false, None)];
        let plan = Plan::new(&Config::default_for_tests(), identity(), &disks).unwrap();
        let expected = "\"vdev=xvda,format=raw,backendtype=phy,backend=store,access=rw,target=/dev/vdb\"";
        assert!(plan.xl_config.contains(expected), "{}", plan.xl_config);
    }

    #[test]
    fn a_disk_that_must_not_discard_says_so_to_stub_and_backend() {
        let mut disks = [
            disk(0, here("/a.img"), false, None),
            disk(1, here("/b.img"), false, None),
            disk(2, DiskStorage::Ram(4096), false, None),
        ];
        disks[1].node.discard = false;
        disks[2].node.discard = false;
        let plan = Plan::new(&Config::default_for_tests(), identity(), &disks).unwrap();
        let words: Vec<bool> = plan
            .command_line
            .split(' ')
            .filter(|word| word.starts_with("disk="))
            .map(|word| word.contains(",discard=off"))
            .collect();
        assert_eq!(words, [false, true, true]);
        assert!(plan.xl_config.contains(",access=rw,target=/a.img\""), "{}", plan.xl_config);
        assert!(plan.xl_config.contains(",no-discard,access=rw,target=/b.img\""), "{}", plan.xl_config);
    }

    #[test]
    fn the_time_to_wait_for_a_backend_is_said_where_it_is_not_the_stubs_own() {
        let mut disks = [
            disk(0, here("/a.img"), false, None),
            disk(1, DiskStorage::Ram(4096), false, None),
            disk(2, here("/b.img"), false, Some("x")),
        ];
        disks[2].backend_timeout_ms = Some(0);
        let line = |ms, disks: &[Disk]| {
            let config = Config { backend_timeout_ms: ms, ..Config::default_for_tests() };
            Plan::new(&config, identity(), disks).unwrap().command_line
        };
        assert!(!line(60_000, &disks[..2]).contains("backend-timeout"));
        let line = line(5000, &disks);
        assert!(line.contains(",store=pv:51712,backend-timeout-ms=5000 "), "{line}");
        assert!(line.contains(",store=ram:4096 "), "{line}");
        assert!(line.contains(",serial=x,backend-timeout-ms=0 "), "{line}");
    }

    #[test]
    fn only_a_stub_without_ram_disks_may_restart() {
        let config = Config { on_stub_crash: OnStubCrash::Restart, ..Config::default_for_tests() };
        let pv = disk(0, here("/a.img"), false, None);
        let plan = Plan::new(&config, identity(), std::slice::from_ref(&pv)).unwrap();
        assert!(plan.command_line.ends_with(" restarts=3") && plan.no_restart.is_none());
        let ram = disk(1, DiskStorage::Ram(4096), false, None);
        let plan = Plan::new(&config, identity(), &[pv.clone(), ram]).unwrap();
        assert!(!plan.command_line.contains("restarts"), "{}", plan.command_line);
        assert!(plan.no_restart.unwrap().contains("51728"));
        let plan = Plan::new(&Config::default_for_tests(), identity(), &[pv]).unwrap();
        assert!(!plan.command_line.contains("restarts"));
    }

    #[test]
    fn memory_grows_with_the_pv_disks_up_to_a_limit() {
        for (disks, mib) in [(1, 8), (2, 12), (3, 16), (11, 16)] {
            let disks: Vec<Disk> = (0..disks).map(|n| disk(n, here("/a.img"), false, None)).collect();
            let plan = Plan::new(&Config::default_for_tests(), identity(), &disks).unwrap();
            assert!(plan.xl_config.contains(&format!("memory = {mib}\nmaxmem = {mib}\n")));
        }
    }

    #[test]
    fn a_map_window_asks_for_its_page_tables() {
        // libxl's default for 16 MiB is 400 pages, and 16 fewer for 8 MiB; 4 GiB of guest need 2048 tables more.
        assert_eq!(shadow_memory(16, 0), 2);
        assert_eq!(shadow_memory(16, 4 << 30), 10);
        let config = Config { map_window: 4 << 30, ..Config::default_for_tests() };
        let plan = Plan::new(&config, identity(), &[disk(0, DiskStorage::Ram(4096), false, None)]).unwrap();
        assert!(plan.xl_config.contains("memory = 9\n") && plan.xl_config.contains("shadow_memory = 10\n"));
        assert!(!plan.xl_config.contains("disk ="));
    }

    #[test]
    fn too_much_ram_and_too_many_disks_are_refused() {
        let big = disk(0, DiskStorage::Ram(u64::MAX - 4095), false, None);
        let error = Plan::new(&Config::default_for_tests(), identity(), &[big.clone(), big]).unwrap_err();
        assert!(error.to_string().contains("ram-disk-limit"), "{error}");
        let many: Vec<Disk> = (0..17).map(|n| disk(n, DiskStorage::Ram(4096), false, None)).collect();
        assert!(Plan::new(&Config::default_for_tests(), identity(), &many).is_err());
        assert!(Plan::new(&Config::default_for_tests(), identity(), &[]).is_err());
    }
}
