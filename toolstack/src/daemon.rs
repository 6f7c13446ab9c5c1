//! The main loop's body: looks at guests, lets [`Guest::step`] decide, and has it done.
//!
//! Whatever may take long (making and removing stubs) runs as a [`Task`] on a worker, one at
//! a time per guest, so a slow guest holds up no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;

use crate::config::{Config, OnStubCrash};
use crate::disk::loops;
use crate::guest::{Action, Guest, Phase, Seen, Times};
use crate::host::Host;
use crate::stub::identity::{Identity, find_stubs};
use crate::stub::launch::{self, Env, Job};
use crate::disk::node;
use crate::stub::record::{self, Stub};
use crate::stub::stop;
use crate::text::printable;
use crate::xenstore::{Store, paths};

/// What a worker does.
#[derive(Debug)]
pub enum Task {
    /// Makes a stub.
    Launch(Job),
    /// Removes the guest's stub and closes its disks.
    Stop(u16),
    /// Does with a guest whose stub died as configured; the reason is for the log.
    Mourn(Stub, String),
}

/// What a worker has done, for which guest.
#[derive(Debug)]
pub enum Outcome {
    /// There is a stub, or a reason why not.
    Launched(u16, Result<Stub>),
    /// The stub has gone, or not.
    Stopped(u16, Result<()>),
    /// Nothing more to do.
    Done,
}

/// The daemon without its threads and its clock.
pub struct Daemon {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    host: Arc<dyn Host>,
    times: Times,
    guests: BTreeMap<u16, Guest>,
    /// By the stub's domain: restarts of it that were logged.
    restarts: BTreeMap<u16, u32>,
}

/// Does a task; this is what a worker runs.
pub fn perform(config: &Config, store: &dyn Store, host: &dyn Host, task: &Task) -> Outcome {
    let env = Env { config, store, host };
    match task {
        Task::Launch(job) => Outcome::Launched(job.identity.guest, launch::launch(&env, job)),
        Task::Stop(guest) => Outcome::Stopped(*guest, stop::stop(&env, *guest)),
        Task::Mourn(stub, why) => {
            mourn(&env, stub, why);
            Outcome::Done
        }
    }
}

/// Applies the policy to a guest whose stub died under it.
fn mourn(env: &Env<'_>, stub: &Stub, why: &str) {
    let (guest, policy) = (stub.identity.guest, env.config.on_stub_crash);
    log::error!("guest {guest}: its stub (domain {}) {why}; policy: {policy:?}", stub.domid);
    if policy == OnStubCrash::Restart {
        log::error!("guest {guest}: no restart: {}; crash-guest applies", launch::why_no_restart(why));
    }
    let done = match policy {
        OnStubCrash::CrashGuest | OnStubCrash::Restart => env.host.crash(guest),
        OnStubCrash::DestroyGuest => env.host.destroy(guest),
        OnStubCrash::PauseGuest => env.host.pause(guest),
        OnStubCrash::Ignore => Ok(()),
    };
    if let Err(e) = done {
        log::error!("guest {guest}: {policy:?}: {e:#}");
    }
    for line in launch::last_words(env, &stub.identity) {
        log::error!("guest {guest}: stub console: {line}");
    }
}

impl Daemon {
    /// A daemon that has taken over what its predecessor left.
    ///
    /// # Errors
    /// xenstore cannot be read.
    pub fn new(config: Arc<Config>, store: Arc<dyn Store>, host: Arc<dyn Host>) -> Result<Daemon> {
        let times = Times { quiet: config.quiet, launch: config.launch_timeout, tidy: config.tidy };
        let mut guests = BTreeMap::new();
        for (guest, record) in record::read_all(&*store)? {
            if let record::Record::Serving(stub) = &record {
                log::info!("guest {guest}: adopting stub {} (domain {})", stub.identity.name(), stub.domid);
                // A predecessor killed between its record and libxl's nodes owes libxl this.
                launch::serve(&*store, guest, &stub.disks)?;
            } else {
                log::info!("guest {guest}: a previous daemon was interrupted here");
            }
            guests.insert(guest, Guest::adopted(record));
        }
        loops::sweep_loops(&*store, &*host)?;
        Ok(Daemon { config, store, host, times, guests, restarts: BTreeMap::new() })
    }

    /// Looks at every guest there is and returns the tasks to be started.
    pub fn look_at_all(&mut self) -> Vec<Task> {
        if let Err(e) = self.find_strays() {
            log::warn!("looking for stray stubs: {e:#}");
        }
        let mut all: BTreeSet<u16> = self.guests.keys().copied().collect();
        match self.store.list(paths::BACKENDS) {
            Ok(names) => all.extend(names.iter().filter_map(|n| n.parse::<u16>().ok())),
            Err(e) => log::error!("{e:#}"),
        }
        all.into_iter().filter_map(|guest| self.look_at(guest)).collect()
    }

    /// Looks at the guests whose time has come.
    pub fn look_at_due(&mut self, now: Instant) -> Vec<Task> {
        let due = |g: &Guest| g.wake_at().is_some_and(|at| at <= now);
        let due: Vec<u16> = self.guests.iter().filter(|(_, g)| due(g)).map(|(id, _)| *id).collect();
        due.into_iter().filter_map(|guest| self.look_at(guest)).collect()
    }

    /// When [`Daemon::look_at_due`] has something to do.
    pub fn wake_at(&self) -> Option<Instant> {
        self.guests.values().filter_map(|g| g.wake_at()).min()
    }

