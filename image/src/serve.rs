//! The event loop: serve while there is work, look for more for a while, then block.

use alloc::vec::Vec;
use backend::look::Look;
use backend::upkeep;
use drivers::xenstore::Xenstore;
use kernel::{BootInfo, Hypervisor, Port, ShutdownReason, Xen};
use life::{Begun, ImageStub, Rounds};

/// Looks in vain between two readings of the clock, which is dear in an emulator.
const CLOCK_LOOKS: u32 = 16;
/// How often others are asked whether they want the CPU, the first time after [`CLOCK_LOOKS`]: a vCPU
/// that was just woken may be queued for ours, and Xen lets us have it for 1 ms (`ratelimit_us`).
const YIELD_NS: u64 = 100_000;
/// Busy rounds after which xenstore gets a look, so that load cannot keep it out.
const STORE_ROUNDS: u32 = 256;
/// Rounds after which a few stale pages of the guest's memory are unmapped, for the same reason.
const SWEEP_ROUNDS: u32 = 32;

/// Serves until the domain is destroyed; returns only if it cannot go on.
pub fn run(xen: &Xen, boot: &BootInfo, begun: Begun) -> ShutdownReason {
    let Begun { mut xs, mut stub, poll_ns } = begun;
    let xs: &mut Xenstore<Xen> = &mut xs;
    let mut ports: Vec<Port> = Vec::new();
    life::serving(xs, boot);
    let mut counts = Rounds::default();
    let mut look = Look::new(poll_ns);
    let mut rounds = 0u32;
    loop {
        rounds = rounds.wrapping_add(1);
        let worked = stub.run_once();
        counts.looks.bump();
        let mut idle_since_ns = None;
        counts.worked.add(worked.into());
        let unswept = stub.memory().is_unswept();
        if unswept && rounds.is_multiple_of(SWEEP_ROUNDS) {
            stub.memory().sweep();
        }
        // Who has something to do does not look for more.
        let busy =
            worked || !unswept && look_for_news(xen, &mut stub, &mut look, &mut counts, &mut idle_since_ns);
        if busy && !rounds.is_multiple_of(STORE_ROUNDS) {
            continue;
        }
        let changed = life::look_after(xs, &mut stub, &counts);
        if changed || busy || stub.arm() || xs.has_pending() {
            continue;
        }
        // A disk has another port when it has another backend.
        ports.clear();
        ports.extend_from_slice(stub.ports());
        ports.push(xs.port());
        let nap_ns = stub.nap_until_ns(|| xen.now_ns());
        if unswept {
            stub.memory().sweep();
            continue;
        }
        counts.blocks.bump();
        let due_ns = upkeep::due_ns(&mut stub).into_iter().chain(nap_ns).min();
        if let Err(errno) = xen.poll(&ports, due_ns) {
            return life::end(stub, errno);
        }
        if let Some(since_ns) = idle_since_ns {
            look.note(xen.now_ns().saturating_sub(since_ns));
        }
    }
}

/// Looks for as long as that pays; whether there is news. `since_ns`: when it began, if the clock
/// was read.
fn look_for_news(
    xen: &Xen,
    stub: &mut ImageStub,
    look: &mut Look,
    counts: &mut Rounds,
    since_ns: &mut Option<u64>,
) -> bool {
    if look.limit_ns() == 0 || !stub.should_look() {
        return false;
    }
    let (mut yielded_ns, mut given_away) = (0, false);
    loop {
        for _ in 0..CLOCK_LOOKS {
            counts.looks.bump();
            if stub.look() {
                if let Some(since_ns) = *since_ns {
                    look.note(xen.now_ns().saturating_sub(since_ns));
                }
                return true;
            }
        }
        let now_ns = xen.now_ns();
        if now_ns.saturating_sub(*since_ns.get_or_insert(now_ns)) >= look.limit_ns() {
            return false;
        }
        if now_ns.saturating_sub(yielded_ns) >= YIELD_NS {
            let waited_ns = xen.waited_ns();
            xen.yield_cpu();
            if xen.waited_ns() != waited_ns {
                // Once it may be the vCPU that we wait for. Twice, others have work to do, our
                // backend perhaps: no CPU is to spare for looking.
                if given_away {
                    return false;
                }
                given_away = true;
            }
            yielded_ns = now_ns;
        }
    }
}
