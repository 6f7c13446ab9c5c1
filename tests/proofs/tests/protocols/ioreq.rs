//! The end of an ioreq server, orderly or by a panic at any access of the stub, while vCPUs go on.
//!
//! Ours: `backend::ioreq::Server` and its slots. A model: the vCPUs, which do what Xen's `ioreq_send` and
//! `wait_for_io` do, each of them in one step. Xen pauses the guest for each change of a server, so no
//! step of theirs is cut by one.

use backend::access::Reply;
use backend::ioreq::{Event, PanicTeardown, Server, TeardownOutcome};
use kernel::fake::{Event as XenEvent, FakeXen, GuestAccess};
use kernel::{DomId, Hypervisor, Order, Port, SharedPage};
use proofs::explore::{Choices, explore};
use proofs::interleaved::Interleaved;
use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use xen_pv_sys::dm_op::ioreq;

const STUB: DomId = DomId(7);
const GUEST: DomId = DomId(5);
const MMIO: u64 = 0x0200_0000;
/// When a sleep ends that no event ends.
const NEVER_NS: u64 = 1 << 60;

/// Where a vCPU is.
enum State {
    /// In the guest.
    Runs,
    /// In Xen, until its slot is answered.
    Waits { page: SharedPage, port: Port },
    /// Its access found no server: the guest got an abort.
    Aborted,
}

struct Vcpu {
    number: usize,
    state: State,
    accesses_left: u32,
    /// The administrator has paused it: it takes no answer.
    paused: bool,
}

impl Vcpu {
    fn address(&self) -> u64 {
        MMIO + self.number as u64 * 4
    }

    fn waits(&self) -> bool {
        matches!(self.state, State::Waits { .. })
    }

    /// Goes a step, if it can.
    fn step(&mut self, guest: &FakeXen) -> bool {
        match &self.state {
            State::Runs if self.accesses_left > 0 => {
                self.accesses_left -= 1;
                self.state = self.send(guest);
                true
            }
            State::Waits { page, port } if !self.paused && guest.evtchn_take_pending(*port) => {
                let at = self.number * ioreq::SIZE;
                let bits: u8 = page.load(at + ioreq::STATE_BITS, Order::AcqRel).expect("inside");
                if bits & ioreq::STATE_MASK == ioreq::STATE_RESP_READY {
                    let data: u64 = page.load(at + ioreq::DATA, Order::Relaxed).expect("inside");
                    assert!([self.address() + 1, u64::MAX].contains(&data), "an answer to something else");
                    page.store(at + ioreq::STATE_BITS, 0u8, Order::AcqRel).expect("inside");
                    self.state = State::Runs;
                }
                true
            }
            _ => false,
        }
    }

    fn send(&self, guest: &FakeXen) -> State {
        let page = guest.guest_access(self.number, GuestAccess::read(self.address()));
        let Some(page) = page else { return State::Aborted };
        let port: u32 =
            page.load(self.number * ioreq::SIZE + ioreq::VP_EPORT, Order::Relaxed).expect("inside");
        State::Waits { page, port: Port(port) }
    }
}

/// All that happens, but for the stub.
struct World {
    choices: Choices,
    xen: FakeXen,
    guest: FakeXen,
    vcpus: RefCell<Vec<Vcpu>>,
    /// Steps of others that may still come at an access of the stub.
    budget: Cell<u32>,
    panic: Option<PanicTeardown<FakeXen>>,
    panicked: Cell<bool>,
    /// Judged: what still happens is of no interest.
    over: Cell<bool>,
    moments: OnceCell<Rc<Interleaved>>,
}

impl World {
    /// What happens at an access of the stub: nothing, a step of a vCPU, or the stub's panic.
    fn moment(&self) {
        while self.budget.get() > 0 && !self.over.get() {
            let count = self.vcpus.borrow().len();
            let may_panic = self.panic.is_some() && !self.panicked.get();
            let chosen = self.choices.pick(count + 1 + usize::from(may_panic));
            if chosen == 0 {
                return;
            }
            if chosen > count {
                self.panic();
            }
            self.budget.set(self.budget.get() - 1);
            let moved = self.vcpus.borrow_mut()[chosen - 1].step(&self.guest);
            if !moved {
                // As if nothing had been chosen.
                self.budget.set(0);
            }
        }
    }

    /// The panic handler runs, and nothing after it.
    fn panic(&self) -> ! {
        let (Some(teardown), Some(moments)) = (&self.panic, self.moments.get()) else { panic!("no handler") };
        self.panicked.set(true);
        let outcome = moments.by_stub(|| teardown.run());
        self.judge(outcome);
        self.over.set(true);
        resume_unwind(Box::new("the stub's panic"));
    }

