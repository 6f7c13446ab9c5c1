//! The state of a stub: what Xen says about its domain, and what the stub itself writes to xenstore.
//!
//! The stub writes its own nodes, so their text is not to be trusted: it is cut to length and
//! cleaned before it goes anywhere.

use std::time::Duration;

use anyhow::Result;
use xen_pv_sys::sched::SHUTDOWN_CRASH;

use super::identity::{Identity, uuid_of};
use super::record::Stub;
use crate::host::{DomainState, Host};
use crate::text::printable;
use crate::xenstore::{Store, paths};

/// xenconsoled writes a dead domain's last lines somewhat later than the domain dies.
const CONSOLE_DELAY: Duration = Duration::from_millis(300);
/// The failure of a stub whose domain does not exist any more.
pub const GONE: &str = "domain has gone";
/// That of one that closes or removes its guest's disks, where only libxl may.
pub const CLOSED: &str = "has closed or removed a disk, though its guest runs";
/// That of one whose domain is on its way.
pub const GOING: &str = "domain is being destroyed";

/// Why a stub that served does not serve any more; `None` if it does.
///
/// # Errors
/// Xen or xenstore cannot be asked.
pub fn failure(store: &dyn Store, host: &dyn Host, stub: &Stub) -> Result<Option<String>> {
    // Xen may have given the number to another domain since.
    let same = |d: DomainState| !d.dying && uuid_of(&d.handle) == stub.identity.uuid;
    if !host.domain(stub.domid)?.is_some_and(same) {
        return Ok(Some(GONE.to_owned()));
    }
    // Whoever destroys a domain by libxl removes its directory first, and Xen hears of it later. No domain can
    // remove its own name.
    if store.read(&paths::domain_name(stub.domid))?.is_none() {
        return Ok(Some(GOING.to_owned()));
    }
    if let Some(how) = ended(host, stub.domid)? {
        let said = store.read(&paths::stub_says(stub.domid, "error"))?;
        let said = said.map_or(String::new(), |text| format!("; it said: {}", printable(&text, 200)));
        return Ok(Some(format!("{how}{said}")));
    }
    let state = store.read(&paths::stub_says(stub.domid, "state"))?;
    if state.as_deref() == Some("failed") {
        return Ok(Some(format!("failed: {}", stated_error(store, stub.domid))));
    }
    Ok(None)
}

/// How the stub domain ended, if it did.
///
/// # Errors
/// Xen cannot be asked.
pub fn ended(host: &dyn Host, stub: u16) -> Result<Option<String>> {
    Ok(match host.domain(stub)? {
        None => Some(GONE.to_owned()),
        Some(s) if s.dying => Some(GOING.to_owned()),
        Some(s) => match s.shutdown {
            Some(code) if u32::from(code) == SHUTDOWN_CRASH => Some("crashed".to_owned()),
            Some(code) => Some(format!("shut down (reason {code})")),
            None => None,
        },
    })
}

/// The reason that a stub gives for its failure.
pub fn stated_error(store: &dyn Store, stub: u16) -> String {
    said(store, stub, "error").unwrap_or_else(|| "failed, without a reason".to_owned())
}

/// What a stub that does not serve yet waits for, if it says so.
pub fn waits_for(store: &dyn Store, stub: u16) -> Option<String> {
    said(store, stub, "waits_for")
}

/// What the stub says about the panic before its last restart.
pub fn last_panic(store: &dyn Store, stub: u16) -> String {
    said(store, stub, "last_panic").unwrap_or_else(|| "no reason is given".to_owned())
}

/// The stub's node `key`, fit for a log; none if it is empty or cannot be read.
fn said(store: &dyn Store, stub: u16, key: &str) -> Option<String> {
    // Only for people: the rest of the message matters even if xenstore does not answer.
    let text = store.read(&paths::stub_says(stub, key)).ok().flatten()?;
    (!text.trim().is_empty()).then(|| printable(&text, 200))
}

/// How often a stub was restarted in place, as it says itself.
///
/// # Errors
/// xenstore cannot be read.
pub fn restarts(store: &dyn Store, stub: u16) -> Result<u32> {
    let said = store.read(&paths::stub_says(stub, "restarts"))?;
    Ok(said.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// The last lines on a dead stub's console, fit for a log.
pub fn console_tail(host: &dyn Host, stub: &Identity) -> Vec<String> {
    host.wait(CONSOLE_DELAY);
    let lines = host.console_tail(&stub.console_name());
    lines.iter().filter(|l| !l.trim().is_empty()).map(|l| printable(l, 200)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{World, handle_of};

    /// A stub that serves, as domain 9 of a new world.
    fn serving() -> (World, Stub) {
        let (world, identity) = (World::new(), Identity::new(5).unwrap());
        world.domain_appears(9, Some("pilotfish-5"), &identity.uuid);
        world.set(&paths::stub_says(9, "state"), "serving");
        (world, Stub { domid: 9, identity, disks: vec![51712] })
    }

    fn failure_after(change: impl Fn(&World)) -> Option<String> {
        let (world, stub) = serving();
        change(&world);
        failure(&world.store(), &world.host(), &stub).unwrap()
    }

    #[test]
    fn a_stub_fails_with_its_domain_or_by_its_own_account() {
        let domain = |world: &World, change: &dyn Fn(&mut crate::fake::Domain)| {
            change(world.state().domains.get_mut(&9).unwrap());
        };
        let says = |world: &World, key: &str, value: &str| world.set(&paths::stub_says(9, key), value);
        assert_eq!(failure_after(|_| ()), None);
        assert_eq!(failure_after(|w| domain(w, &|d| d.paused = true)), None);
        assert_eq!(failure_after(|w| drop(w.state().domains.remove(&9))).as_deref(), Some(GONE));
        assert_eq!(failure_after(|w| domain(w, &|d| d.dying = true)).as_deref(), Some(GONE));
        assert_eq!(failure_after(|w| w.clear(&paths::domain(9))).as_deref(), Some(GOING));
        assert_eq!(failure_after(|w| domain(w, &|d| d.shutdown = Some(3))).as_deref(), Some("crashed"));
        let crashed = failure_after(|w| {
            domain(w, &|d| d.shutdown = Some(1));
            says(w, "error", "no\nmemory");
        });
        assert_eq!(crashed.as_deref(), Some("shut down (reason 1); it said: no?memory"));
        let failed = failure_after(|w| says(w, "state", "failed"));
        assert_eq!(failed.as_deref(), Some("failed: failed, without a reason"));
    }

    #[test]
    fn another_domain_with_the_stubs_number_is_not_the_stub() {
        let other = handle_of(&Identity::new(5).unwrap().uuid);
        let failure = failure_after(|w| w.state().domains.get_mut(&9).unwrap().handle = other);
        assert_eq!(failure.as_deref(), Some(GONE));
    }
}
