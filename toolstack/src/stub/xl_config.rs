//! The xl configuration of a stub domain.

use std::fmt::Write as _;
use std::path::Path;

use super::identity::Identity;
use crate::config::Config;

/// Bytes of guest memory that one 4 KiB page table of the stub maps. A guest's RAM has at most two
/// banks, and the first is full (3 GiB) if there is a second, so that no table is shared or split.
pub const MAPPED_BY_TABLE: u64 = 2 << 20;

/// The command line of a stub whose configuration is in xenstore.
const CONFIG_IN_STORE: &str = "config=xenstore";

/// What tells one stub domain from another.
pub struct Domain<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its UUID.
    pub uuid: &'a str,
    /// Its RAM, in MiB.
    pub memory_mib: u64,
    /// Bytes of its guest's memory that it may map at once.
    pub window: u64,
    /// Its command line.
    pub command_line: &'a str,
    /// Its PV disks, each as xl writes a disk.
    pub vbds: &'a [String],
    /// What it boots.
    pub image: &'a Path,
    /// Its network interface, as xl writes one.
    pub vif: Option<String>,
}

/// The xl configuration of a stub that is to wait for a guest under the name `name`. Which disks it gets is not
/// known yet.
#[must_use]
pub fn waiting(config: &Config, identity: &Identity, name: &str) -> String {
    let memory_mib = config.grant_stub_memory.div_ceil(1 << 20);
    let command_line = CONFIG_IN_STORE;
    let (uuid, image) = (&identity.uuid, &config.stub_image);
    text(config, &Domain { name, uuid, memory_mib, window: 0, command_line, vbds: &[], image, vif: None })
}

/// The xl configuration. Values that reach this text were checked to hold no quotes or control characters.
#[must_use]
pub fn text(config: &Config, domain: &Domain<'_>) -> String {
    let Domain { name, uuid, memory_mib, window, command_line, vbds, image, vif } = domain;
    let mut text = format!(
        "name = \"{name}\"\nuuid = \"{uuid}\"\ntype = \"pvh\"\nkernel = \"{}\"\ncmdline = \"{command_line}\"\n\
         memory = {memory_mib}\nmaxmem = {memory_mib}\nvcpus = 1\n",
        image.display(),
    );
    // Nobody but the daemon acts on the stub's end: what is left of it stays for inspection.
    for event in ["poweroff", "reboot", "crash", "watchdog"] {
        let _ = writeln!(text, "on_{event} = \"preserve\"");
    }
    let _ = writeln!(text, "shadow_memory = {}", shadow_memory(*memory_mib, *window));
    if !config.stub_seclabel.is_empty() {
        let _ = writeln!(text, "seclabel = \"{}\"", config.stub_seclabel);
    }
    if !vbds.is_empty() {
        let quoted: Vec<String> = vbds.iter().map(|v| format!("\"{v}\"")).collect();
        let _ = writeln!(text, "disk = [ {} ]", quoted.join(", "));
    }
    if let Some(vif) = vif {
        let _ = writeln!(text, "vif = [ \"{vif}\" ]");
    }
    text
}

/// MiB of paging memory for a stub of `memory` MiB that maps `window` bytes of its guest:
/// libxl's own rule for one vCPU (4 KiB for each MiB, 256 + 128 pages more) and the tables of
/// the window.
fn shadow_memory(memory: u64, window: u64) -> u64 {
    let pages = memory + 256 + 128 + window.div_ceil(MAPPED_BY_TABLE);
    (pages * 4).div_ceil(1024)
}
