//! The event loop: serve while there is work, poll for a moment more, then block.

use crate::disks::Engine;
use crate::report;
use crate::stats::{self, Rounds};
use alloc::vec::Vec;
use backend::{Stub, upkeep};
use drivers::xenstore::Xenstore;
use kernel::{BootInfo, ForeignMap, Hypervisor, Port, ShutdownReason, Xen};
use log::error;

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
    let mut ports: Vec<Port> = Vec::new();
    report::serving(xs, boot);
    stats::watch(xs);
    let mut counts = Rounds::default();
    let mut last_work_ns = xen.now_ns();
    let mut rounds = 0u32;
    loop {
        rounds = rounds.wrapping_add(1);
        let worked = stub.run_once();
        counts.looks.bump();
        if worked {
            counts.worked.bump();
            last_work_ns = xen.now_ns();
            if !rounds.is_multiple_of(STORE_ROUNDS) {
                continue;
            }
        } else if xen.now_ns().saturating_sub(last_work_ns) < SPIN_NS {
            continue;
        }
        let mut asked = false;
        let changed = upkeep::look_after(xs, &mut stub, |xs, event| {
            asked |= stats::is_asked(event);
            on_event(xs, event);
        });
        if asked {
            stats::tell(xs, &stub, &counts);
        }
        if changed || worked || stub.arm() {
            continue;
        }
        // A disk has another port when it has another backend.
        ports.clear();
        ports.extend_from_slice(stub.ports());
        ports.push(xs.port());
        counts.blocks.bump();
        if let Err(errno) = xen.poll(&ports, upkeep::due_ns(&mut stub)) {
            error!("cannot wait for events: {errno}");
            let (teardown, _) = stub.stop();
            error!("ioreq server ended: {teardown:?}");
            return ShutdownReason::Crash;
        }
    }
}

/// The image itself watches nothing, unless it is to have bugs.
#[cfg(not(feature = "crash-on-demand"))]
fn on_event(_: &mut Xenstore<Xen>, _: &drivers::xenstore::WatchEvent) {}
#[cfg(feature = "crash-on-demand")]
use crate::crash::on_event;
