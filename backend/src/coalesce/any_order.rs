//! Whatever happens in whatever order: nothing is held beyond its deadline, and nothing is forgotten.

use super::*;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use depth::{BATCH_MAX, WAIT_MAX_NS};
use proptest::prelude::*;

const QUEUES: usize = 3;
/// More turns than any state needs until nothing is left to do.
const MANY_TURNS: u32 = 2_000;

/// What the world does to a stub, and the stub to itself.
#[derive(Clone, Debug)]
enum Step {
    /// The driver makes requests available.
    Arrive {
        queue: usize,
        requests: u32,
        bytes: u64,
    },
    /// The storage backend completes some of what it was told of.
    Respond(usize),
    /// Time passes.
    Pass(u64),
    /// One turn, which collects so many responses at most.
    Turn(usize),
    /// The stub has nothing more to do.
    Sleep,
    /// Another disk's event wakes the stub.
    Wake,
    /// The driver resets a queue, or the device.
    ResetQueue(usize),
    ResetDevice,
    /// The connection to the storage backend breaks, or is there again.
    Connect(bool),
    /// The driver wants interrupts, or none.
    WantInterrupts(bool),
    /// That many disks are busy.
    BusyDisks(u32),
}

#[derive(Clone, Copy, Debug)]
struct Request {
    queue: usize,
    is_orphan: bool,
}

/// A sleep, and what ends it.
#[derive(Clone, Copy, Debug)]
struct Sleep {
    deadline_ns: Option<u64>,
    completions: usize,
    requests: [u32; QUEUES],
}

/// A device, its driver and its storage backend, as far as a coalescer has to do with them.
struct World {
    coalescer: Coalescer,
    now_ns: u64,
    connected: bool,
    interrupts: bool,
    busy_disks: u32,
    busy_disks_max: u32,
    /// Data of each available request, by queue.
    available: [VecDeque<u64>; QUEUES],
    unsent: Vec<Request>,
    at_backend: Vec<Request>,
    responses: VecDeque<Request>,
    completed: u64,
    unsignalled: [u16; QUEUES],
    /// When what is held now has to go at the latest, once the clock was read.
    held_until_ns: Option<u64>,
    asleep: Option<Sleep>,
}

impl World {
    fn new() -> World {
        World {
            coalescer: Coalescer::new(3),
            now_ns: 1,
            connected: true,
            interrupts: true,
            busy_disks: 1,
            busy_disks_max: 1,
            available: Default::default(),
            unsent: Vec::new(),
            at_backend: Vec::new(),
            responses: VecDeque::new(),
            completed: 0,
            unsignalled: [0; QUEUES],
            held_until_ns: None,
            asleep: None,
        }
    }

