//! Stubs that are made before their guests (`grant-stubs`): a guest that grants its memory has to name the
//! domain to which it does when it is created.
//!
//! Such a stub waits, paused, under the name that guests' disk lines give as `backend`. When libxl has written
//! a guest's disks for it, the daemon gives it the guest, its disks and its configuration, and lets it run
//! (`launch`). Then it is called like any other stub, and another one is made under that name: the
//! guest's next boot finds a fresh stub.
//!
//! An `xl create` that is killed leaves a domain that lacks something. So a stub is marked when it has been made to
//! its end ([`paths::waits`]): one without the mark waits for nobody, and goes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail, ensure};
use pilotfish_flask::Reach;

use super::identity::{Identity, NO_GUEST, recorded_guest};
use super::privilege;
use super::xl_config;
use crate::config::GrantStubEntry;
use crate::env::Env;
use crate::host::Host;
use crate::image::{self, Image};
use crate::xenstore::Store;
use crate::xenstore::paths::{self, Place};

/// A stub that was made before its guest, and what has become of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantStub {
    /// Its domain id.
    pub domid: u16,
    /// Its UUID.
    pub uuid: String,
    /// Its name, unless it has none any more.
    pub name: String,
    /// The guest that it was given to.
    pub guest: Option<u16>,
    /// It was made to its end.
    whole: bool,
}

impl GrantStub {
    /// It is being made, or an `xl` that was killed has left it: it can serve nobody.
    fn is_half_made(&self) -> bool {
        self.guest.is_none() && !self.whole
    }
}

/// All that exist, were made to their end, and are not being destroyed.
///
/// # Errors
/// Xen or xenstore cannot be asked.
pub fn grant_stubs(store: &dyn Store, host: &dyn Host) -> Result<Vec<GrantStub>> {
    let mut stubs = all(store, host)?;
    stubs.retain(|stub| !stub.is_half_made());
    Ok(stubs)
}

/// The same with those that are half made.
fn all(store: &dyn Store, host: &dyn Host) -> Result<Vec<GrantStub>> {
    let mut found = Vec::new();
    for (domid, state) in host.domains()? {
        let identity = Identity::of(&state.handle).filter(|id| id.guest == NO_GUEST && !state.dying);
        let Some(Identity { uuid, .. }) = identity else { continue };
        let guest = recorded_guest(store, &uuid)?;
        let name = store.read(&format!("{}/name", paths::domain(domid)))?.unwrap_or_default();
        // A domain's directory may outlive it, and another domain may get its number.
        let whole = store.read(&paths::waits(domid))?.as_ref() == Some(&uuid);
        found.push(GrantStub { domid, uuid, name, guest, whole });
    }
    Ok(found)
}

/// Where the backend directories of the disks of `guest` are.
///
/// # Errors
/// Xen or xenstore cannot be asked.
pub fn place_of(store: &dyn Store, host: &dyn Host, guest: u16) -> Result<Place> {
    let dom0 = Place::dom0(guest);
    if store.list(&dom0.dir())?.is_empty() {
        let mut stubs = grant_stubs(store, host)?;
        // A stub writes to its own directory: one that serves another guest must not stand before this guest's own.
        stubs.sort_by_key(|stub| match stub.guest {
            Some(of) if of == guest => 0,
            None => 1,
            Some(_) => 2,
        });
        for stub in stubs {
            let place = Place { owner: stub.domid, guest };
            if !store.list(&place.dir())?.is_empty() {
                return Ok(place);
            }
        }
    }
    Ok(dom0)
}

/// Makes a stub that waits, with the UUID and under the name of `identity`.
///
/// # Errors
/// xl cannot make it; or Xen's policy has not all that it will need.
pub fn prepare(env: &Env<'_>, identity: &Identity) -> Result<()> {
    let name = identity.console_name();
    make(env, identity, &name).with_context(|| format!("grant-stubs: {name}"))
}

fn make(env: &Env<'_>, identity: &Identity, name: &str) -> Result<()> {
    image::verify(env.config, Image::Usual)?;
    let mut config = Cow::Borrowed(env.config);
    if let Some(label) = label(env, name)? {
        log::info!("grant-stubs: {name} is {label}");
        config.to_mut().stub_seclabel = label;
    }
    let xl_config = xl_config::waiting(&config, identity, name);
    let deadline = env.host.now() + env.config.launch_timeout;
    env.host.create_paused(name, &xl_config, deadline, &AtomicBool::new(false))?;
    let made = all(env.store, env.host)?.into_iter().find(|stub| stub.uuid == identity.uuid);
    let domid = made.context("xl made the stub, but Xen knows no such domain")?.domid;
    // Not where somebody has destroyed it meanwhile: nobody would remove the node.
    let marked =
        env.store.write_if((&paths::domain_name(domid), name), &[(&paths::waits(domid), &identity.uuid)])?;
    ensure!(marked, "domain {domid}, just made, has lost its name");
    Ok(())
}

