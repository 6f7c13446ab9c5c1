//! Requests and watch events over the xenstore ring, while xenstored goes on at each access of the stub.
//!
//! Ours: `drivers::Xenstore`. A model: `drivers::fake::XenStored`, whose messages come in pieces of any
//! size.

use drivers::Xenstore;
use drivers::fake::XenStored;
use kernel::fake::FakeXen;
use kernel::{DomId, Hypervisor};
use proofs::explore::{Choices, explore};
use proofs::interleaved::Interleaved;
use std::cell::{Cell, OnceCell};
use std::rc::Rc;

/// What is left to happen.
struct World {
    choices: Choices,
    xen: FakeXen,
    store: XenStored,
    written: Cell<bool>,
    budget: Cell<u32>,
}

impl World {
    /// At an access of the stub: nothing, a step of xenstored, or a write to the watched node.
    fn moment(&self) {
        if self.budget.get() == 0 {
            return;
        }
        match self.choices.pick(3) {
            0 => return,
            1 => self.xen.run_peers(1),
            _ => {
                self.write();
            }
        }
        self.budget.set(self.budget.get() - 1);
    }

    /// The node is written, once. False: it was before.
    fn write(&self) -> bool {
        let first = !self.written.replace(true);
        if first {
            self.store.write("/watched", "new");
        }
        first
    }
}

/// Reads a node that is larger than a piece, and waits for the event of another.
fn run(choices: &Choices, chunk_bytes: usize, budget: u32) {
    let xen = FakeXen::new(DomId(7));
    let place: Rc<OnceCell<Rc<World>>> = Rc::default();
    let other = place.clone();
    let moments = Interleaved::new(move || other.get().into_iter().for_each(|world| world.moment()));
    // What xenstored does while the stub waits is no access of the stub's: peers run in this order.
    let gate = moments.clone();
    xen.on_idle(move || {
        gate.enter();
        false
    });
    let store = XenStored::start(&xen);
    let gate = moments.clone();
    xen.on_idle(move || {
        gate.leave();
        false
    });
    store.write("/value", &"v".repeat(40));
    store.write("/watched", "old");
    let mut xs = Xenstore::new(&xen).expect("a ring");
    xs.watch("/watched", "token").expect("a watch");
    assert!(xs.wait_event("token", 1_000_000_000).expect("a good ring").is_some());
    store.knobs(|knobs| knobs.chunk_bytes = chunk_bytes);
    let world = Rc::new(World {
        choices: choices.clone(),
        xen: xen.clone(),
        store,
        written: Cell::new(false),
        budget: Cell::new(budget),
    });
    let _set = place.set(world.clone());
    let hook = moments.clone();
    xen.before("evtchn_send", move || hook.moment());
    let hook = moments.clone();
    xen.before("evtchn_take_pending", move || hook.moment());
    let installed = moments.install();
    // The clock moves only where a sleep has no other end than its deadline.
    let start_ns = xen.now_ns();
    assert_eq!(xs.read_string("/value").as_deref(), Ok("v".repeat(40).as_str()));
    assert_eq!(xen.now_ns(), start_ns, "an answer was slept through");
    // If it was not written by now, it is when nobody has anything else to do.
    let last = world.clone();
    xen.on_idle(move || last.write());
    let event = loop {
        xs.poll_events().expect("a good ring");
        if let Some(event) = xs.next_event() {
            break event;
        }
        if !xs.has_pending() {
            // It fails if nothing can end it.
            xen.poll(&[xs.port()], None).expect("a good port");
        }
    };
    assert_eq!((event.path.as_str(), event.token.as_str()), ("/watched", "token"));
    assert_eq!(xs.read_string("/watched").as_deref(), Ok("new"));
    drop(installed);
    // They hold the world, which holds them.
    xen.forget_peers();
}

fn all(chunk_bytes: usize, budget: u32) {
    let ways = explore(1_000_000, |choices| run(choices, chunk_bytes, budget));
    println!("{ways} ways");
    assert!(ways > 50, "{ways} ways are few");
}

#[test]
fn requests_are_answered_and_events_not_slept_through() {
    for chunk_bytes in [1, 7, 16, 1024] {
        all(chunk_bytes, 1);
    }
}

#[test]
#[ignore = "takes minutes"]
fn requests_are_answered_and_events_not_slept_through_with_more_interruptions() {
    for chunk_bytes in [16, 1024] {
        all(chunk_bytes, 3);
    }
}
