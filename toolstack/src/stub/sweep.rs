//! Removing what stubs left behind: domains that nobody needs, and loop devices of domains that are
//! gone.

use anyhow::{Context, Result, bail};

use super::identity::find_stubs;
use crate::disk::loops;
use crate::env::Env;
use crate::host::Host;
use crate::xenstore::{Store, paths};

/// Destroys all stub domains of `guest`, and detaches the loop devices of stubs that are gone.
///
/// # Errors
/// A stub domain is still there.
pub fn sweep(env: &Env<'_>, guest: u16) -> Result<()> {
    for stub in find_stubs(env.store, env.host)?.into_iter().filter(|s| s.identity.guest == guest) {
        log::debug!("guest {guest}: destroying stub domain {}", stub.domid);
        let destroyed = env.host.destroy(stub.domid);
        // What counts is that it has gone, not what xl said on the way.
        let left = find_stubs(env.store, env.host)?.contains(&stub);
        if left {
            destroyed.with_context(|| format!("domain {}", stub.domid))?;
            bail!("domain {} is still there after xl destroy", stub.domid);
        }
    }
    sweep_loops(env.store, env.host)
}

/// Detaches the loop devices of stubs that are gone: those that libxl left.
///
/// # Errors
/// xenstore or Xen cannot be asked. A device that cannot be detached is logged.
pub fn sweep_loops(store: &dyn Store, host: &dyn Host) -> Result<()> {
    // A stub that is being made writes its records while this runs. The records are listed first and
    // the stubs after them, because whoever has a record had its domain before.
    let recorded = store.list(paths::LOOPS)?;
    if recorded.is_empty() {
        return Ok(());
    }
    let alive: Vec<String> = find_stubs(store, host)?.iter().map(|stub| stub.domid.to_string()).collect();
    let gone: Vec<String> = recorded.into_iter().filter(|stub| !alive.contains(stub)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    // The hotplug script holds this lock while it makes a record. Another worker may sweep too, and
    // the device may serve somebody else by now, so each record is read again under the lock.
    let _lock = host.lock_hotplug()?;
    for stub in gone {
        for disk in store.list(&format!("{}/{stub}", paths::LOOPS))? {
            let record = format!("{}/{stub}/{disk}", paths::LOOPS);
            if let Some(value) = store.read(&record)?
                && let Err(e) = host.detach_loop(&value)
            {
                log::warn!("loop device {value}, left by stub domain {stub}: {e:#}");
            }
            loops::forget(store, &record)?;
        }
    }
    Ok(())
}
