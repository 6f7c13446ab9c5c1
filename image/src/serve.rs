//! The event loop: serve while there is work, poll for a moment more, then block.

use crate::disks::Engine;
use crate::report;
use alloc::vec::Vec;
use backend::Stub;
use backend::storage::AnyStorage;
use drivers::blkfront::WatchOutcome;
use drivers::xenstore::Xenstore;
use kernel::{BootInfo, ForeignMap, Hypervisor, Port, ShutdownReason, Xen};
use log::{error, info, warn};

/// How long to look for more work before giving the CPU away. A blocked stub answers a
/// guest's access several times later than one that looks.
const SPIN_NS: u64 = 50_000;
/// Busy rounds after which xenstore gets a look, so that load cannot keep it out.
const STORE_ROUNDS: u32 = 256;

/// Serves until the domain is destroyed; returns only if it cannot go on.
pub fn run(
    xen: &Xen,
    boot: &BootInfo,
    xs: &mut Xenstore<Xen>,
    mut stub: Stub<Xen, ForeignMap, Engine>,
) -> ShutdownReason {
    let mut ports: Vec<Port> = stub.ports().to_vec();
    ports.push(xs.port());
    report::serving(xs, boot);
    let mut last_work_ns = xen.now_ns();
    let mut rounds = 0u32;
    loop {
        rounds = rounds.wrapping_add(1);
        let worked = stub.run_once();
        if worked {
            last_work_ns = xen.now_ns();
            if !rounds.is_multiple_of(STORE_ROUNDS) {
                continue;
            }
        } else if xen.now_ns().saturating_sub(last_work_ns) < SPIN_NS {
            continue;
        }
        look_at_store(xs, &mut stub);
        if worked || stub.arm() {
            continue;
        }
        if let Err(errno) = xen.poll(&ports, None) {
            error!("cannot wait for events: {errno}");
            let (teardown, _) = stub.stop();
            error!("ioreq server ended: {teardown:?}");
            return ShutdownReason::Crash;
        }
    }
}

/// Lets the PV disks judge what happened to their backends; the guest learns of new lengths.
fn look_at_store(xs: &mut Xenstore<Xen>, stub: &mut Stub<Xen, ForeignMap, Engine>) {
    if let Err(error) = xs.poll_events() {
        warn!("{error}");
        return;
    }
    if xs.take_events_lost() {
        for engine in stub.storages() {
            if let AnyStorage::Pv(disk) = engine {
                let path = alloc::string::String::from(disk.front().backend_path());
                judge(xs, engine, &path);
            }
        }
    }
    while let Some(event) = xs.next_event() {
        for engine in stub.storages() {
            judge(xs, engine, &event.path);
        }
    }
    stub.update_capacities();
}

fn judge(xs: &mut Xenstore<Xen>, engine: &mut Engine, path: &str) {
    let AnyStorage::Pv(disk) = engine else { return };
    match disk.front().on_watch(xs, path) {
        Ok(WatchOutcome::Lost) => error!("{path}: the backend left; its requests fail from now on"),
        Ok(WatchOutcome::Resized) => {
            info!("{path}: the disk has {} sectors now", disk.front().geometry().sectors)
        }
        Ok(WatchOutcome::NotOurs | WatchOutcome::Unchanged) => {}
        Err(error) => warn!("{path}: {error}"),
    }
}