/// Destroys the stub with this UUID if it is half made, and nobody makes it.
///
/// # Errors
/// It is still there.
pub fn discard(env: &Env<'_>, uuid: &str) -> Result<()> {
    let find = || -> Result<Option<GrantStub>> {
        let mut stubs = all(env.store, env.host)?.into_iter();
        Ok(stubs.find(|stub| stub.uuid == uuid && stub.is_half_made()))
    };
    let Some(stub) = find()? else { return Ok(()) };
    log::warn!("grant-stubs: domain {} was not made to its end: it is destroyed", stub.domid);
    let destroyed = env.host.destroy(stub.domid);
    // What counts is that it has gone, not what xl said on the way.
    if find()?.is_some() {
        destroyed.with_context(|| format!("domain {}", stub.domid))?;
        bail!("domain {} is still there after xl destroy", stub.domid);
    }
    Ok(())
}

/// The label that the stub of that name must get; `None`: that of the configuration.
fn label(env: &Env<'_>, name: &str) -> Result<Option<String>> {
    let entry = env.config.grant_stubs.iter().find(|entry| entry.name == name);
    let guest = entry.and_then(|entry| entry.guest.as_ref());
    guest.map_or(Ok(None), |guest| privilege::stub_label_for(env, guest, Reach::Grants))
}

/// What the daemon knows of such stubs.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The names under which one has to wait.
    names: Vec<String>,
    /// Names for which one is being made, with its UUID.
    preparing: BTreeMap<String, String>,
    /// The UUIDs of those that are being discarded.
    discarding: BTreeSet<String>,
    /// Stubs whose backend directories are watched.
    watched: BTreeSet<u16>,
}

/// What is to be done about such stubs.
#[derive(Debug, Default)]
pub struct Found {
    /// Guests with disks in the backend directories of one.
    pub guests: Vec<u16>,
    /// Those that have to be made.
    pub missing: Vec<Identity>,
    /// The UUIDs of those that have to be discarded.
    pub half_made: Vec<String>,
}

impl Waiting {
    /// One has to wait for each of these entries.
    #[must_use]
    pub fn new(entries: &[GrantStubEntry]) -> Waiting {
        Waiting { names: entries.iter().map(|entry| entry.name.clone()).collect(), ..Waiting::default() }
    }

    /// Looks which ones there are, and has the disks of their guests watched. What is to be
    /// made or discarded is returned once, and again after [`Waiting::prepared`] or [`Waiting::discarded`].
    ///
    /// # Errors
    /// Xen or xenstore cannot be asked.
    pub fn look(&mut self, store: &dyn Store, host: &dyn Host) -> Result<Found> {
        let stubs = all(store, host)?;
        self.watch(store, &stubs)?;
        let mut found = Found::default();
        for stub in stubs.iter().filter(|stub| !stub.is_half_made()) {
            let names = store.list(&paths::backends(stub.domid))?;
            found.guests.extend(names.iter().filter_map(|name| name.parse::<u16>().ok()));
        }
        for stub in stubs.iter().filter(|stub| stub.is_half_made()) {
            // Somebody may have given a domain such a UUID, under another name: it is not ours.
            let ours = stub.name.is_empty() || self.names.contains(&stub.name);
            let is_being_made = self.preparing.values().any(|uuid| *uuid == stub.uuid);
            if ours && !is_being_made && self.discarding.insert(stub.uuid.clone()) {
                found.half_made.push(stub.uuid.clone());
            }
        }
        // One that has a guest and not yet another name keeps the name until then, one that has to go until it has.
        let is_free = |name: &String| !stubs.iter().any(|stub| stub.name == *name);
        for name in self.names.iter().filter(|name| is_free(name)) {
            if !self.preparing.contains_key(name) {
                let identity = Identity::waiting(name)?;
                self.preparing.insert(name.clone(), identity.uuid.clone());
                found.missing.push(identity);
            }
        }
        Ok(found)
    }

    fn watch(&mut self, store: &dyn Store, stubs: &[GrantStub]) -> Result<()> {
        let now: BTreeSet<u16> = stubs.iter().map(|stub| stub.domid).collect();
        for gone in self.watched.difference(&now) {
            store.unwatch(&paths::backends(*gone))?;
        }
        for new in now.difference(&self.watched) {
            store.watch(&paths::backends(*new))?;
        }
        self.watched = now;
        Ok(())
    }

    /// The worker that made one under this name has ended.
    pub fn prepared(&mut self, name: &str) {
        self.preparing.remove(name);
    }

    /// The worker that discarded the one with this UUID has ended.
    pub fn discarded(&mut self, uuid: &str) {
        self.discarding.remove(uuid);
    }
}
