//! A small Xen host for tests: xenstore, domains, what libxl does, and stubs of all manners.
//!
//! The world outlives the daemon in it. Each daemon gets handles of its own ([`World::store`],
//! [`World::host`]); [`World::kill_after`] makes one of them die, as by SIGKILL, after so many
//! changes to the world: from then on everything it tries fails and changes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::host::{DomainState, Host, HotplugLock};
use crate::stub::plan::Plan;
use crate::xenstore::{Store, paths};

/// How a stub behaves once it runs.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Says `serving`.
    Serves,
    /// Says nothing.
    Silent,
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
    /// Xen is about to free it.
    pub dying: bool,
    /// Its UUID.
    pub handle: [u8; 16],
    /// Its stub configuration, if the daemon made it.
    pub config: Option<String>,
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
    next_domid: u16,
    now: Instant,
    /// Changes until the current daemon dies; the last change is made.
    kill_in: Option<u32>,
    process: u32,
    pub changes: u32,
    /// Records of loop devices that were detached.
    pub detached: Vec<String>,
    after_create: Option<Hook>,
    /// Runs once, before somebody gets the hotplug lock.
    pub before_lock: Option<Hook>,
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
            before_lock: None,
            most_stubs: 0,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The current daemon's xenstore.
    pub fn store(&self) -> Handle {
        Handle { world: self.clone(), process: self.state().process }
    }

    /// The current daemon's domains.
    pub fn host(&self) -> Handle {
        self.store()
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

    /// libxl adds a guest's disk `n`.
    pub fn add_disk(&self, guest: u16, n: u32, target: &str) {
        let disk = 51712 + 16 * n;
        let dir = paths::backend(guest, disk);
        for (key, value) in [
            ("params", target.to_owned()),
            ("dev", format!("xvd{}", char::from(b'a' + u8::try_from(n).unwrap()))),
            ("discard-enable", "1".to_owned()),
            ("grant_usage", "0".to_owned()),
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
        let prefix = format!("{}/", paths::guest_backends(guest));
        let state = self.state();
        let of = |(path, value): (&String, &String)| {
            (path.starts_with(&prefix) && path.ends_with("/state")).then(|| value.clone())
        };
        state.nodes.iter().filter_map(of).collect()
    }

    /// libxl begins to destroy a guest: it asks for its disks to be closed.
    pub fn xl_destroy(&self, guest: u16) {
        let prefix = format!("{}/", paths::guest_backends(guest));
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
        state.clear(&paths::guest_backends(guest));
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

    /// A domain that somebody else has made.
    pub fn domain_appears(&self, domid: u16, name: Option<&str>, uuid: &str) {
        let mut state = self.state();
        state.domains.insert(domid, Domain::new(name.unwrap_or_default(), true, handle_of(uuid)));
        if let Some(name) = name {
            state.nodes.insert(format!("/local/domain/{domid}/name"), name.to_owned());
        }
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
        Domain { name, paused, shutdown: None, target: None, dying: false, handle, config: None }
    }
}

impl State {
    fn clear(&mut self, path: &str) {
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

    fn add_stub(&mut self, name: &str, uuid: &str, config: &str) -> u16 {
        let domid = self.add_domain(name, true);
        let domain = self.domains.get_mut(&domid).unwrap();
        domain.config = Some(config.to_owned());
        domain.handle = handle_of(uuid);
        let same = self.domains.values().filter(|d| d.name == name).count();
        self.most_stubs = self.most_stubs.max(same);
        domid
    }
}

/// One daemon's access to the world.
#[derive(Clone)]
pub struct Handle {
    world: World,
    process: u32,
}

impl Handle {
    /// For looking: fails once the daemon is dead.
    fn alive(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.world.state();
        if state.process != self.process || state.kill_in == Some(0) {
            bail!("killed");
        }
        Ok(state)
    }

    /// For changing: counts, and dies after the change that is the last.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T> {
        let mut state = self.alive()?;
        state.changes += 1;
        let done = change(&mut state);
        if let Some(n) = &mut state.kill_in {
            *n -= 1;
            if *n == 0 {
                bail!("killed");
            }
        }
        Ok(done)
    }
}

impl Store for Handle {
    fn read(&self, path: &str) -> Result<Option<String>> {
        Ok(self.alive()?.nodes.get(path).cloned())
    }

    fn list(&self, path: &str) -> Result<Vec<String>> {
        let below = format!("{path}/");
        let state = self.alive()?;
        let mut names: Vec<String> = state
            .nodes
            .keys()
            .filter_map(|k| k.strip_prefix(&below)?.split('/').next().map(str::to_owned))
            .collect();
        names.dedup();
        Ok(names)
    }

    fn write(&self, path: &str, value: &str) -> Result<()> {
        self.change(|s| drop(s.nodes.insert(path.to_owned(), value.to_owned())))
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.change(|s| s.clear(path))
    }

    fn remove_if_empty(&self, path: &str) -> Result<bool> {
        if !self.alive()?.nodes.contains_key(path) || !self.list(path)?.is_empty() {
            return Ok(false);
        }
        self.remove(path).map(|()| true)
    }

    fn write_if(&self, (guard, expected): (&str, &str), nodes: &[(&str, &str)]) -> Result<bool> {
        if self.alive()?.nodes.get(guard).map(String::as_str) != Some(expected) {
            return Ok(false);
        }
        let nodes = nodes.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned()));
        self.change(|s| s.nodes.extend(nodes)).map(|()| true)
    }

    fn update(&self, path: &str, new: &dyn Fn(&str) -> Option<&'static str>) -> Result<bool> {
        let value = self.alive()?.nodes.get(path).and_then(|old| new(old));
        let Some(value) = value else { return Ok(false) };
        self.change(|s| drop(s.nodes.insert(path.to_owned(), value.to_owned())))?;
        Ok(true)
    }
}

