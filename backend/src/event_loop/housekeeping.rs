//! What the event loop does besides serving: the storage engines' xenstore events and times.

use crate::guest_mem::GuestMemory;
use crate::storage::{AnyStorage, PvDisk};
use crate::stub::Stub;
use drivers::Xenstore;
use drivers::xenstore::{StoreError, WatchEvent};
use kernel::Hypervisor;
use log::warn;

/// Events handed out at once: each may cost requests to xenstored, for whose answers the guest's
/// accesses wait, and a storage backend makes as many events as it likes.
const EVENTS_AT_ONCE: u32 = 4;

/// Hands out some of what xenstore tells, lets every engine do what is due (a bounded amount, it
/// waits for no storage backend), and tells the guest of new lengths. `on_event` sees every event
/// too, for watches of the image's own. True if there may be work for [`Stub::run_once`]: do not
/// block then, nor while there is more ([`Xenstore::has_pending`]).
pub fn housekeep<H: Hypervisor, M: GuestMemory>(
    xs: &mut Xenstore<H>,
    stub: &mut Stub<H, M, AnyStorage<H>>,
    mut on_event: impl FnMut(&mut Xenstore<H>, &WatchEvent),
) -> bool {
    match xs.poll_events() {
        // A dead xenstore does not stop the disks. It was told when it died.
        Ok(_) | Err(StoreError::Fault(_)) => {}
        Err(error) => warn!("{error}"),
    }
    if xs.take_events_lost() {
        // What the lost events were about is not known: each disk reads it again.
        pv_disks(stub).for_each(|disk| report(disk.refresh(xs)));
    }
    for _ in 0..EVENTS_AT_ONCE {
        let Some(event) = xs.next_event() else { break };
        on_event(xs, &event);
        pv_disks(stub).for_each(|disk| report(disk.on_watch(xs, &event.path)));
    }
    let mut changed = false;
    for disk in pv_disks(stub) {
        changed |= disk.service_connection(xs);
    }
    // The interrupt comes before the stub blocks, and leaves no other work.
    stub.update_capacities();
    changed
}

/// When [`housekeep`] has something to do, without an event.
pub fn due_ns<H: Hypervisor, M: GuestMemory>(stub: &mut Stub<H, M, AnyStorage<H>>) -> Option<u64> {
    pv_disks(stub).filter_map(|disk| disk.due_ns()).min()
}

fn pv_disks<H: Hypervisor, M: GuestMemory>(
    stub: &mut Stub<H, M, AnyStorage<H>>,
) -> impl Iterator<Item = &mut PvDisk<H>> {
    stub.storages().filter_map(AnyStorage::pv_mut)
}

fn report(result: Result<(), StoreError>) {
    if let Err(error) = result {
        warn!("the state of a disk's storage backend cannot be read: {error}");
    }
}
