//! What the event loop does besides serving: the storage engines' xenstore events and times.

use crate::guest_mem::GuestMemory;
use crate::storage::AnyStorage;
use crate::stub::Stub;
use drivers::Xenstore;
use drivers::xenstore::{StoreError, WatchEvent};
use kernel::Hypervisor;
use log::warn;

/// Events handed out at once: each may cost requests to xenstored, for whose answers the guest's
/// accesses wait, and a backend makes as many events as it likes.
const EVENTS_AT_ONCE: u32 = 4;

/// Hands out some of what xenstore tells, lets every engine do what is due (a bounded amount, it
/// waits for no backend), and tells the guest of new lengths. `other` sees every event too, for
/// watches of the image's own. True if there may be work for [`Stub::run_once`]: do not block
/// then, nor while there is more ([`Xenstore::has_news`]).
pub fn look_after<H: Hypervisor, M: GuestMemory>(
    xs: &mut Xenstore<H>,
    stub: &mut Stub<H, M, AnyStorage<H>>,
    mut other: impl FnMut(&mut Xenstore<H>, &WatchEvent),
) -> bool {
    match xs.poll_events() {
        // A dead xenstore does not stop the disks. It was told when it died.
        Ok(_) | Err(StoreError::Fault(_)) => {}
        Err(error) => warn!("{error}"),
    }
    if xs.take_events_lost() {
        stub.storages().for_each(|engine| tell(engine.look(xs)));
    }
    for _ in 0..EVENTS_AT_ONCE {
        let Some(event) = xs.next_event() else { break };
        other(xs, &event);
        stub.storages().for_each(|engine| tell(engine.on_watch(xs, &event.path)));
    }
    let mut changed = false;
    for engine in stub.storages() {
        changed |= engine.tend(xs);
    }
    stub.update_capacities() > 0 || changed
}

/// When [`look_after`] has something to do, without an event.
pub fn due_ns<H: Hypervisor, M: GuestMemory>(stub: &mut Stub<H, M, AnyStorage<H>>) -> Option<u64> {
    stub.storages().filter_map(|engine| engine.due_ns()).min()
}

fn tell(judged: Result<(), StoreError>) {
    if let Err(error) = judged {
        warn!("a disk's backend cannot be looked at: {error}");
    }
}
