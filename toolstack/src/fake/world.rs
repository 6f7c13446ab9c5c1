//! What exists: domains and xenstore's nodes; and what libxl does to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::host::Claims;
use crate::xenstore::paths::{self, Place};

/// How a stub behaves once it runs.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Says `serving`.
    Serves,
    /// Says nothing.
    Silent,
    /// Says that it waits for this.
    Waits(String),
    /// Says `failed` and this reason.
    Fails(String),
    /// Says this instead of a state.
    Says(String),
    /// Crashes at once.
    Crashes,
}

/// A domain.
#[derive(Clone, Debug)]
pub struct Domain {
    pub name: String,
    pub paused: bool,
    pub shutdown: Option<u8>,
    pub target: Option<u16>,
    /// Its FLASK label.
    pub label: Option<String>,
    /// Xen is about to free it.
    pub dying: bool,
    /// Its UUID.
    pub handle: [u8; 16],
    /// Its stub configuration, if the daemon made it.
    pub config: Option<String>,
    /// PV disks that were attached to it later.
    pub attached: Vec<String>,
}

/// What a UUID's text says, in bytes.
pub fn handle_of(uuid: &str) -> [u8; 16] {
    let digits = uuid.replace('-', "");
    std::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
}

pub type Hook = Box<dyn FnOnce(&World) + Send>;

/// The state of the world.
pub struct State {
    pub nodes: BTreeMap<String, String>,
    /// Who else than dom0 can read a node, of those for which that was said.
    pub readers: BTreeMap<String, u16>,
    pub domains: BTreeMap<u16, Domain>,
    pub manner: Manner,
    /// Whether `xl create` and `xl destroy` work.
    pub create_works: bool,
    pub destroy_works: bool,
    /// `xl create` is killed between making a domain and naming it.
    pub xl_is_killed: bool,
    /// The next `xl destroy` is killed between taking the name away and destroying the domain.
    pub destroy_ends_halfway: bool,
    /// A killed daemon's `xl create` goes on: its domain appears when this is let go.
    pub orphan: Option<(u16, String, String)>,
    pub(super) next_domid: u16,
    pub(super) now: Instant,
    /// Changes until the current daemon dies; the last change is made.
    pub kill_in: Option<u32>,
    pub(super) process: u32,
    pub changes: u32,
    /// Records of loop devices that were detached.
    pub detached: Vec<String>,
    pub(super) after_create: Option<Hook>,
    /// Runs once, before the next stub is made.
    pub before_create: Option<Hook>,
    /// Runs once, before somebody gets the hotplug lock.
    pub before_lock: Option<Hook>,
    /// What the FLASK policy lacks, by class and permission.
    pub denied: Vec<(u16, u8)>,
    /// Xen has labels: dom0 has one.
    pub flask: bool,
    /// No domain gets another label.
    pub relabel_fails: bool,
    /// A label that the policy does not know.
    pub unknown_label: Option<String>,
    /// The policy is not enforced.
    pub permissive: bool,
    /// Why no stub gets a network interface.
    pub no_network: Option<String>,
    /// What dom0 finds names to stand for.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Addresses of stubs that are being made.
    pub claims: Claims,
    /// Stub domains that existed at once for one guest, at most.
    pub most_stubs: usize,
}

/// The world.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