    fn in_flight(&self) -> usize {
        self.unsent.len() + self.at_backend.len() + self.responses.len()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Arrive { queue, requests, bytes } => {
                let room = 64usize.saturating_sub(self.available[queue].len());
                for _ in 0..room.min(requests as usize) {
                    self.available[queue].push_back(bytes);
                }
            }
            Step::Respond(count) => self.respond(count),
            Step::Pass(ns) => {
                let end_ns = self.now_ns + ns;
                let deadline_ns = self.asleep.and_then(|sleep| sleep.deadline_ns);
                self.now_ns =
                    deadline_ns.map_or(end_ns, |deadline_ns| deadline_ns.clamp(self.now_ns, end_ns));
            }
            Step::Turn(limit) => {
                if self.asleep.is_none() {
                    self.turn(limit);
                }
            }
            Step::Sleep => {
                if self.asleep.is_none() {
                    self.sleep();
                }
            }
            Step::Wake => self.asleep = None,
            Step::ResetQueue(queue) => self.reset(queue),
            Step::ResetDevice => {
                (0..QUEUES).for_each(|queue| self.reset(queue));
                self.coalescer.on_reset();
                // Its access wakes the stub.
                self.asleep = None;
            }
            Step::Connect(connected) => {
                self.connected = connected;
                // What was under way is submitted again; xenstore's event wakes the stub.
                self.at_backend.extend(self.responses.drain(..));
                self.asleep = None;
            }
            Step::WantInterrupts(interrupts) => self.interrupts = interrupts,
            Step::BusyDisks(busy_disks) => {
                self.busy_disks = busy_disks;
                self.busy_disks_max = self.busy_disks_max.max(busy_disks);
            }
        }
        self.wake_if_due();
    }

    fn reset(&mut self, queue: usize) {
        self.coalescer.on_queue_reset(queue);
        self.available[queue].clear();
        self.unsignalled[queue] = 0;
        let requests = self.unsent.iter_mut().chain(&mut self.at_backend).chain(&mut self.responses);
        requests.filter(|request| request.queue == queue).for_each(|request| request.is_orphan = true);
        self.asleep = None;
    }

    fn respond(&mut self, count: usize) {
        if self.connected {
            let count = count.min(self.at_backend.len());
            self.responses.extend(self.at_backend.drain(..count));
        }
    }

    fn wake_if_due(&mut self) {
        let Some(sleep) = self.asleep else { return };
        let notified = (0..QUEUES).any(|queue| self.available[queue].len() >= sleep.requests[queue] as usize);
        let due = sleep.deadline_ns.is_some_and(|deadline_ns| self.now_ns >= deadline_ns);
        if due || notified || self.responses.len() >= sleep.completions {
            self.asleep = None;
        }
    }

    /// What a device does in a turn.
    fn turn(&mut self, limit: usize) -> bool {
        self.coalescer.on_storage(self.connected);
        if self.coalescer.needs_clock() {
            self.read_clock();
        }
        let is_over = self.coalescer.is_overdue();
        self.note_outstanding();
        let threshold = self.coalescer.early_signal_threshold();
        let ahead = threshold.is_some_and(|threshold| self.responses.len() >= threshold as usize);
        let mut worked = self.collect(if ahead { 1 } else { limit });
        worked |= self.take();
        self.send_if_due();
        self.signal_if_due(ahead);
        self.coalescer.on_turn_end(worked);
        self.check();
        assert!(!is_over || !self.coalescer.is_holding(), "held beyond its deadline");
        worked
    }

    fn read_clock(&mut self) {
        let was_overdue = self.coalescer.is_overdue();
        self.coalescer.on_clock(self.now_ns, self.busy_disks);
        if self.held_until_ns.is_some_and(|until_ns| self.now_ns >= until_ns) {
            assert!(self.coalescer.is_overdue(), "a deadline is missed");
        }
        if self.coalescer.is_holding() && !was_overdue && self.held_until_ns.is_none() {
            self.held_until_ns = Some(self.latest_ns());
        }
    }

    /// What is held from now on has to go by then.
    fn latest_ns(&self) -> u64 {
        self.now_ns + WAIT_MAX_NS * u64::from(self.busy_disks_max)
    }

    fn note_outstanding(&mut self) {
        if self.connected {
            let available: usize = self.available.iter().map(VecDeque::len).sum();
            let outstanding = u32::try_from(available + self.in_flight()).expect("few");
            self.coalescer.on_outstanding(outstanding);
        }
    }

    fn collect(&mut self, limit: usize) -> bool {
        let requests: Vec<_> = self.responses.drain(..limit.min(self.responses.len())).collect();
        for &Request { queue, is_orphan } in &requests {
            self.coalescer.on_completed((!is_orphan).then_some(queue));
            if !is_orphan {
                self.completed += 1;
                self.unsignalled[queue] += 1;
            }
        }
        !requests.is_empty()
    }

    fn take(&mut self) -> bool {
        let mut worked = false;
        for queue in 0..QUEUES {
            while !self.coalescer.has_orphans()
                && let Some(bytes) = self.available[queue].pop_front()
            {
                self.coalescer.on_request(bytes);
                self.coalescer.on_submitted(queue);
                self.unsent.push(Request { queue, is_orphan: false });
                worked = true;
            }
        }
        worked
    }

    fn send_if_due(&mut self) {
        if self.coalescer.submit_now(false) {
            self.at_backend.append(&mut self.unsent);
        }
    }

    fn signal_if_due(&mut self, ahead: bool) {
        let unsignalled: u16 = self.unsignalled.iter().sum();
        self.coalescer.on_published(self.completed, unsignalled.into());
        if self.coalescer.signal_now(ahead) {
            for (queue, requests) in self.unsignalled.iter_mut().enumerate() {
                self.coalescer.on_signalled(queue, core::mem::take(requests));
            }
            if self.interrupts {
                self.coalescer.on_interrupt();
            }
        }
    }

    /// The account is right, and the batch within its bounds.
    fn check(&mut self) {
        let coalescer = &self.coalescer;
        let unsignalled: u16 = self.unsignalled.iter().sum();
        assert_eq!(coalescer.unsent() as usize, self.unsent.len());
        assert_eq!(coalescer.in_flight() as usize, self.in_flight());
        assert_eq!(coalescer.is_holding(), !self.unsent.is_empty() || unsignalled > 0);
        assert!((1..=BATCH_MAX).contains(&coalescer.batch_size()));
        let mut requests = self.unsent.iter().chain(&self.at_backend).chain(&self.responses);
        assert_eq!(coalescer.has_orphans(), requests.any(|request| request.is_orphan));
        if !coalescer.is_holding() {
            self.held_until_ns = None;
        }
    }

    /// What a device does before the stub sleeps.
    fn sleep(&mut self) {
        self.coalescer.on_storage(self.connected);
        self.coalescer.on_idle();
        if self.coalescer.idle_batch_size() == 1 {
            self.send_if_due();
        }
        self.signal_if_due(false);
        let Thresholds { completions, requests } = self.coalescer.thresholds();
        self.check();
        let at_storage = self.at_backend.len() + self.responses.len();
        assert!((1..=at_storage.max(1)).contains(&(completions as usize)), "no event can come");
        assert!(requests >= 1);
        if !self.responses.is_empty() {
            return;
        }
        let may_take = !self.coalescer.has_orphans();
        if may_take && self.available.iter().any(|queue| !queue.is_empty()) {
            return;
        }
        let deadline_ns = self.coalescer.deadline_ns(self.now_ns, self.busy_disks);
        if self.coalescer.is_holding() {
            let latest_ns = self.latest_ns();
            let until_ns = *self.held_until_ns.get_or_insert(latest_ns);
            assert!(deadline_ns.is_some_and(|ns| ns <= until_ns), "asleep with something held");
        }
        let wants = |queue| if self.coalescer.is_active(queue) { u32::from(requests) } else { 1 };
        let thresholds = core::array::from_fn(|queue| if may_take { wants(queue) } else { u32::MAX });
        let for_one = completions == 1 && (!may_take || thresholds.iter().all(|&requests| requests == 1));
        assert!(for_one || deadline_ns.is_some(), "fewer than a batch would wake nobody");
        self.asleep = Some(Sleep { deadline_ns, completions: completions as usize, requests: thresholds });
        self.wake_if_due();
    }

    /// The driver brings nothing more, the storage backend does all it is told of. Everything must
    /// come to its end, in time.
    fn finish(&mut self) {
        self.step(Step::Connect(true));
        for _ in 0..MANY_TURNS {
            self.respond(usize::MAX);
            self.wake_if_due();
            match self.asleep {
                None => {
                    while self.turn(usize::MAX) {}
                    self.sleep();
                }
                Some(Sleep { deadline_ns: Some(deadline_ns), .. }) => {
                    self.step(Step::Pass(deadline_ns.saturating_sub(self.now_ns)));
                }
                Some(Sleep { deadline_ns: None, .. }) => {
                    assert_eq!(self.in_flight(), 0, "forgotten at the storage");
                    assert_eq!(self.unsignalled, [0; QUEUES], "the driver was not told");
                    assert!(self.available.iter().all(VecDeque::is_empty), "not taken");
                    return;
                }
            }
        }
        panic!("the stub wakes for ever");
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![Just(0u64), Just(512), Just(4096), Just(65_536), Just(1 << 20)];
    let arrive = (0..QUEUES, 1u32..40, bytes).prop_map(|(queue, requests, bytes)| Step::Arrive {
        queue,
        requests,
        bytes,
    });
    let step = prop_oneof![
        8 => arrive,
        8 => (1usize..40).prop_map(Step::Respond),
        4 => (1u64..30_000_000).prop_map(Step::Pass),
        4 => (1u64..100_000).prop_map(Step::Pass),
        12 => prop_oneof![1usize..4, Just(usize::MAX)].prop_map(Step::Turn),
        8 => Just(Step::Sleep),
        2 => Just(Step::Wake),
        1 => (0..QUEUES).prop_map(Step::ResetQueue),
        1 => Just(Step::ResetDevice),
        1 => any::<bool>().prop_map(Step::Connect),
        1 => any::<bool>().prop_map(Step::WantInterrupts),
        1 => (0u32..12).prop_map(|disks| Step::BusyDisks(disks.max(1))),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_held_beyond_its_deadline_and_nothing_is_forgotten(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}
