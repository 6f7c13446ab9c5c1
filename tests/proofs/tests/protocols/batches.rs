//! Batches: queue, coalescer, event indices and deadlines, in every order of the parties' steps that
//! departs at most so often from a fixed one.
//!
//! Ours: `backend::Stub` with its device, its coalescer, its queue and its slots. A model: the event loop
//! around it (serve, ask for events, sleep), a storage whose requests come back when the world
//! says so, one vCPU whose driver obeys the specification.
//!
//! What must hold: each request is answered and its driver told, and the stub comes to rest.

use backend::access::{Access, Direction};
use backend::blk::{Device, DeviceOptions};
use backend::mmio::regs;
use backend::storage::{Geometry, Io, Outcome, Storage, Submitted, Ticket};
use backend::stub::{Attached, Stub};
use backend::testkit::{BlkRequest, Bus, Driver, Framing, TestMemory};
use kernel::fake::{Event, FakeXen, GuestAccess};
use kernel::{DomId, Hypervisor, Order, Port, SharedPage};
use proofs::explore::{Choices, explore};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use xen_pv_sys::dm_op::ioreq;

const STUB: DomId = DomId(7);
const GUEST: DomId = DomId(5);
const DOM0: DomId = DomId(0);
const MMIO: u64 = 0x0200_0000;
const IRQ: u32 = 33;
const MEMORY_BYTES: usize = 0x6_0000;
/// More steps than any way needs.
const STEPS: u32 = 2_000;

/// Requests on their way through a storage that is asynchronous.
#[derive(Default)]
struct Ring {
    unsent: VecDeque<Ticket>,
    at_backend: VecDeque<Ticket>,
    responses: VecDeque<Ticket>,
    /// Responses in all, and at how many of them there is an event (`rsp_event`).
    responded: u32,
    event_at: u32,
}

struct Store {
    ring: Rc<RefCell<Ring>>,
    port: Port,
}

impl Storage for Store {
    fn geometry(&self) -> Geometry {
        Geometry {
            capacity_sectors: 64,
            block_size_bytes: 512,
            physical_block_size_bytes: 512,
            transfer_bytes: 1 << 20,
            read_only: false,
            flush: true,
            discard: None,
            max_write_zeroes_sectors: 0,
        }
    }

    fn port(&self) -> Option<Port> {
        Some(self.port)
    }

    fn submit(&mut self, _io: &Io<'_>, ticket: Ticket) -> Submitted {
        self.ring.borrow_mut().unsent.push_back(ticket);
        Submitted::Pending
    }

    fn kick(&mut self) {
        let mut ring = self.ring.borrow_mut();
        let sent = std::mem::take(&mut ring.unsent);
        ring.at_backend.extend(sent);
    }

    fn responses(&self) -> u32 {
        u32::try_from(self.ring.borrow().responses.len()).expect("few")
    }

    fn next_completion(&mut self, _io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        Some((self.ring.borrow_mut().responses.pop_front()?, Outcome::Done))
    }

    fn enable_events(&mut self, completions: u32) -> bool {
        let mut ring = self.ring.borrow_mut();
        ring.event_at = ring.responded + completions;
        !ring.responses.is_empty()
    }
}

type TestStub = Stub<FakeXen, TestMemory, Store>;

/// The vCPU's access: it is answered at once while the driver is set up, later on when the stub does.
struct Registers {
    xen: FakeXen,
    stub: Rc<RefCell<TestStub>>,
    page: Rc<RefCell<Option<SharedPage>>>,
    at_once: Rc<Cell<bool>>,
}

impl Bus for Registers {
    fn access(&mut self, access: Access) -> u64 {
        let write = match access.direction {
            Direction::Read => None,
            Direction::Write(value) => Some(value),
        };
        let size_bytes = u32::try_from(access.width.bytes()).expect("small");
        let access = GuestAccess { kind: ioreq::TYPE_COPY, addr: MMIO + access.addr, size_bytes, write };
        self.page.replace(self.xen.guest_access(0, access));
        if !self.at_once.get() {
            return 0;
        }
        self.stub.borrow_mut().run_once();
        answer(&self.page).expect("answered")
    }
}

/// Takes the answer out of the slot, if there is one.
fn answer(page: &RefCell<Option<SharedPage>>) -> Option<u64> {
    let page = page.borrow();
    let page = page.as_ref()?;
    let bits: u8 = page.load(ioreq::STATE_BITS, Order::AcqRel).expect("inside");
    if bits & ioreq::STATE_MASK != ioreq::STATE_RESP_READY {
        return None;
    }
    page.store(ioreq::STATE_BITS, 0u8, Order::AcqRel).expect("inside");
    page.load(ioreq::DATA, Order::Relaxed).ok()
}

