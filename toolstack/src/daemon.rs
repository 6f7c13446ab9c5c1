//! The main loop's body: observes guests, lets [`Guest::step`] decide, and has it done.
//!
//! Whatever may take long (making and removing stubs) runs as a [`Task`] on a worker, one at
//! a time per guest, so a slow guest holds up no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::config::Config;
use crate::disk::{answer, node};
use crate::guest::{Action, Guest, Observation, Phase, Times};
use crate::host::Host;
use crate::stub::granting::{Granting, NO_GRANTS};
use crate::stub::health;
use crate::stub::identity::{Identity, find_stubs};
use crate::stub::launch::Job;
use crate::stub::record::{self, Record, Stub};
use crate::stub::sweep::sweep_loops;
use crate::stub::tls;
use crate::stub::waiting::{Found, Waiting, grant_stubs, place_of};
use crate::text::printable;
use crate::worker::{Outcome, Task};
use crate::xenstore::Store;
use crate::xenstore::paths::{self, Place};

/// The daemon without its threads and its clock.
pub struct Daemon {
    store: Arc<dyn Store>,
    host: Arc<dyn Host>,
    times: Times,
    guests: BTreeMap<u16, Guest>,
    /// By the stub's domain: restarts of it that were logged.
    restarts: BTreeMap<u16, u32>,
    granting: Granting,
    waiting: Waiting,
}

impl Daemon {
    /// A daemon that has taken over what its predecessor left.
    ///
    /// # Errors
    /// xenstore cannot be read.
    pub fn new(config: &Config, store: Arc<dyn Store>, host: Arc<dyn Host>) -> Result<Daemon> {
        let times = Times { quiet: config.quiet, launch: config.launch_timeout, tidy: config.tidy };
        let mut guests = BTreeMap::new();
        for (guest, record) in record::read_all(&*store)? {
            if let Record::Serving(stub) = &record {
                log::info!("guest {guest}: adopting stub {} (domain {})", stub.identity.name(), stub.domid);
                // A predecessor killed between its record and libxl's nodes owes libxl this.
                answer::ready(&*store, place_of(&*store, &*host, guest)?, &stub.disks)?;
            } else {
                log::info!("guest {guest}: a previous daemon was interrupted here");
            }
            guests.insert(guest, Guest::adopted(record));
        }
        // Before anything else is done: a predecessor may have been killed while a stub took them.
        tls::withdraw_all(&*store)?;
        // A predecessor may have been killed after a stub's end and before its own sweep.
        sweep_loops(&*store, &*host)?;
        let waiting = Waiting::new(&config.grant_stubs);
        Ok(Daemon {
            store,
            host,
            times,
            guests,
            restarts: BTreeMap::new(),
            granting: Granting::default(),
            waiting,
        })
    }

    /// Reconciles every guest there is, and returns the tasks to be started.
    pub fn reconcile_all(&mut self) -> Vec<Task> {
        // First: the guest of a stray stub is one of those reconciled below.
        if let Err(e) = self.find_strays() {
            log::warn!("searching for stray stubs: {e:#}");
        }
        // Known guests without nodes too: their stubs have to go.
        let mut all: BTreeSet<u16> = self.guests.keys().copied().collect();
        match self.store.list(paths::BACKENDS) {
            Ok(names) => all.extend(names.iter().filter_map(|n| n.parse::<u16>().ok())),
            Err(e) => log::error!("{e:#}"),
        }
        let (guests, prepare) = self.look_at_waiting();
        all.extend(guests);
        all.into_iter().filter_map(|guest| self.reconcile(guest)).chain(prepare).collect()
    }

    /// Looks whether a stub waits under each name, and reconciles the guests at such stubs.
    fn reconcile_waiting(&mut self) -> Vec<Task> {
        let (guests, tasks) = self.look_at_waiting();
        guests.into_iter().filter_map(|guest| self.reconcile(guest)).chain(tasks).collect()
    }

    /// The guests with disks at stubs that were made before them, and the tasks that such stubs need. Each task is
    /// returned once, so the caller has to start them all.
    fn look_at_waiting(&mut self) -> (Vec<u16>, Vec<Task>) {
        match self.waiting.look(&*self.store, &*self.host) {
            Ok(Found { guests, missing, half_made }) => {
                let discard = half_made.into_iter().map(Task::Discard);
                (guests, discard.chain(missing.into_iter().map(Task::Prepare)).collect())
            }
            Err(e) => {
                log::error!("grant-stubs: {e:#}");
                (Vec::new(), Vec::new())
            }
        }
    }

