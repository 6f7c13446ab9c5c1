//! The event loop: serve while there is work, poll for a moment more, then block.

use alloc::vec::Vec;
use backend::upkeep;
use drivers::xenstore::Xenstore;
use kernel::{BootInfo, Hypervisor, Port, ShutdownReason, Xen};
use life::{ImageStub, Rounds};

/// How long to look for more work before blocking, at least and at most. A blocked stub answers
/// a guest's access several times later than one that looks.
const SPIN_MIN_NS: u64 = 20_000;
const SPIN_MAX_NS: u64 = 400_000;
/// Looks in vain between two readings of the clock, which is dear in an emulator.
const CLOCK_LOOKS: u32 = 16;
/// Busy rounds after which xenstore gets a look, so that load cannot keep it out.
const STORE_ROUNDS: u32 = 256;

/// Serves until the domain is destroyed; returns only if it cannot go on.
pub fn run(xen: &Xen, boot: &BootInfo, xs: &mut Xenstore<Xen>, mut stub: ImageStub) -> ShutdownReason {
    let mut ports: Vec<Port> = Vec::new();
    life::serving(xs, boot);
    let mut counts = Rounds::default();
    // Looks in vain since the last work, and when the first reading of the clock was.
    let mut idle_looks = 0u32;
    let mut idle_since_ns = 0;
    let mut spin_ns = SPIN_MIN_NS;
    let mut rounds = 0u32;
    loop {
        rounds = rounds.wrapping_add(1);
        let worked = stub.run_once();
        counts.looks.bump();
        if worked {
            counts.worked.bump();
            idle_looks = 0;
            if !rounds.is_multiple_of(STORE_ROUNDS) {
                continue;
            }
        } else {
            idle_looks = idle_looks.wrapping_add(1);
            if !idle_looks.is_multiple_of(CLOCK_LOOKS) {
                continue;
            }
            let now_ns = xen.now_ns();
            if idle_looks == CLOCK_LOOKS {
                idle_since_ns = now_ns;
            }
            if now_ns.saturating_sub(idle_since_ns) < spin_ns {
                // Whoever has work to do comes first, our backend above all.
                xen.yield_cpu();
                continue;
            }
        }
        let changed = life::look_after(xs, &mut stub, &counts);
        if changed || worked || stub.arm() {
            continue;
        }
        // A disk has another port when it has another backend.
        ports.clear();
        ports.extend_from_slice(stub.ports());
        ports.push(xs.port());
        counts.blocks.bump();
        let nap_ns = stub.nap_until_ns(|| xen.now_ns());
        let due_ns = upkeep::due_ns(&mut stub).into_iter().chain(nap_ns).min();
        let blocked_ns = xen.now_ns();
        if let Err(errno) = xen.poll(&ports, due_ns) {
            return life::end(stub, errno);
        }
        // Work that came soon after would have been found by looking for longer.
        let waited_ns = xen.now_ns().saturating_sub(blocked_ns);
        spin_ns = if waited_ns < SPIN_MAX_NS { spin_ns.saturating_mul(2) } else { spin_ns / 2 };
        spin_ns = spin_ns.clamp(SPIN_MIN_NS, SPIN_MAX_NS);
    }
}
