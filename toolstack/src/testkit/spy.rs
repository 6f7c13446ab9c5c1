//! Stands between the daemon and xenstore: lets others write before each of its requests, and looks at what it writes
//! and at the stubs there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use super::script::Script;
use super::xl_text;
use crate::config::Config;
use crate::fake::{Domain, Handle, World};
use crate::stub::identity::Identity;
use crate::xenstore::Store;
use crate::xenstore::paths;

/// What the spies of all daemons of a world share.
pub struct Shared {
    pub script: Script,
    /// Whether others write.
    pub hostile: bool,
    /// Requests until they do.
    countdown: usize,
    /// The paths that dom0 named in disk lines and disk files.
    pub named: BTreeSet<String>,
    /// Stubs that were judged, with their target and how many disks had been attached to them later.
    judged: BTreeMap<u16, (Option<u16>, usize)>,
    /// The images of stubs.
    images: [String; 2],
    /// Who attacks: its guest, by number.
    pub guest: u16,
    /// The stub that serves it, in mode B: the owner of its backend directories.
    pub owner: u16,
}

/// One daemon's way to xenstore.
#[derive(Clone)]
pub struct Spy {
    pub world: World,
    pub inner: Handle,
    pub shared: Arc<Mutex<Shared>>,
}

impl Shared {
    pub fn new(script: Script, config: &Config) -> Shared {
        Shared {
            script,
            hostile: false,
            countdown: 0,
            named: BTreeSet::new(),
            judged: BTreeMap::new(),
            images: [&config.stub_image, &config.stub_net_image].map(|path| path.display().to_string()),
            guest: 0,
            owner: 0,
        }
    }
}

/// The keys of a disk in a backend directory, as libxl names them.
const KEYS: [&str; 14] = [
    "state",
    "online",
    "params",
    "dev",
    "type",
    "mode",
    "specification",
    "transport",
    "base",
    "irq",
    "grant_usage",
    "discard-enable",
    "frontend",
    "x",
];
/// What a stub writes about itself, and more.
const SAYS: [&str; 8] = ["state", "error", "restarts", "last_panic", "ready_us", "stats", "config", "ask"];

impl Spy {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before each request.
    fn turn(&self) {
        let mut shared = self.shared();
        let running = self.look(&mut shared);
        if !shared.hostile || shared.script.is_over() {
            return;
        }
        if shared.countdown > 0 {
            shared.countdown -= 1;
            return;
        }
        shared.countdown = shared.script.below(16);
        let path = match running {
            Some(stub) if shared.script.below(4) != 0 => of_stub(&mut shared, stub),
            _ => of_guest(&mut shared),
        };
        if shared.script.below(6) == 0 {
            self.world.clear(&path);
        } else {
            let value = shared.script.text();
            self.world.set(&path, &value);
        }
    }

    /// Judges the stubs that are new or have changed; returns that of the guest, if it runs.
    fn look(&self, shared: &mut Shared) -> Option<u16> {
        let mut running = None;
        for (domid, stub) in &self.world.state().domains {
            let now = (stub.target, stub.attached.len());
            if stub.config.is_some() && shared.judged.get(domid) != Some(&now) {
                judge(shared, *domid, stub);
                shared.judged.insert(*domid, now);
            }
            if stub.target == Some(shared.guest) && !stub.paused {
                running = Some(*domid);
            }
        }
        running
    }

    /// Whether the daemon may write there.
    fn judge_write(&self, path: &str, value: &str) {
        let may = path.starts_with(&format!("{}/", paths::RECORDS))
            || path.starts_with("/local/domain/") && path.contains("/backend/virtio_disk/")
            || path.starts_with("/local/domain/") && path.contains("/pilotfish-tls")
            || path.starts_with("/local/domain/")
                && [
                    "/data/pilotfish/config",
                    "/data/pilotfish/ask",
                    "/pilotfish-waits",
                    "/pilotfish-net-seed",
                ]
                .iter()
                .any(|own| path.ends_with(own));
        assert!(may && !path.contains("..") && !path.contains("//"), "the daemon writes {path:?}");
        assert!(!value.chars().any(char::is_control), "{value:?} to {path}");
        if path.ends_with("/data/pilotfish/config") {
            judge_words(value);
        }
    }
}

/// A node of the guest.
fn of_guest(shared: &mut Shared) -> String {
    let dir = paths::domain(shared.guest);
    match shared.script.below(3) {
        0 => format!("{dir}/data/pilotfish/{}", shared.script.choose(&SAYS)),
        1 => format!("{dir}/control/{}", shared.script.choose(&KEYS)),
        _ => format!("{dir}/device/virtio_disk/51712/{}", shared.script.choose(&KEYS)),
    }
}

