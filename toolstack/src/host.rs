//! What the daemon does to domains, as a trait, so that tests need no Xen.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::config::Config;

// No link to it: rustdoc 1.95 fails on a link at a re-export that no other crate sees.
/// A domain as Xen sees it: `xen_privcmd::DomainState`.
pub use xen_privcmd::DomainState;

/// Released when dropped.
pub type HotplugLock = Box<dyn std::any::Any>;

/// The addresses of stubs that are being made. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Claims(Arc<Mutex<BTreeSet<String>>>);

/// An address that a stub which is being made is to have. Free again when dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    address: String,
}

impl Claims {
    /// Takes an address; `None` if it is taken.
    #[must_use]
    pub fn take(&self, address: &str) -> Option<Claim> {
        let is_free = self.addresses().insert(address.to_owned());
        is_free.then(|| Claim { claims: self.clone(), address: address.to_owned() })
    }

    /// A worker that panicked has left a good set.
    fn addresses(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.addresses().remove(&self.address);
    }
}

/// Domains, and time.
pub trait Host: Send + Sync {
    /// Makes the domain of a complete xl configuration, paused; `name` is its name there. Returns at
    /// `deadline` or when `cancel` is set, at the latest; then something half made may be left, to be
    /// found by its UUID.
    fn create_paused(
        &self,
        name: &str,
        xl_config: &str,
        deadline: Instant,
        cancel: &AtomicBool,
    ) -> Result<()>;

    /// Whether a stub can get a network interface on that bridge, and has an image that makes use of it.
    fn check_network(&self, config: &Config, bridge: &str) -> Result<()>;

    /// The addresses of a host's name, as dom0 finds them.
    fn look_up(&self, name: &str) -> Result<Vec<IpAddr>>;

    /// Takes the address of a stub that is about to be made; `None` if another one that is being made has it.
    fn claim(&self, address: &str) -> Result<Option<Claim>>;

    /// Attaches a PV disk, of xl's syntax, to a domain.
    fn attach_disk(&self, domid: u16, disk: &str, deadline: Instant, cancel: &AtomicBool) -> Result<()>;

    /// Gives a domain another name.
    fn rename(&self, domid: u16, name: &str) -> Result<()>;

    /// Destroys a domain and releases its devices.
    fn destroy(&self, domid: u16) -> Result<()>;

    /// Makes `stub` the device model of `guest`.
    fn set_target(&self, stub: u16, guest: u16) -> Result<()>;

    /// The FLASK label of a domain; `None` where Xen has no labels, and for a domain that is gone.
    fn label(&self, domid: u16) -> Result<Option<String>>;

    /// Gives a domain another FLASK label.
    fn relabel(&self, domid: u16, label: &str) -> Result<()>;

    /// What Xen's FLASK policy allows one label over another in the class of that number: a bit for each
    /// permission. `None` if it does not know one of the labels.
    fn allowed(&self, subject: &str, object: &str, class: u16) -> Result<Option<u32>>;

    /// Whether FLASK refuses what its policy does not allow.
    fn enforces_policy(&self) -> Result<bool>;

    /// Lets a paused domain run.
    fn unpause(&self, domid: u16) -> Result<()>;

    /// Pauses a domain.
    fn pause(&self, domid: u16) -> Result<()>;

    /// Ends a domain as crashed.
    fn crash(&self, domid: u16) -> Result<()>;

    /// Keeps everybody else from attaching and detaching PV disks in dom0, until dropped.
    fn lock_hotplug(&self) -> Result<HotplugLock>;

    /// Detaches the loop device of `record`, if it still leads to its image. The caller holds the
    /// lock.
    fn detach_loop(&self, record: &str) -> Result<()>;

    /// The state of a domain; `None` if there is none.
    fn domain(&self, domid: u16) -> Result<Option<DomainState>>;

    /// All domains that Xen knows, with or without nodes in xenstore.
    fn domains(&self) -> Result<Vec<(u16, DomainState)>>;

    /// The last lines of a domain's console, if somebody keeps them; not to be trusted.
    fn console_tail(&self, name: &str) -> Vec<String>;

    /// The time.
    fn now(&self) -> Instant;

    /// Lets time pass.
    fn wait(&self, time: Duration);
}
