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
    #[cfg(feature = "nbd")]
    let network = network(stub);
    if xs.take_events_lost() {
        // What the lost events were about is not known: each disk reads it again.
        pv_disks(stub).for_each(|disk| report(disk.refresh(xs)));
        #[cfg(feature = "nbd")]
        network.iter().for_each(|network| report(network.refresh(xs)));
    }
    for _ in 0..EVENTS_AT_ONCE {
        let Some(event) = xs.next_event() else { break };
        on_event(xs, &event);
        pv_disks(stub).for_each(|disk| report(disk.on_watch(xs, &event.path)));
        #[cfg(feature = "nbd")]
        network.iter().for_each(|network| report(network.on_watch(xs, &event.path)));
    }
    let mut changed = false;
    for disk in pv_disks(stub) {
        changed |= disk.service_connection(xs);
    }
    #[cfg(feature = "nbd")]
    if let Some(network) = network {
        changed |= network.service(xs) | network.poll();
        for disk in nbd_disks(stub) {
            changed |= disk.service_connection();
        }
    }
    // The interrupt comes before the stub blocks, and leaves no other work.
    stub.update_capacities();
    changed
}

/// When [`housekeep`] has something to do, without an event.
pub fn due_ns<H: Hypervisor, M: GuestMemory>(stub: &mut Stub<H, M, AnyStorage<H>>) -> Option<u64> {
    let due_ns = pv_disks(stub).filter_map(|disk| disk.due_ns()).min();
    #[cfg(feature = "nbd")]
    let due_ns = {
        let network_ns = network(stub).and_then(|network| network.due_ns());
        let disks_ns = nbd_disks(stub).filter_map(|disk| disk.due_ns()).min();
        [due_ns, network_ns, disks_ns].into_iter().flatten().min()
    };
    due_ns
}

/// Asks for an event with the next frame of the network: others than those of requests need an answer, too.
/// True: something has come.
#[cfg(feature = "nbd")]
pub fn enable_network_events<H: Hypervisor, M: GuestMemory>(stub: &mut Stub<H, M, AnyStorage<H>>) -> bool {
    network(stub).is_some_and(|network| network.enable_events())
}

/// All exports are on one network.
#[cfg(feature = "nbd")]
fn network<H: Hypervisor, M: GuestMemory>(stub: &mut Stub<H, M, AnyStorage<H>>) -> Option<net::Network<H>> {
    nbd_disks(stub).next().map(|disk| disk.network().clone())
}

#[cfg(feature = "nbd")]
fn nbd_disks<H: Hypervisor, M: GuestMemory>(
    stub: &mut Stub<H, M, AnyStorage<H>>,
) -> impl Iterator<Item = &mut crate::storage::NbdDisk<H>> {
    stub.storages().filter_map(AnyStorage::nbd_mut)
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