/// A node of the stub. In mode B it owns the backend directories of its guest's disks. Xen's own tools make it owner
/// of no more than each disk's directory; here it writes beside them as well.
fn of_stub(shared: &mut Shared, stub: u16) -> String {
    let dir = paths::domain(stub);
    let choices = if shared.owner == stub { 4 } else { 2 };
    match shared.script.below(choices) {
        0 => format!("{dir}/data/pilotfish/{}", shared.script.choose(&SAYS)),
        1 => format!("{dir}/device/vbd/51712/{}", shared.script.choose(&KEYS)),
        2 => {
            let disk = shared.script.choose(&[51712, 51728]);
            format!("{dir}/backend/virtio_disk/{}/{disk}/{}", shared.guest, shared.script.choose(&KEYS))
        }
        _ => {
            let whose = shared.script.choose(&["0", "1", "2", "3", "4", "5", "6", "+5", "65536", "x"]);
            let disk = shared.script.choose(&["51712", "51728", "+51712", "7", "x"]);
            format!("{dir}/backend/virtio_disk/{whose}/{disk}/{}", shared.script.choose(&KEYS))
        }
    }
}

/// Whether a stub's command line has the words that the daemon means, and no more.
fn judge_words(line: &str) {
    for word in line.split(' ') {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{word:?} in {line:?}"));
        let known = ["target", "log", "poll-us", "map-mib", "grants", "restarts", "net", "config", "disk"];
        assert!(known.contains(&key), "{word:?} in {line:?}");
        let mut seen = BTreeSet::new();
        for part in value.split(',').filter(|_| key == "disk") {
            let (key, _) = part.split_once('=').unwrap_or_else(|| panic!("{part:?} in {line:?}"));
            let known =
                ["id", "mmio", "irq", "mode", "store", "discard", "serial", "backend-timeout-ms", "tls"];
            assert!(known.contains(&key) && seen.insert(key), "{part:?} in {line:?}");
        }
    }
}

/// Whether a stub is what dom0 wanted.
fn judge(shared: &Shared, domid: u16, stub: &Domain) {
    let Some(text) = &stub.config else { return };
    let config = xl_text::read(text);
    let one = |key: &str| config.get(key).map(Vec::as_slice);
    let image = one("kernel").unwrap_or_default();
    assert!(matches!(image, [path] if shared.images.iter().any(|known| known == path)), "{text}");
    one("cmdline").unwrap_or_default().iter().for_each(|line| judge_words(line));
    assert_eq!(one("type"), Some(&["pvh"][..]), "{text}");
    let known = [
        "name",
        "uuid",
        "type",
        "kernel",
        "cmdline",
        "memory",
        "maxmem",
        "vcpus",
        "on_poweroff",
        "on_reboot",
        "on_crash",
        "on_watchdog",
        "shadow_memory",
        "disk",
        "vif",
    ];
    assert!(config.keys().all(|key| known.contains(key)), "{text}");
    let disks =
        one("disk").unwrap_or_default().iter().copied().chain(stub.attached.iter().map(String::as_str));
    for disk in disks {
        let (_, target) = disk.split_once(",target=").unwrap_or_else(|| panic!("no target: {disk:?}"));
        assert!(shared.named.contains(target), "nobody named {target:?}: {disk}");
    }
    if let Some(guest) = stub.target {
        let ours = Identity::of(&stub.handle).is_some_and(|id| id.guest == guest || id.guest == 0);
        assert!(ours, "domain {domid} has guest {guest}");
    }
}

impl Store for Spy {
    fn watch(&self, path: &str) -> Result<()> {
        self.inner.watch(path)
    }

    fn unwatch(&self, path: &str) -> Result<()> {
        self.inner.unwatch(path)
    }

    fn read(&self, path: &str) -> Result<Option<String>> {
        self.turn();
        self.inner.read(path)
    }

    fn list(&self, path: &str) -> Result<Vec<String>> {
        self.turn();
        self.inner.list(path)
    }

    fn write(&self, path: &str, value: &str) -> Result<()> {
        self.turn();
        self.judge_write(path, value);
        self.inner.write(path, value)
    }

    fn write_for(&self, reader: u16, path: &str, value: &str) -> Result<()> {
        self.turn();
        self.judge_write(path, "");
        self.inner.write_for(reader, path, value)
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.turn();
        self.judge_write(path, "");
        self.inner.remove(path)
    }

    fn remove_if_empty(&self, path: &str) -> Result<bool> {
        self.turn();
        self.judge_write(path, "");
        self.inner.remove_if_empty(path)
    }

    fn write_if(&self, guard: (&str, &str), nodes: &[(&str, &str)]) -> Result<bool> {
        self.turn();
        nodes.iter().for_each(|(path, value)| self.judge_write(path, value));
        self.inner.write_if(guard, nodes)
    }

    fn update(&self, path: &str, new: &dyn Fn(&str) -> Option<&'static str>) -> Result<bool> {
        self.turn();
        self.judge_write(path, "");
        self.inner.update(path, new)
    }
}
