//! What the daemon tells libxl about a guest's disks: through their nodes, which libxl watches.

use anyhow::Result;

use super::node::{self, state};
use crate::text::printable;
use crate::xenstore::Store;
use crate::xenstore::paths::{self, Place};

/// Tells libxl that these disks are served. A node that has changed since stays as it is:
/// whoever changed it wants something else, and the main loop will see it.
///
/// # Errors
/// xenstore cannot be written.
pub fn ready(store: &dyn Store, place: Place, disks: &[u32]) -> Result<()> {
    for disk in disks {
        let path = format!("{}/state", place.disk(*disk));
        store.update(&path, &|old| (old == state::INITIALISING).then_some(state::READY))?;
    }
    Ok(())
}

/// Refuses a guest's disks, and says why in the log and in xenstore.
///
/// # Errors
/// xenstore cannot be written.
fn refuse(store: &dyn Store, place: Place, disks: &[u32], why: &str) -> Result<()> {
    if disks.is_empty() {
        return Ok(());
    }
    let (why, guest) = (printable(why, 700), place.guest);
    log::error!("guest {guest}: cannot start: {why}");
    store.write(paths::LAST_ERROR, &format!("guest {guest}: {why}"))?;
    for disk in disks {
        // libxl's wait for a node ends at once when the node goes (`devstate_callback` in
        // libxl_event.c), and the guest's start fails. No state would end it before its 10 s.
        store.remove(&place.disk(*disk))?;
    }
    Ok(())
}

/// Refuses disks that came when the stub had been made for others.
///
/// # Errors
/// xenstore cannot be read or written.
pub fn refuse_late(store: &dyn Store, place: Place, disks: &[u32]) -> Result<()> {
    let label = |disk: &u32| node::label(store, &place.disk(*disk), &disk.to_string());
    let labels: Vec<String> = disks.iter().map(label).collect::<Result<_>>()?;
    let why = format!("disk {}: came after the stub had been made; raise quiet-ms", labels.join(", "));
    refuse(store, place, disks, &why)
}

/// Refuses whatever disks of the guest still wait.
///
/// # Errors
/// xenstore cannot be read or written.
pub fn refuse_new(store: &dyn Store, place: Place, why: &str) -> Result<()> {
    let nodes = node::states(store, place)?;
    let new: Vec<u32> = nodes.iter().filter(|n| n.is_new()).map(|n| n.disk).collect();
    refuse(store, place, &new, why)
}

/// Tells libxl that all disks at `place` are closed.
///
/// # Errors
/// xenstore cannot be read or written.
pub fn closed(store: &dyn Store, place: Place) -> Result<()> {
    for node in node::states(store, place)? {
        let path = format!("{}/state", place.disk(node.disk));
        store.update(&path, &|old| (old != state::CLOSED).then_some(state::CLOSED))?;
    }
    Ok(())
}

/// Removes what libxl left of a guest's closed disks. With dom0 as the backend domain libxl removes
/// the nodes itself; a daemon that did so at once would make libxl report a failed removal.
///
/// # Errors
/// xenstore cannot be read or written.
pub fn tidy(store: &dyn Store, place: Place) -> Result<()> {
    for node in node::states(store, place)?.iter().filter(|n| n.state == state::CLOSED) {
        store.remove(&place.disk(node.disk))?;
    }
    store.remove_if_empty(&place.dir())?;
    Ok(())
}