    /// Looks at one guest; returns the task to be started, if any.
    pub fn look_at(&mut self, guest: u16) -> Option<Task> {
        // Each action either ends here or leads to a phase with nothing to do; four is ample.
        for _ in 0..4 {
            let seen = match self.see(guest) {
                Ok(seen) => seen,
                Err(e) => {
                    log::error!("guest {guest}: {e:#}");
                    return None;
                }
            };
            self.note_restarts(guest);
            let now = self.host.now();
            let known = self.guests.entry(guest).or_insert_with(Guest::new);
            let action = known.step(&seen, now, &self.times);
            log::trace!("guest {guest}: {action:?}, now {:?}", known.phase);
            match action {
                Action::Nothing => return None,
                Action::Forget => {
                    self.guests.remove(&guest);
                    return None;
                }
                Action::Launch(deadline) => return self.begin_launch(guest, deadline),
                Action::Stop => return Some(Task::Stop(guest)),
                Action::Mourn(stub, why) => return Some(Task::Mourn(stub, why)),
                Action::RefuseLate(disks) => {
                    if let Err(e) = launch::refuse_late(&*self.store, guest, &disks) {
                        log::error!("guest {guest}: {e:#}");
                    }
                    return None;
                }
                Action::Tidy => {
                    if let Err(e) = stop::tidy(&self.env(), guest) {
                        log::warn!("guest {guest}: {e:#}");
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Takes note of what a worker has done, and returns the task that follows.
    pub fn finish(&mut self, outcome: Outcome) -> Option<Task> {
        let (guest, ok) = match outcome {
            Outcome::Done => return None,
            Outcome::Launched(guest, result) => {
                let known = self.guests.entry(guest).or_insert_with(Guest::new);
                let (stub, why) = match result {
                    Ok(stub) => (Some(stub), None),
                    Err(e) => (None, Some(format!("{e:#}"))),
                };
                let to_be_told = known.launched(stub);
                if let Some(why) = why {
                    if to_be_told {
                        self.refuse_new(guest, &why);
                    } else {
                        log::info!("guest {guest}: no stub: {}", printable(&why, 700));
                    }
                }
                return self.look_at(guest);
            }
            Outcome::Stopped(guest, Ok(())) => {
                log::info!("guest {guest}: disks closed, no stub left");
                (guest, true)
            }
            Outcome::Stopped(guest, Err(e)) => {
                log::error!("guest {guest}: {e:#}; trying again");
                (guest, false)
            }
        };
        let now = self.host.now();
        self.guests.entry(guest).or_insert_with(Guest::new).stopped(ok, now, &self.times);
        self.look_at(guest)
    }

    /// Logs what a serving stub says of its restarts, each once.
    fn note_restarts(&mut self, guest: u16) {
        let Some(Phase::Serving(stub)) = self.guests.get(&guest).map(|known| &known.phase) else { return };
        let domid = stub.domid;
        // A domid that is used again is another stub's.
        let stubs: BTreeSet<u16> = self.guests.values().filter_map(Guest::stub_domid).collect();
        self.restarts.retain(|stub, _| stubs.contains(stub));
        let count = match launch::restarts(&*self.store, domid) {
            Ok(count) => count,
            Err(e) => {
                log::warn!("guest {guest}: {e:#}");
                return;
            }
        };
        let known = self.restarts.entry(domid).or_insert(0);
        if count > *known {
            *known = count;
            let why = launch::last_panic(&*self.store, domid);
            log::error!(
                "guest {guest}: its stub (domain {domid}) restarted in place, {count} times so far: {why}"
            );
        }
    }

    fn env(&self) -> Env<'_> {
        Env { config: &self.config, store: &*self.store, host: &*self.host }
    }

    fn see(&self, guest: u16) -> Result<Seen> {
        let from = self.host.now();
        let nodes = node::states(&*self.store, guest)?;
        let disks = u32::try_from(nodes.len()).unwrap_or(u32::MAX).max(1);
        let look = self.host.now().duration_since(from) / disks;
        let guest_lives = self.host.domain(guest)?.is_some_and(|d| !d.dying);
        let illness = match self.guests.get(&guest).map(|g| &g.phase) {
            Some(Phase::Serving(stub)) => launch::illness(&self.env(), stub)?,
            _ => None,
        };
        Ok(Seen { nodes, guest_lives, look, illness })
    }

    /// Stub domains of ours that no guest here knows: left by a predecessor that was killed.
    fn find_strays(&mut self) -> Result<()> {
        for stub in find_stubs(&*self.store, &*self.host)? {
            let guest = stub.identity.guest;
            if !self.guests.get(&guest).is_some_and(|g| g.owns(&stub.identity.uuid)) {
                if matches!(
                    self.guests.get(&guest).map(|g| &g.phase),
                    Some(Phase::Launching { .. } | Phase::Serving(_))
                ) {
                    // The worker's own sweep, or the end of its guest, removes it.
                    log::warn!("guest {guest}: a second stub, domain {}, has appeared", stub.domid);
                    continue;
                }
                log::warn!("guest {guest}: found a stub that nobody knows, domain {}", stub.domid);
                self.guests.insert(guest, Guest { phase: Phase::Interrupted });
            }
        }
        Ok(())
    }

    fn begin_launch(&mut self, guest: u16, deadline: Instant) -> Option<Task> {
        let identity = match Identity::new(guest) {
            Ok(identity) => identity,
            Err(e) => {
                self.refuse_new(guest, &format!("{e:#}"));
                return None;
            }
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let known = self.guests.entry(guest).or_insert_with(Guest::new);
        known.launching(Arc::clone(&cancel), identity.uuid.clone());
        Some(Task::Launch(Job { identity, deadline, cancel }))
    }

    /// Refuses whatever disks of the guest still wait.
    fn refuse_new(&self, guest: u16, why: &str) {
        if let Err(e) = launch::refuse_new(&*self.store, guest, why) {
            log::error!("guest {guest}: {e:#}");
        }
    }
}

#[cfg(test)]
mod tests;