/// What the vCPU is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Vcpu {
    Free,
    Notifies,
    ReadsStatus,
    Acknowledges,
}

/// Who may go a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Party {
    Stub,
    Vcpu,
    Storage,
}

/// How the driver brings requests: in groups, each at once or when the one before was answered.
#[derive(Clone, Copy)]
struct Driven {
    groups: &'static [u32],
    closed: bool,
}

struct World {
    choices: Choices,
    /// Departures from the fixed order that are left.
    departures: u32,
    xen: FakeXen,
    dom0: FakeXen,
    dom0_port: Port,
    ring: Rc<RefCell<Ring>>,
    stub: Rc<RefCell<TestStub>>,
    page: Rc<RefCell<Option<SharedPage>>>,
    driver: Driver<Registers>,
    groups: VecDeque<u32>,
    vcpu: Vcpu,
    /// The driver waits for a group's answers before it brings the next one.
    closed: bool,
    interrupted: bool,
    /// The last turn did nothing: it asks for events next.
    idle: bool,
    asleep: bool,
    deadline_ns: Option<u64>,
}

impl World {
    fn new(choices: &Choices, departures: u32, driven: &Driven, features: u64) -> World {
        let xen = FakeXen::new(STUB);
        xen.set_target(GUEST, 1);
        let dom0 = xen.domain(DOM0);
        let port = xen.evtchn_alloc_unbound(DOM0).expect("a port");
        let dom0_port = dom0.evtchn_bind_interdomain(STUB, port.0).expect("a port");
        let ring: Rc<RefCell<Ring>> = Rc::default();
        let device = Device::new(Store { ring: ring.clone(), port }, &DeviceOptions::default());
        let mem = TestMemory::new(MEMORY_BYTES);
        let stub = Stub::start(&xen, GUEST, mem.clone(), vec![Attached { mmio: MMIO, irq: IRQ, device }]);
        let stub = Rc::new(RefCell::new(stub.expect("starts")));
        let (page, at_once) = (Rc::default(), Rc::new(Cell::new(true)));
        let registers = Registers {
            xen: xen.clone(),
            stub: stub.clone(),
            page: Rc::clone(&page),
            at_once: at_once.clone(),
        };
        let mut driver = Driver::new(registers, mem, 0);
        driver.init(features, 16);
        driver.want_interrupt(1);
        at_once.set(false);
        let _earlier = xen.take_events();
        World {
            choices: choices.clone(),
            departures,
            xen,
            dom0,
            dom0_port,
            ring,
            stub,
            page,
            driver,
            groups: driven.groups.iter().copied().collect(),
            vcpu: Vcpu::Free,
            closed: driven.closed,
            interrupted: false,
            idle: false,
            asleep: false,
            deadline_ns: None,
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.wake();
            let parties =
                [Party::Vcpu, Party::Stub, Party::Storage].map(|party| self.can(party).then_some(party));
            let parties: Vec<Party> = parties.into_iter().flatten().collect();
            if let Some(party) = self.choose(&parties) {
                self.step(party);
            } else if let Some(deadline_ns) = self.deadline_ns.take().filter(|_| self.asleep) {
                self.xen.advance_ns(deadline_ns.saturating_sub(self.xen.now_ns()));
                self.asleep = false;
            } else {
                assert!(self.groups.is_empty(), "the driver waits for the stub");
                assert_eq!(
                    self.driver.in_flight(),
                    0,
                    "requests are not answered, or the driver is not told"
                );
                return;
            }
        }
        panic!("the stub never comes to rest");
    }

    fn choose(&mut self, parties: &[Party]) -> Option<Party> {
        if parties.len() < 2 || self.departures == 0 {
            return parties.first().copied();
        }
        let chosen = self.choices.pick(parties.len());
        self.departures -= u32::from(chosen > 0);
        parties.get(chosen).copied()
    }

    fn can(&self, party: Party) -> bool {
        match party {
            Party::Stub => !self.asleep,
            Party::Storage => !self.ring.borrow().at_backend.is_empty(),
            Party::Vcpu if self.vcpu == Vcpu::Free => {
                let waits = self.closed && self.driver.in_flight() > 0;
                self.interrupted || !self.groups.is_empty() && !waits
            }
            Party::Vcpu => self.is_answered(),
        }
    }