    /// Somebody goes a step while the stub lets others run.
    fn idle(&self) -> bool {
        let Some(moments) = self.moments.get().filter(|_| !self.over.get()) else { return false };
        moments.enter();
        let moved = self.vcpus.borrow_mut().iter_mut().any(|vcpu| vcpu.step(&self.guest));
        moments.leave();
        moved
    }

    fn judge(&self, outcome: TeardownOutcome) {
        let waiting = self.vcpus.borrow().iter().filter(|vcpu| vcpu.waits()).count();
        let destroyed =
            self.xen.take_events().iter().any(|event| matches!(event, XenEvent::ServerDestroyed(_)));
        match outcome {
            TeardownOutcome::Clean => {
                assert!(destroyed, "the server is left");
                assert_eq!(waiting, 0, "a vCPU waits for a server that is gone");
            }
            TeardownOutcome::Undrained(vcpus) => {
                assert!(!destroyed, "a vCPU waits for a server that is gone");
                assert!(self.vcpus.borrow().iter().any(|vcpu| vcpu.paused), "all vCPUs could run");
                assert_eq!(waiting, vcpus as usize);
            }
        }
        while self.idle() {}
        let stranded = self.vcpus.borrow().iter().any(|vcpu| vcpu.waits() && !vcpu.paused);
        assert!(!stranded, "a vCPU waits without end");
    }
}

/// What a stub does with its server, until nothing is left to do.
fn serve(server: &Server<FakeXen>, world: &World) {
    loop {
        let mut waiting = server.next_waiting(0);
        while let Some(vcpu) = waiting {
            if let Some(slot) = server.take(vcpu) {
                let Ok(Event::Mmio(access)) = slot.event() else { panic!("a good access") };
                slot.answer(Reply(access.addr + 1));
            }
            waiting = server.next_waiting(vcpu + 1);
        }
        if server.enable_events() {
            continue;
        }
        // It blocks now; the fake lets the others run, and its clock ends a sleep that nobody else ends.
        world.xen.poll(server.ports(), Some(NEVER_NS)).expect("good ports");
        if world.xen.now_ns() >= NEVER_NS {
            return;
        }
    }
}

/// One run: two vCPUs, the stub serves and ends.
fn run(choices: &Choices, budget: u32, panics: bool, paused: bool) {
    let xen = FakeXen::new(STUB);
    xen.set_target(GUEST, 2);
    // So that a wait has an end.
    xen.set_tick_ns(10_000_000);
    let mut server = Server::start(&xen, GUEST, &[MMIO..=MMIO + 0xfff]).expect("starts");
    let vcpu = |number| Vcpu { number, state: State::Runs, accesses_left: 1, paused: paused && number == 1 };
    let world = Rc::new(World {
        choices: choices.clone(),
        xen: xen.clone(),
        guest: xen.domain(GUEST),
        vcpus: RefCell::new(vec![vcpu(0), vcpu(1)]),
        budget: Cell::new(budget),
        panic: panics.then(|| server.panic_teardown()),
        panicked: Cell::new(false),
        over: Cell::new(false),
        moments: OnceCell::new(),
    });
    let other = world.clone();
    let moments = Interleaved::new(move || other.moment());
    let _set = world.moments.set(moments.clone());
    for name in ["evtchn_send", "ioreq_server_set_state"] {
        let moments = moments.clone();
        xen.before(name, move || moments.moment());
    }
    let peer = world.clone();
    xen.on_idle(move || peer.idle());
    let installed = moments.install();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        serve(&server, &world);
        server.end()
    }));
    let judged = world.over.replace(true);
    xen.forget_peers();
    drop(installed);
    match ended {
        Ok(outcome) => {
            world.over.set(false);
            world.judge(outcome);
            world.over.set(true);
        }
        // Judged where it happened.
        Err(_) if judged => {}
        Err(why) => resume_unwind(why),
    }
}

/// How many ways there are, and that they are not few: a world in which nothing happens proves nothing.
fn all(budget: u32, panics: bool, paused: bool) {
    let ways = explore(1_000_000, |choices| run(choices, budget, panics, paused));
    println!("{ways} ways");
    assert!(ways > 500, "{ways} ways are few");
}

#[test]
fn an_orderly_end_strands_no_vcpu() {
    all(2, false, false);
}

#[test]
fn a_panic_at_any_access_strands_no_vcpu() {
    all(1, true, false);
}

#[test]
fn a_server_is_left_to_a_vcpu_that_takes_no_answer() {
    all(1, true, true);
}

#[test]
#[ignore = "takes minutes"]
fn a_panic_at_any_access_strands_no_vcpu_of_two_that_interrupt() {
    all(2, true, false);
}
