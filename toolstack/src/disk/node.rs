//! One disk as libxl wrote it: `/local/domain/<owner>/backend/virtio_disk/<guest>/<disk>`.
//!
//! `owner` is dom0, or the stub to which the guest grants its memory. dom0 or that stub owns these nodes,
//! and the guest may only read them. The frontend directory belongs to
//! the guest and is never read.

use anyhow::{Context, Result, bail, ensure};

use crate::text::printable;
use crate::xenstore::Store;
use crate::xenstore::paths::{self, Place};

/// xenbus states as they stand in a `state` node (`public/io/xenbus.h`).
pub mod state {
    /// `XenbusStateInitialising`: libxl has just written the disk and waits.
    pub const INITIALISING: &str = "1";
    /// `XenbusStateInitWait`: what libxl waits for.
    pub const READY: &str = "2";
    /// `XenbusStateClosing`: libxl wants the disk gone.
    pub const CLOSING: &str = "5";
    /// `XenbusStateClosed`: it is.
    pub const CLOSED: &str = "6";
}

/// The first address after libxl's region for virtio-mmio (`GUEST_VIRTIO_MMIO_BASE`, 1 MiB).
const MMIO_END: u64 = 0x0210_0000;
/// Where it begins.
const MMIO_START: u64 = 0x0200_0000;
/// Bytes of one device's registers (`VIRTIO_MMIO_DEV_SIZE`).
const MMIO_SIZE: u64 = 0x200;

/// What the daemon reads each time something changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeState {
    /// The virtual device number, e.g. 51712 for xvda.
    pub disk: u32,
    /// Its `state`, one of [`state`] as a rule.
    pub state: String,
    /// libxl has set `online` to 0.
    pub offline: bool,
}

impl NodeState {
    /// libxl has just written it.
    pub fn is_new(&self) -> bool {
        self.state == state::INITIALISING && !self.offline
    }

    /// libxl wants it closed, or it is closed already.
    pub fn is_closing(&self) -> bool {
        self.offline || self.state == state::CLOSING || self.state == state::CLOSED
    }
}

/// All that the stub must know of a disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DiskNode {
    /// The virtual device number, e.g. 51712 for xvda.
    pub disk: u32,
    /// What the guest's disk line calls it (`vdev`).
    pub name: String,
    /// The path from the guest's disk line.
    pub target: String,
    /// The guest may not write.
    pub read_only: bool,
    /// The guest may discard: tell the storage what it does not need any more.
    pub discard: bool,
    /// Guest physical address of the device's registers.
    pub mmio: u64,
    /// Interrupt number (INTID) of its SPI.
    pub irq: u32,
}

impl DiskNode {
    /// How the disk is called in messages: by its name, with its number.
    pub fn label(&self) -> String {
        labelled(&self.name, &self.disk.to_string())
    }
}

/// How messages call the disk `number` whose backend directory is `dir`.
///
/// # Errors
/// xenstore cannot be read.
pub fn label(store: &dyn Store, dir: &str, number: &str) -> Result<String> {
    Ok(labelled(&store.read(&format!("{dir}/dev"))?.unwrap_or_default(), number))
}

fn labelled(name: &str, number: &str) -> String {
    let (name, number) = (printable(name, 40), printable(number, 40));
    if name.is_empty() || name == number { number } else { format!("{name} ({number})") }
}

/// The states of all disks at `place` that are ours, in order of device number. Nodes without a
/// state are being removed, and left out.
///
/// # Errors
/// xenstore cannot be read.
pub fn states(store: &dyn Store, place: Place) -> Result<Vec<NodeState>> {
    let (mut found, guest) = (Vec::new(), place.guest);
    for name in store.list(&place.dir())? {
        let Ok(disk) = name.parse::<u32>() else {
            log::debug!("guest {guest}: `{}` is not a device number: skipped", printable(&name, 40));
            continue;
        };
        let dir = place.disk(disk);
        let Some(state) = store.read(&format!("{dir}/state"))? else { continue };
        let foreign = foreign(store, &dir)?;
        if let Some(why) = foreign {
            log::debug!("guest {guest}: disk {}: {why}: not ours, skipped", label(store, &dir, &name)?);
            continue;
        }
        let offline = store.read(&format!("{dir}/online"))?.is_some_and(|v| v.trim() == "0");
        found.push(NodeState { disk, state: state.trim().to_owned(), offline });
    }
    found.sort_by_key(|node| node.disk);
    Ok(found)
}