/// A domain as Xen tells of it.
fn seen(domain: &Domain) -> DomainState {
    let Domain { dying, shutdown, paused, handle, .. } = *domain;
    DomainState { dying, shutdown, paused, handle }
}

impl Host for Handle {
    fn create_paused(&self, plan: &Plan, _: Instant, _: &AtomicBool) -> Result<()> {
        let name = plan.identity.name();
        let made = self.change(|s| {
            if !s.create_works || s.domains.values().any(|d| d.name == name) {
                return None;
            }
            let domid = s.add_stub(&name, &plan.identity.uuid, &plan.xl_config);
            if s.xl_is_killed {
                s.clear(&paths::domain(domid));
            }
            Some(s.after_create.take())
        });
        match made? {
            None => bail!("xl create: exit status: 1: no memory, or the name is taken"),
            Some(Some(hook)) => hook(&self.world),
            Some(None) => {}
        }
        if self.alive()?.xl_is_killed {
            bail!("xl create: not done within launch-timeout-ms")
        }
        Ok(())
    }

    fn destroy(&self, domid: u16) -> Result<()> {
        self.change(|s| {
            if !s.destroy_works {
                bail!("xl destroy: not done within destroy-timeout-ms");
            }
            s.clear(&paths::domain(domid));
            if std::mem::take(&mut s.destroy_ends_halfway) {
                bail!("xl destroy: not done within destroy-timeout-ms");
            }
            s.domains.remove(&domid);
            Ok(())
        })?
    }

    fn lock_hotplug(&self) -> Result<HotplugLock> {
        let hook = self.alive()?.before_lock.take();
        if let Some(hook) = hook {
            hook(&self.world);
        }
        Ok(Box::new(()))
    }

    fn detach_loop(&self, record: &str) -> Result<()> {
        self.change(|s| s.detached.push(record.to_owned()))
    }

    fn set_target(&self, stub: u16, guest: u16) -> Result<()> {
        self.change(|s| match s.domains.get_mut(&stub) {
            Some(domain) if domain.paused && domain.target.is_none() => {
                domain.target = Some(guest);
                Ok(())
            }
            _ => bail!("set_target: invalid"),
        })?
    }

    fn unpause(&self, domid: u16) -> Result<()> {
        self.change(|s| {
            let manner = s.manner.clone();
            let Some(domain) = s.domains.get_mut(&domid) else { bail!("unpause: no such domain") };
            assert!(domain.target.is_some(), "a stub runs only with its target set");
            domain.paused = false;
            let says: &[(&str, &str)] = match &manner {
                Manner::Serves => &[("state", "serving"), ("ready_us", "1500")],
                Manner::Silent => &[],
                Manner::Fails(why) => &[("error", why), ("state", "failed")],
                Manner::Says(text) => &[("state", text)],
                Manner::Crashes => {
                    domain.shutdown = Some(3);
                    &[]
                }
            };
            for (key, value) in says {
                s.nodes.insert(paths::stub_says(domid, key), (*value).to_owned());
            }
            Ok(())
        })?
    }

    fn pause(&self, domid: u16) -> Result<()> {
        self.change(|s| s.domains.get_mut(&domid).unwrap().paused = true)
    }

    fn crash(&self, domid: u16) -> Result<()> {
        self.change(|s| s.domains.get_mut(&domid).unwrap().shutdown = Some(3))
    }

    fn domain(&self, domid: u16) -> Result<Option<DomainState>> {
        Ok(self.alive()?.domains.get(&domid).map(seen))
    }

    fn domains(&self) -> Result<Vec<(u16, DomainState)>> {
        Ok(self.alive()?.domains.iter().map(|(domid, domain)| (*domid, seen(domain))).collect())
    }

    fn console_tail(&self, _: &str) -> Vec<String> {
        vec!["panicked at \x1b[31mthe worst\x07".to_owned()]
    }

    fn now(&self) -> Instant {
        self.world.state().now
    }

    fn wait(&self, time: Duration) {
        self.world.advance(time);
    }
}
