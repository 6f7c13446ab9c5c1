//! A world with a daemon, a bystander and a guest.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::logged;
use super::script::Script;
use super::spy::{Shared, Spy};
use crate::config::{Config, GrantStubEntry};
use crate::daemon::Daemon;
use crate::env::Env;
use crate::fake::World;
use crate::host::Host;
use crate::worker::{Task, perform};
use crate::xenstore::paths::{self, Place};

/// Rounds after which a daemon that is still busy is said to be so for ever.
const ROUNDS: u32 = 60;

pub struct Rig {
    world: World,
    config: Arc<Config>,
    shared: Arc<Mutex<Shared>>,
    daemon: Daemon,
    dir: tempfile::TempDir,
    /// They have a disk each, in dom0 and at a stub of their own.
    bystanders: Vec<Place>,
    /// They are served, and have to be from now on.
    watched: bool,
}

impl Rig {
    /// A daemon that serves two bystanders; nobody is hostile yet.
    pub fn new(script: Script) -> Rig {
        logged::start();
        let waits = |name: &str| GrantStubEntry { name: name.to_owned(), guest: None };
        let config = Config { grant_stubs: vec![waits("one"), waits("two")], ..Config::default_for_tests() };
        let shared = Arc::new(Mutex::new(Shared::new(script, &config)));
        let (world, config) = (World::new(), Arc::new(config));
        let daemon = daemon(&world, &shared, &config);
        let dir = tempfile::tempdir().expect("a directory");
        let mut rig = Rig { world, config, shared, daemon, dir, bystanders: Vec::new(), watched: false };
        rig.settle();
        // In memory: dom0's own devices need not be looked at for it.
        let disk = rig.disk_file("by.pilotfish", b"storage = \"ram\"\nsize = \"1MiB\"");
        rig.bystanders.push(rig.guest(false, &[&disk]));
        // Its stub has the number after that of the guest's, so the guest's is found first.
        let owner = rig.waiting("two");
        rig.bystanders.push(rig.world.xl_create_granted(owner, &[&disk]));
        rig.settle();
        rig.watched = true;
        rig
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on others write, or not.
    pub fn hostile(&self, hostile: bool) {
        self.with(|shared| shared.hostile = hostile);
    }

    /// The path of an image of that name; where no file can be called so, of none.
    pub fn image(&self, name: &str) -> String {
        self.file(name, &[0; 512])
    }

    /// dom0 names that path.
    pub fn name(&self, path: &str) {
        self.with(|shared| shared.named.insert(path.to_owned()));
    }

    /// The path of a disk file. What it names is named by dom0.
    pub fn disk_file(&self, name: &str, content: &[u8]) -> String {
        let table = str::from_utf8(content).ok().and_then(|text| text.parse::<toml::Table>().ok());
        if let Some(target) = table.as_ref().and_then(|table| table.get("target")?.as_str()) {
            self.name(target);
        }
        self.file(name, content)
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.path().join(Path::new(name).file_name().unwrap_or_default());
        // A name may be too long, or none at all.
        let _ = fs::write(&path, content);
        let path = path.to_string_lossy().into_owned();
        self.name(&path);
        path
    }

    /// The stub that waits under that name.
    fn waiting(&self, name: &str) -> u16 {
        let stubs = self.world.stubs();
        stubs.iter().find(|(_, stub)| stub.name == name).map(|(domid, _)| *domid).expect("a stub waits")
    }

    /// libxl makes a guest with these disks.
    pub fn guest(&self, granted: bool, targets: &[&str]) -> Place {
        let place = if granted {
            self.world.xl_create_granted(self.waiting("one"), targets)
        } else {
            Place::dom0(self.world.xl_create(targets))
        };
        self.with(|shared| (shared.guest, shared.owner) = (place.guest, place.owner));
        place
    }

    /// What the guest's disk line calls its first disk.
    pub fn call_disk(&self, place: Place, vdev: &str) {
        for dir in [place.disk(51712), format!("{}/51712", paths::libxl_disks(place.guest))] {
            self.world.set(&format!("{dir}/dev"), vdev);
        }
    }

    /// Another daemon takes over.
    pub fn restart(&mut self) {
        self.world.next_process();
        self.daemon = daemon(&self.world, &self.shared, &self.config);
    }

    fn spy(&self) -> Spy {
        Spy { world: self.world.clone(), inner: self.world.store(), shared: Arc::clone(&self.shared) }
    }

    /// Lets the daemon work until it has nothing to do.
    pub fn settle(&mut self) {
        let (spy, host) = (self.spy(), self.world.host());
        for _ in 0..ROUNDS {
            let mut tasks: VecDeque<Task> = self.daemon.reconcile_all().into();
            tasks.extend(self.daemon.reconcile_due(host.now()));
            let mut idle = tasks.is_empty();
            let env = Env { config: &self.config, store: &spy, host: &host };
            while let Some(task) = tasks.pop_front() {
                tasks.extend(self.daemon.finish(perform(&env, &task)));
            }
            if let Some(at) = self.daemon.wake_at() {
                self.world.advance(at.saturating_duration_since(host.now()));
                idle = false;
            }
            for bystander in &self.bystanders {
                assert!(!self.watched || self.is_served(*bystander), "bystander {bystander:?} is not served");
            }
            if idle {
                return;
            }
        }
    }

    /// Whether a guest's disks are there and all of them served, by a stub that runs.
    pub fn is_served(&self, place: Place) -> bool {
        let states = self.world.disk_states_at(place);
        let stubs = self.world.stubs();
        let runs = stubs.iter().any(|(_, stub)| stub.target == Some(place.guest) && !stub.paused);
        runs && !states.is_empty() && states.iter().all(|state| state == "2")
    }

    /// The guest goes. Nothing of it may be left.
    pub fn end(mut self, place: Place) {
        self.world.xl_destroy_at(place);
        self.settle();
        // libxl gives up after a while.
        self.world.clear(&place.dir());
        self.world.clear(&format!("/libxl/{}", place.guest));
        self.world.clear(&paths::domain(place.guest));
        self.world.state().domains.remove(&place.guest);
        self.settle();
        let stubs = self.world.stubs();
        let left: Vec<u16> =
            stubs.iter().filter(|(_, s)| s.target == Some(place.guest)).map(|(domid, _)| *domid).collect();
        assert!(left.is_empty(), "stubs {left:?} of guest {} are left", place.guest);
        let record = paths::record(place.guest);
        let nodes: Vec<String> =
            self.world.state().nodes.keys().filter(|path| path.starts_with(&record)).cloned().collect();
        assert!(nodes.is_empty(), "{nodes:?} are left");
        assert!(logged::seen() > 0, "nothing of the log was seen");
    }
}

fn daemon(world: &World, shared: &Arc<Mutex<Shared>>, config: &Config) -> Daemon {
    let spy = Spy { world: world.clone(), inner: world.store(), shared: Arc::clone(shared) };
    let daemon = Daemon::new(config, Arc::new(spy), Arc::new(world.host()));
    daemon.unwrap_or_else(|error| panic!("no daemon: {error:#}"))
}