/// Why a node is not ours; `None` if it is.
fn foreign(store: &dyn Store, dir: &str) -> Result<Option<String>> {
    for (key, ours) in [("type", "standalone"), ("specification", "virtio"), ("transport", "mmio")] {
        let value = store.read(&format!("{dir}/{key}"))?.unwrap_or_default();
        if value != ours {
            return Ok(Some(format!("{key} is `{}`", printable(&value, 40))));
        }
    }
    Ok(None)
}

/// Reads the disks named, and compares them with libxl's own copy.
///
/// # Errors
/// One line that names the disk, the key and the value that is wrong.
pub fn read_disks(store: &dyn Store, place: Place, disks: &[u32]) -> Result<Vec<DiskNode>> {
    let nodes: Vec<DiskNode> = disks
        .iter()
        .map(|disk| {
            let label = label(store, &place.disk(*disk), &disk.to_string())?;
            read_disk(store, place, *disk).with_context(|| format!("disk {label}"))
        })
        .collect::<Result<_>>()?;
    // The stub tells disks apart by their registers, the guest by registers and interrupt.
    for (i, a) in nodes.iter().enumerate() {
        if let Some(b) = nodes.iter().skip(i + 1).find(|b| b.mmio == a.mmio || b.irq == a.irq) {
            bail!("disks {} and {} share base {:#x} or irq {}", a.label(), b.label(), a.mmio, a.irq);
        }
    }
    Ok(nodes)
}

fn read_disk(store: &dyn Store, place: Place, disk: u32) -> Result<DiskNode> {
    let keys =
        Keys { store, dir: place.disk(disk), copy: format!("{}/{disk}", paths::libxl_disks(place.guest)) };
    let target = keys.value("params")?;
    let read_only = match keys.value("mode")?.as_str() {
        "r" => true,
        "w" => false,
        other => bail!("mode = `{}`: neither r nor w", printable(other, 40)),
    };
    // libxl tells the guest by this whether to name grants where the stub expects addresses, or the other way
    // round. Xen 4.17 has no such key: there a guest whose backend domain is not dom0 always grants.
    let granted = keys.switch("grant_usage", place.is_granted())?;
    ensure!(
        granted || !place.is_granted(),
        "grant_usage=0: this stub reaches its guest's memory by grants only; remedy: leave grant_usage out"
    );
    ensure!(
        !granted || place.is_granted(),
        "grant_usage=1: a stub maps the guest's memory and serves no grants; remedy: grant_usage=0, or \
         backend=NAME with a name of grant-stubs"
    );
    // libxl's default is 0 where nothing can be written.
    let discard = keys.switch("discard-enable", true)? || read_only;
    let mmio = keys.number("base")?;
    // The stub answers accesses there. Any other address would be RAM or another device of the guest.
    if !(MMIO_START..MMIO_END).contains(&mmio) || mmio % MMIO_SIZE != 0 {
        bail!("base = {mmio:#x}: no virtio-mmio address of libxl's");
    }
    let number = keys.number("irq")?;
    let irq = u32::try_from(number).ok().filter(|irq| (32..1020).contains(irq));
    let irq = irq.with_context(|| format!("irq = {number}: no shared interrupt"))?;
    let name = keys.optional("dev")?.unwrap_or_default();
    Ok(DiskNode { disk, name, target, read_only, discard, mmio, irq })
}

/// The keys of one disk.
struct Keys<'a> {
    store: &'a dyn Store,
    /// The backend directory.
    dir: String,
    /// libxl's own copy of it.
    copy: String,
}

impl Keys<'_> {
    /// A key that not every libxl writes.
    fn optional(&self, key: &str) -> Result<Option<String>> {
        let value = self.store.read(&format!("{}/{key}", self.dir))?;
        let libxl = self.store.read(&format!("{}/{key}", self.copy))?;
        // Where both agree, libxl wrote it: nobody else writes to its copy.
        ensure!(
            libxl == value,
            "{key} = `{}`: libxl's own copy says `{}`",
            printable(value.as_deref().unwrap_or("nothing"), 80),
            printable(libxl.as_deref().unwrap_or("nothing"), 80)
        );
        Ok(value)
    }

    fn value(&self, key: &str) -> Result<String> {
        self.optional(key)?.with_context(|| format!("{key}: missing"))
    }

    fn switch(&self, key: &str, usual: bool) -> Result<bool> {
        match self.optional(key)?.as_deref() {
            None => Ok(usual),
            Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(other) => bail!("{key} = `{}`: neither 0 nor 1", printable(other, 40)),
        }
    }

    fn number(&self, key: &str) -> Result<u64> {
        let text = self.value(key)?;
        let parsed = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        parsed.with_context(|| format!("{key} = `{}`", printable(&text, 40)))
    }
}