    /// Reconciles the guests whose time has come.
    pub fn reconcile_due(&mut self, now: Instant) -> Vec<Task> {
        let due = |g: &Guest| g.wake_at().is_some_and(|at| at <= now);
        let due: Vec<u16> = self.guests.iter().filter(|(_, g)| due(g)).map(|(id, _)| *id).collect();
        due.into_iter().filter_map(|guest| self.reconcile(guest)).collect()
    }

    /// When [`Daemon::reconcile_due`] has something to do.
    pub fn wake_at(&self) -> Option<Instant> {
        self.guests.values().filter_map(|g| g.wake_at()).min()
    }

    /// Brings what is done for one guest in line with what stands in xenstore and in Xen; returns the
    /// task to be started, if any.
    pub fn reconcile(&mut self, guest: u16) -> Option<Task> {
        // Each action either ends here or leads to a phase with nothing to do. Four rounds are ample;
        // the limit is there so that a mistake in the phases cannot hang the daemon.
        for _ in 0..4 {
            let seen = match self.observe(guest) {
                Ok(seen) => seen,
                Err(e) => {
                    log::error!("guest {guest}: {e:#}");
                    return None;
                }
            };
            self.log_restarts(guest);
            self.log_no_grants(guest);
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
                Action::ApplyCrashPolicy(stub, failure) => {
                    return Some(Task::ApplyCrashPolicy(stub, failure));
                }
                Action::RefuseLate(disks) => {
                    let place = self.place(guest);
                    if let Err(e) = place.and_then(|at| answer::refuse_late(&*self.store, at, &disks)) {
                        log::error!("guest {guest}: {e:#}");
                    }
                    return None;
                }
                // The nodes are gone now, which is observed at once: the guest is forgotten.
                Action::Tidy => {
                    if let Err(e) = self.place(guest).and_then(|at| answer::tidy(&*self.store, at)) {
                        log::warn!("guest {guest}: {e:#}");
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Takes note of what a worker has done, and returns the tasks that follow.
    pub fn finish(&mut self, outcome: Outcome) -> Vec<Task> {
        let guest = match outcome {
            Outcome::Done => return Vec::new(),
            Outcome::Prepared(name) => {
                self.waiting.prepared(&name);
                // It has to be watched, and a guest may have found it already.
                return self.reconcile_waiting();
            }
            Outcome::Discarded(uuid) => {
                self.waiting.discarded(&uuid);
                return self.reconcile_waiting();
            }
            Outcome::Launched(guest, result) => {
                self.finish_launch(guest, result);
                guest
            }
            Outcome::Stopped(guest, result) => {
                match &result {
                    Ok(()) => log::info!("guest {guest}: disks closed, no stub left"),
                    Err(e) => log::error!("guest {guest}: {e:#}; trying again"),
                }
                let (now, times) = (self.host.now(), self.times);
                self.known(guest).stopped(result.is_ok(), now, &times);
                guest
            }
        };
        // What changed while the worker was at it caused no task: one guest has one worker at a time.
        self.reconcile(guest).into_iter().collect()
    }

    fn finish_launch(&mut self, guest: u16, result: Result<Stub>) {
        let (stub, why) = match result {
            Ok(stub) => (Some(stub), None),
            Err(e) => (None, Some(format!("{e:#}"))),
        };
        let to_be_told = self.known(guest).launched(stub);
        match why {
            Some(why) if to_be_told => self.refuse_new(guest, &why),
            // The guest went while its stub was made, so nobody waits for an answer.
            Some(why) => log::info!("guest {guest}: no stub: {}", printable(&why, 700)),
            None => {}
        }
    }

    /// The guest as it is known, or one of which nothing is known.
    fn known(&mut self, guest: u16) -> &mut Guest {
        self.guests.entry(guest).or_insert_with(Guest::new)
    }

    /// Logs what a serving stub says of its restarts, each once.
    fn log_restarts(&mut self, guest: u16) {
        let Some(domid) = self.guests.get(&guest).and_then(Guest::stub_domid) else { return };
        // Xen gives a domid to another domain later; its count begins at 0.
        let stubs: BTreeSet<u16> = self.guests.values().filter_map(Guest::stub_domid).collect();
        self.restarts.retain(|stub, _| stubs.contains(stub));
        let count = match health::restarts(&*self.store, domid) {
            Ok(count) => count,
            Err(e) => {
                log::warn!("guest {guest}: {e:#}");
                return;
            }
        };
        let known = self.restarts.entry(domid).or_insert(0);
        if count > *known {
            *known = count;
            let why = health::last_panic(&*self.store, domid);
            log::error!(
                "guest {guest}: its stub (domain {domid}) restarted in place, {count} times so far: {why}"
            );
        }
    }

    /// Logs that a guest does not grant the memory that its stub is to reach by grants, once.
    fn log_no_grants(&mut self, guest: u16) {
        let stubs: BTreeSet<u16> = self.guests.values().filter_map(Guest::stub_domid).collect();
        self.granting.keep(|stub| stubs.contains(&stub));
        let Some(Phase::Serving(stub)) = self.guests.get(&guest).map(|known| &known.phase) else { return };
        // A stub that waited for its guest has no other way.
        if stub.identity.made_as.is_some() && self.granting.look(&*self.store, self.host.now(), stub.domid) {
            log::error!("guest {guest}: {NO_GRANTS}");
        }
    }

    /// What stands in xenstore and in Xen for one guest.
    fn observe(&self, guest: u16) -> Result<Observation> {
        let from = self.host.now();
        let nodes = node::states(&*self.store, self.place(guest)?)?;
        let disks = u32::try_from(nodes.len()).unwrap_or(u32::MAX).max(1);
        let read_time = self.host.now().duration_since(from) / disks;
        // After the nodes: libxl pauses a guest before it closes its disks.
        let living = self.host.domain(guest)?.filter(|d| !d.dying);
        let (guest_lives, guest_runs) =
            (living.is_some(), living.is_some_and(|d| !d.paused && d.shutdown.is_none()));
        let failure = match self.guests.get(&guest).map(|g| &g.phase) {
            Some(Phase::Serving(stub)) => health::failure(&*self.store, &*self.host, stub)?,
            // In any other phase a worker has the stub, or there is none.
            _ => None,
        };
        Ok(Observation { nodes, guest_lives, guest_runs, read_time, failure })
    }

    /// Stub domains of ours that no guest here knows: left by a predecessor that was killed.
    fn find_strays(&mut self) -> Result<()> {
        for stub in find_stubs(&*self.store, &*self.host)? {
            let guest = stub.identity.guest;
            let known = self.guests.get(&guest);
            if known.is_some_and(|g| g.owns(&stub.identity.uuid)) {
                continue;
            }
            if matches!(known.map(|g| &g.phase), Some(Phase::Launching { .. } | Phase::Serving(_))) {
                // Its guest has a stub, or is about to. The worker's own sweep removes this one, or the
                // end of its guest does.
                log::warn!("guest {guest}: a second stub, domain {}, has appeared", stub.domid);
                continue;
            }
            log::warn!("guest {guest}: found a stub that nobody knows, domain {}", stub.domid);
            self.guests.insert(guest, Guest { phase: Phase::Interrupted });
        }
        Ok(())
    }

    /// The task that makes a stub. Its UUID is chosen here, not by the worker: a domain with it that
    /// appears at any time from now on is known to have a place.
    fn begin_launch(&mut self, guest: u16, deadline: Instant) -> Option<Task> {
        let (place, identity) = match self.place(guest).and_then(|at| Ok((at, self.identity(at)?))) {
            Ok(found) => found,
            Err(e) => {
                self.refuse_new(guest, &format!("{e:#}"));
                return None;
            }
        };
        let cancel = Arc::new(AtomicBool::new(false));
        self.known(guest).launching(Arc::clone(&cancel), identity.uuid.clone());
        Some(Task::Launch(Job { identity, place, deadline, cancel }))
    }

    /// Where the guest's disks are.
    fn place(&self, guest: u16) -> Result<Place> {
        place_of(&*self.store, &*self.host, guest)
    }

    /// Of the stub to launch for a guest: a new one, or that of the one that waits for it.
    fn identity(&self, place: Place) -> Result<Identity> {
        if !place.is_granted() {
            return Identity::new(place.guest);
        }
        let stubs = grant_stubs(&*self.store, &*self.host)?;
        let stub = stubs.into_iter().find(|stub| stub.domid == place.owner).context("its stub has gone")?;
        // Of a launch that has just begun there is no record yet.
        let launching =
            self.guests.iter().find(|(_, known)| known.launches(&stub.uuid)).map(|(guest, _)| *guest);
        if let Some(other) = stub.guest.or(launching).filter(|other| *other != place.guest) {
            bail!("backend={}: that stub serves guest {other} already", place.owner);
        }
        Ok(Identity { guest: place.guest, uuid: stub.uuid, made_as: Some(stub.name) })
    }

    /// Refuses whatever disks of the guest still wait.
    fn refuse_new(&self, guest: u16, why: &str) {
        if let Err(e) = self.place(guest).and_then(|at| answer::refuse_new(&*self.store, at, why)) {
            log::error!("guest {guest}: {e:#}");
        }
    }
}

#[cfg(test)]
mod tests;
