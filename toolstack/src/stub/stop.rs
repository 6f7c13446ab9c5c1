//! The end of a stub: destroy it, then tell libxl, never the other way round. Were libxl told
//! first, a rebooting guest could have its new stub while the old one still writes.

use anyhow::{Context, Result, bail};

use crate::disk::loops;
use super::identity::find_stubs;
use super::launch::Env;
use crate::disk::node::{self, state};
use super::record;
use crate::xenstore::paths;

/// Destroys whatever stub domains exist for `guest`, and detaches what stubs left that are gone.
///
/// # Errors
/// One is still there.
pub fn sweep(cx: &Env<'_>, guest: u16) -> Result<()> {
    for stub in find_stubs(cx.store, cx.host)?.into_iter().filter(|s| s.identity.guest == guest) {
        log::debug!("guest {guest}: destroying stub domain {}", stub.domid);
        let destroyed = cx.host.destroy(stub.domid);
        // What counts is that it has gone, not what xl said on the way.
        let left = find_stubs(cx.store, cx.host)?.contains(&stub);
        if left {
            destroyed.with_context(|| format!("domain {}", stub.domid))?;
            bail!("domain {} is still there after xl destroy", stub.domid);
        }
    }
    loops::sweep_loops(cx.store, cx.host)
}

/// Ends service for `guest`: no stub, disks closed, nothing recorded.
///
/// # Errors
/// The stub could not be destroyed; then libxl is not told, and it can be tried again.
pub fn stop(cx: &Env<'_>, guest: u16) -> Result<()> {
    record::stopping(cx.store, guest)?;
    sweep(cx, guest)?;
    for node in node::states(cx.store, guest)? {
        let path = format!("{}/state", paths::backend(guest, node.disk));
        cx.store.update(&path, &|old| (old != state::CLOSED).then_some(state::CLOSED))?;
    }
    record::remove(cx.store, guest)
}

/// Removes what libxl left of a guest's closed disks. With dom0 as backend libxl removes the
/// nodes itself; a daemon that did so at once would make libxl report a failed removal.
///
/// # Errors
/// xenstore cannot be written.
pub fn tidy(cx: &Env<'_>, guest: u16) -> Result<()> {
    for node in node::states(cx.store, guest)?.iter().filter(|n| n.state == state::CLOSED) {
        cx.store.remove(&paths::backend(guest, node.disk))?;
    }
    cx.store.remove_if_empty(&paths::guest_backends(guest))?;
    Ok(())
}