    fn is_answered(&self) -> bool {
        let page = self.page.borrow();
        page.as_ref().is_some_and(|page| {
            let bits: u8 = page.load(ioreq::STATE_BITS, Order::AcqRel).expect("inside");
            bits & ioreq::STATE_MASK == ioreq::STATE_RESP_READY
        })
    }

    /// Ends the sleep if an event came.
    fn wake(&mut self) {
        if self.asleep {
            let ports: Vec<Port> = self.stub.borrow().ports().collect();
            let now_ns = self.xen.now_ns();
            // The fake's clock moves if nothing is pending.
            self.xen.poll(&ports, Some(now_ns + 1)).expect("good ports");
            self.asleep = self.xen.now_ns() != now_ns;
        }
    }

    fn step(&mut self, party: Party) {
        match party {
            Party::Stub => self.round(),
            Party::Storage => self.respond(),
            Party::Vcpu => self.go(),
        }
        let irq = Event::Irq(GUEST, IRQ, true);
        self.interrupted |= self.xen.take_events().contains(&irq);
    }

    /// As `EventLoop::round`, without xenstore and without polling.
    fn round(&mut self) {
        let mut stub = self.stub.borrow_mut();
        // Two steps, since others go on between them.
        if !std::mem::take(&mut self.idle) {
            self.idle = !stub.run_once();
        } else if !stub.enable_events() {
            self.deadline_ns = stub.hold_deadline_ns(|| self.xen.now_ns());
            self.asleep = true;
        }
    }

    fn respond(&mut self) {
        let mut ring = self.ring.borrow_mut();
        let Some(ticket) = ring.at_backend.pop_front() else { return };
        ring.responses.push_back(ticket);
        ring.responded += 1;
        if ring.responded == ring.event_at {
            self.dom0.evtchn_send(self.dom0_port).expect("connected");
        }
    }

    fn go(&mut self) {
        let done = self.vcpu;
        let value = if done == Vcpu::Free { 0 } else { answer(&self.page).expect("answered") };
        self.vcpu = Vcpu::Free;
        match done {
            Vcpu::Free if self.interrupted => {
                self.interrupted = false;
                self.driver.read(regs::INTERRUPT_STATUS);
                self.vcpu = Vcpu::ReadsStatus;
            }
            Vcpu::Free => self.submit(),
            Vcpu::Notifies => {}
            Vcpu::ReadsStatus => {
                self.driver.write(regs::INTERRUPT_ACK, u32::try_from(value & 3).expect("two bits"));
                self.vcpu = Vcpu::Acknowledges;
            }
            Vcpu::Acknowledges => self.take_used(),
        }
    }

    fn submit(&mut self) {
        for _ in 0..self.groups.pop_front().unwrap_or(0) {
            let request = BlkRequest { kind: 1, sector: 0, out: vec![7; 512], in_len: 0 };
            self.driver.submit(&request, &Framing::Usual);
        }
        let before = self.driver.kicks;
        self.driver.kick();
        if self.driver.kicks > before {
            self.vcpu = Vcpu::Notifies;
        }
    }

    /// Takes what is used, wants an interrupt for the next, and looks again.
    fn take_used(&mut self) {
        loop {
            while self.driver.next_used().is_some() {}
            self.driver.want_interrupt(1);
            let Some(_used) = self.driver.next_used() else { return };
        }
    }
}

/// With event indices, and without.
fn all(departures: u32, driven: Driven) {
    for features in [u64::MAX, !regs::F_EVENT_IDX] {
        let ways = explore(1_000_000, |choices| World::new(choices, departures, &driven, features).run());
        println!("{ways} ways");
        assert!(ways > 50, "{ways} ways are few");
    }
}

#[test]
fn single_requests_are_answered_and_told() {
    all(2, Driven { groups: &[1, 1, 1], closed: false });
}

#[test]
fn batches_are_answered_and_told() {
    all(2, Driven { groups: &[4, 4, 1], closed: false });
}

/// The last groups are less than the batch that is expected.
#[test]
fn what_is_no_whole_batch_is_answered_in_time() {
    all(2, Driven { groups: &[8, 8, 3, 1], closed: true });
}

#[test]
#[ignore = "takes minutes"]
fn batches_are_answered_and_told_in_more_orders() {
    all(4, Driven { groups: &[4, 4, 2, 1], closed: false });
    all(4, Driven { groups: &[8, 8, 3, 1], closed: true });
}
