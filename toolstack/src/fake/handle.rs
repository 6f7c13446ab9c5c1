//! One daemon's way to the world: xenstore and domains, until the daemon is killed.

use std::net::IpAddr;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::world::{Domain, Manner, State, World};
use crate::config::Config;
use crate::host::{Claim, DomainState, Host, HotplugLock};
use crate::xenstore::{Store, paths};

/// One daemon's access to the world.
#[derive(Clone)]
pub struct Handle {
    world: World,
    process: u32,
}

impl World {
    /// The current daemon's xenstore.
    pub fn store(&self) -> Handle {
        Handle { world: self.clone(), process: self.state().process }
    }

    /// The current daemon's domains.
    pub fn host(&self) -> Handle {
        self.store()
    }
}

impl Handle {
    /// For reading: fails once the daemon is dead.
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
    fn watch(&self, _path: &str) -> Result<()> {
        Ok(())
    }

    fn unwatch(&self, _path: &str) -> Result<()> {
        Ok(())
    }

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

    fn write_for(&self, reader: u16, path: &str, value: &str) -> Result<()> {
        self.change(|s| {
            s.nodes.insert(path.to_owned(), value.to_owned());
            s.readers.insert(path.to_owned(), reader);
        })
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

/// A domain's state as Xen reports it.
fn seen(domain: &Domain) -> DomainState {
    let Domain { dying, shutdown, paused, handle, .. } = *domain;
    DomainState { dying, shutdown, paused, handle }
}

impl Host for Handle {
    fn create_paused(&self, name: &str, xl_config: &str, _: Instant, _: &AtomicBool) -> Result<()> {
        let uuid =
            xl_config.lines().find_map(|line| line.strip_prefix("uuid = \"")?.strip_suffix('"')).unwrap();
        let before = self.alive()?.before_create.take();
        if let Some(hook) = before {
            hook(&self.world);
        }
        let made = self.change(|s| {
            if !s.create_works || s.domains.values().any(|d| d.name == name) {
                return None;
            }
            let domid = s.add_stub(name, uuid, xl_config);
            if s.xl_is_killed {
                s.clear(&paths::domain(domid));
                // Xen knows no names.
                s.domains.entry(domid).and_modify(|domain| domain.name.clear());
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

    fn check_network(&self, config: &Config, bridge: &str) -> Result<()> {
        match &self.alive()?.no_network {
            Some(why) => bail!("{}, {bridge}: {why}", config.stub_net_image.display()),
            None => Ok(()),
        }
    }

    fn look_up(&self, name: &str) -> Result<Vec<IpAddr>> {
        match self.alive()?.names.get(name) {
            Some(addresses) => Ok(addresses.clone()),
            None => bail!("there is no such name"),
        }
    }

    fn claim(&self, address: &str) -> Result<Option<Claim>> {
        Ok(self.alive()?.claims.take(address))
    }

    fn attach_disk(&self, domid: u16, disk: &str, _: Instant, _: &AtomicBool) -> Result<()> {
        self.change(|s| match s.domains.get_mut(&domid) {
            Some(domain) if domain.paused => {
                domain.attached.push(disk.to_owned());
                Ok(())
            }
            _ => bail!("xl block-attach: no such domain, or it runs"),
        })?
    }

    fn rename(&self, domid: u16, name: &str) -> Result<()> {
        self.change(|s| {
            let Some(domain) = s.domains.get_mut(&domid) else { bail!("xl rename: no such domain") };
            name.clone_into(&mut domain.name);
            s.nodes.insert(format!("/local/domain/{domid}/name"), name.to_owned());
            Ok(())
        })?
    }

    fn destroy(&self, domid: u16) -> Result<()> {
        self.change(|s| {
            if !s.destroy_works {
                bail!("xl destroy: not done within destroy-timeout-ms");
            }
            s.clear(&paths::domain(domid));
            s.clear(&format!("{}/{domid}", paths::VIFS));
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

    fn label(&self, domid: u16) -> Result<Option<String>> {
        let state = self.alive()?;
        if domid == 0 {
            return Ok(state.flask.then(|| "system_u:system_r:dom0_t".to_owned()));
        }
        Ok(state.domains.get(&domid).and_then(|domain| domain.label.clone()))
    }

    fn relabel(&self, domid: u16, label: &str) -> Result<()> {
        self.change(|s| {
            if s.relabel_fails {
                bail!("another label for a domain: EACCES");
            }
            let Some(domain) = s.domains.get_mut(&domid) else { bail!("relabel: no such domain") };
            domain.label = Some(label.to_owned());
            Ok(())
        })?
    }

    fn allowed(&self, subject: &str, object: &str, class: u16) -> Result<Option<u32>> {
        let state = self.alive()?;
        let unknown = |label| state.unknown_label.as_deref() == Some(label);
        if unknown(subject) || unknown(object) {
            return Ok(None);
        }
        let denied = state.denied.iter().filter(|(of, _)| *of == class);
        Ok(Some(denied.fold(u32::MAX, |allowed, (_, permission)| allowed & !(1 << permission))))
    }

    fn enforces_policy(&self) -> Result<bool> {
        Ok(!self.alive()?.permissive)
    }

    fn unpause(&self, domid: u16) -> Result<()> {
        self.change(|s| {
            let manner = s.manner.clone();
            let Some(domain) = s.domains.get_mut(&domid) else { bail!("unpause: no such domain") };
            let labelled = domain.label.as_ref().is_some_and(|label| label.contains("pf_stub_"));
            assert!(domain.target.is_some() || labelled, "a stub runs only with its rights");
            domain.paused = false;
            let says: &[(&str, &str)] = match &manner {
                Manner::Serves => &[("state", "serving"), ("ready_us", "1500")],
                Manner::Silent => &[],
                Manner::Waits(what) => &[("waits_for", what)],
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