impl World {
    pub fn new() -> World {
        World(Arc::new(Mutex::new(State {
            nodes: BTreeMap::new(),
            readers: BTreeMap::new(),
            domains: BTreeMap::new(),
            manner: Manner::Serves,
            create_works: true,
            destroy_works: true,
            xl_is_killed: false,
            destroy_ends_halfway: false,
            orphan: None,
            next_domid: 1,
            now: Instant::now(),
            kill_in: None,
            process: 0,
            changes: 0,
            detached: Vec::new(),
            after_create: None,
            before_create: None,
            before_lock: None,
            denied: Vec::new(),
            flask: false,
            relabel_fails: false,
            unknown_label: None,
            permissive: false,
            no_network: None,
            names: BTreeMap::new(),
            claims: Claims::default(),
            most_stubs: 0,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The current daemon dies with its change number `n` from now, counted from 0.
    pub fn kill_after(&self, n: u32) {
        self.state().kill_in = Some(n);
    }

    /// A new daemon's turn: the handles of the one before are dead.
    pub fn next_process(&self) {
        let mut state = self.state();
        state.process += 1;
        state.kill_in = None;
    }

    /// Runs once, when the next stub has been made.
    pub fn after_create(&self, hook: impl FnOnce(&World) + Send + 'static) {
        self.state().after_create = Some(Box::new(hook));
    }

    pub fn advance(&self, time: Duration) {
        self.state().now += time;
    }

    pub fn get(&self, path: &str) -> Option<String> {
        self.state().nodes.get(path).cloned()
    }

    pub fn set(&self, path: &str, value: &str) {
        self.state().nodes.insert(path.to_owned(), value.to_owned());
    }

    pub fn clear(&self, path: &str) {
        self.state().clear(path);
    }

    /// libxl builds a guest and adds its disks; returns its domain id.
    pub fn xl_create(&self, targets: &[&str]) -> u16 {
        let guest = self.state().add_domain("guest", true);
        self.set(&paths::memory_max(guest), "196608");
        for (i, target) in targets.iter().enumerate() {
            self.add_disk(guest, u32::try_from(i).unwrap(), target);
        }
        guest
    }

    /// libxl builds a guest whose disks have `owner` as their backend domain.
    pub fn xl_create_granted(&self, owner: u16, targets: &[&str]) -> Place {
        let guest = self.state().add_domain("guest", true);
        let place = Place { owner, guest };
        for (i, target) in targets.iter().enumerate() {
            self.add_disk_at(place, u32::try_from(i).unwrap(), target);
        }
        place
    }

    /// libxl adds a guest's disk `n`.
    pub fn add_disk(&self, guest: u16, n: u32, target: &str) {
        self.add_disk_at(Place::dom0(guest), n, target);
    }

    /// The same, wherever its backend directory is.
    pub fn add_disk_at(&self, place: Place, n: u32, target: &str) {
        let (disk, guest) = (51712 + 16 * n, place.guest);
        let dir = place.disk(disk);
        for (key, value) in [
            ("params", target.to_owned()),
            ("dev", format!("xvd{}", char::from(b'a' + u8::try_from(n).unwrap()))),
            ("discard-enable", "1".to_owned()),
            ("grant_usage", u8::from(place.is_granted()).to_string()),
            ("online", "1".to_owned()),
            ("state", "1".to_owned()),
            ("type", "standalone".to_owned()),
            ("mode", "w".to_owned()),
            ("specification", "virtio".to_owned()),
            ("transport", "mmio".to_owned()),
            ("base", (0x0200_0000 + 0x200 * u64::from(n)).to_string()),
            ("irq", (33 + n).to_string()),
        ] {
            self.set(&format!("{dir}/{key}"), &value);
            self.set(&format!("{}/{disk}/{key}", paths::libxl_disks(guest)), &value);
        }
        self.set(&format!("{}/{disk}/backend", paths::libxl_disks(guest)), &dir);
    }

    /// The states of a guest's disks as libxl finds them.
    pub fn disk_states(&self, guest: u16) -> Vec<String> {
        self.disk_states_at(Place::dom0(guest))
    }

    /// The same, wherever their backend directories are.
    pub fn disk_states_at(&self, place: Place) -> Vec<String> {
        let prefix = format!("{}/", place.dir());
        let state = self.state();
        let of = |(path, value): (&String, &String)| {
            (path.starts_with(&prefix) && path.ends_with("/state")).then(|| value.clone())
        };
        state.nodes.iter().filter_map(of).collect()
    }

    /// libxl begins to destroy a guest: it asks for its disks to be closed.
    pub fn xl_destroy(&self, guest: u16) {
        self.xl_destroy_at(Place::dom0(guest));
    }

    /// The same, wherever the backend directories are.
    pub fn xl_destroy_at(&self, place: Place) {
        let prefix = format!("{}/", place.dir());
        for (path, value) in &mut self.state().nodes {
            if path.starts_with(&prefix) && path.ends_with("/online") {
                "0".clone_into(value);
            }
            if path.starts_with(&prefix) && path.ends_with("/state") && value != "6" {
                "5".clone_into(value);
            }
        }
    }

    /// libxl ends: all disks are at 6 (or their nodes gone), and so it removes what is left.
    pub fn xl_destroyed(&self, guest: u16) {
        assert!(self.disk_states(guest).iter().all(|s| s == "6"), "libxl still waits");
        let mut state = self.state();
        state.clear(&Place::dom0(guest).dir());
        state.clear(&format!("/libxl/{guest}"));
        state.domains.remove(&guest);
    }

    /// The stub domains that exist.
    pub fn stubs(&self) -> Vec<(u16, Domain)> {
        self.state()
            .domains
            .iter()
            .filter(|(_, d)| d.config.is_some())
            .map(|(i, d)| (*i, d.clone()))
            .collect()
    }

    /// The next domain that is made gets this number.
    pub fn set_next(&self, domid: u16) {
        self.state().next_domid = domid;
    }

    /// A domain that somebody else has made.
    pub fn domain_appears(&self, domid: u16, name: Option<&str>, uuid: &str) {
        let mut state = self.state();
        state.domains.insert(domid, Domain::new(name.unwrap_or_default(), true, handle_of(uuid)));
        if let Some(name) = name {
            state.nodes.insert(format!("/local/domain/{domid}/name"), name.to_owned());
        }
    }

    /// Somebody gave a domain this FLASK label.
    pub fn label(&self, domid: u16, label: &str) {
        self.state().domains.get_mut(&domid).unwrap().label = Some(label.to_owned());
    }

    /// The killed daemon's `xl create` comes to its end.
    pub fn release_orphan(&self) {
        let mut state = self.state();
        if let Some((_, name, uuid)) = state.orphan.take() {
            state.add_stub(&name, &uuid, "orphan");
        }
    }
}

impl Domain {
    fn new(name: &str, paused: bool, handle: [u8; 16]) -> Domain {
        let name = name.to_owned();
        let (target, label, config) = (None, None, None);
        Domain { name, paused, shutdown: None, target, label, dying: false, handle, config, attached: vec![] }
    }
}

impl State {
    pub(super) fn clear(&mut self, path: &str) {
        let below = format!("{path}/");
        self.nodes.retain(|k, _| k != path && !k.starts_with(&below));
    }

    fn add_domain(&mut self, name: &str, paused: bool) -> u16 {
        let domid = self.next_domid;
        self.next_domid += 1;
        self.domains.insert(domid, Domain::new(name, paused, [0; 16]));
        self.nodes.insert(format!("/local/domain/{domid}/name"), name.to_owned());
        domid
    }

    pub(super) fn add_stub(&mut self, name: &str, uuid: &str, config: &str) -> u16 {
        let domid = self.add_domain(name, true);
        let domain = self.domains.get_mut(&domid).unwrap();
        domain.config = Some(config.to_owned());
        domain.handle = handle_of(uuid);
        let label = config.lines().find_map(|line| line.strip_prefix("seclabel = \"")?.strip_suffix('"'));
        domain.label = label.map(str::to_owned);
        let vif = config.lines().find_map(|line| line.strip_prefix("vif = [ \"")?.strip_suffix("\" ]"));
        for (key, value) in
            vif.into_iter().flat_map(|vif| vif.split(',')).filter_map(|item| item.split_once('='))
        {
            self.nodes.insert(format!("{}/{domid}/0/{key}", paths::VIFS), value.to_owned());
        }
        let same = self.domains.values().filter(|d| d.name == name).count();
        self.most_stubs = self.most_stubs.max(same);
        domid
    }
}
