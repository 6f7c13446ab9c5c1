//! A PV disk whose storage backend goes at any moment and comes back at some later one.
//!
//! Ours: the event loop, the device, the PV disk with its failover, blkfront. Fakes: the others (the
//! machine). Two users of the disk each write a sector over and over, and wait for each answer; one
//! of them flushes in between.
//!
//! What must hold, whatever happened: a sector holds the last write that was answered; what a flush that
//! succeeded covers is durable; each request is answered.
//!
//! Not among the faults: a driver that is unbound with requests under way and bound again at once. The new
//! instance takes up the same ring before the stub has heard of it. It does those requests once more,
//! and the old instance's may land after what was written since. The stub cannot tell that from a
//! slow storage backend. (Found here: a write landed after its successor.)

use drivers::fake::{BlkBack, Faults};
use kernel::DomId;
use proofs::explore::{Choices, explore};
use proofs::machine::Machine;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const OK: u8 = 0;
const SECTOR: usize = 512;
/// More than the longest pause between two tries to connect.
const SLEEP_NS: u64 = 100_000_000;
/// More rounds than any way needs.
const ROUNDS: u32 = 3_000;
/// How many moments later the storage backend may come back.
const LATER: [u32; 4] = [0, 1, 3, 7];

/// What happens to the storage backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    /// Its driver is taken off the device and put back.
    Unbound,
    /// The toolstack makes the device again in the same domain, whose cache lives on.
    MadeAgain,
    /// The same, and the old one's requests are still on their way to the disk.
    MadeAgainWithWritesUnderWay,
    /// The domain dies with its cache; another one serves the disk.
    DomainDies,
}

/// When it happens, and what has happened so far.
struct Storage {
    choices: Choices,
    fault: Fault,
    machine: RefCell<Option<BlkBack>>,
    /// Moments at which it may still go.
    moments: Cell<u32>,
    gone: Cell<bool>,
    back: Cell<bool>,
    /// Moments after it has gone.
    wait: Cell<u32>,
}

impl Storage {
    /// A moment: it may go now, or come back.
    fn moment(&self) -> bool {
        let machine = self.machine.borrow();
        let Some(back) = machine.as_ref() else { return false };
        if !self.gone.get() {
            if self.moments.get() == 0 || self.choices.pick(2) == 0 {
                self.moments.set(self.moments.get().saturating_sub(1));
                return false;
            }
            self.gone.set(true);
            self.wait.set(LATER[self.choices.pick(LATER.len())]);
            self.go(back);
            return true;
        }
        if self.back.get() || self.wait.get() > 0 {
            self.wait.set(self.wait.get().saturating_sub(1));
            return false;
        }
        self.back.set(true);
        self.come_back(back);
        true
    }

    fn go(&self, back: &BlkBack) {
        match self.fault {
            Fault::Unbound => back.unbind(),
            Fault::MadeAgainWithWritesUnderWay => {
                back.set_faults(Faults { keep_grants: true, ..Faults::default() });
                back.die();
            }
            Fault::MadeAgain => back.die(),
            Fault::DomainDies => {
                back.die();
                back.disk_mut().power_cut();
            }
        }
    }

    fn come_back(&self, back: &BlkBack) {
        match self.fault {
            Fault::Unbound => back.bind(),
            Fault::MadeAgain => back.reattach(DomId(0)),
            Fault::MadeAgainWithWritesUnderWay => {
                back.set_faults(Faults { delay_steps: 1, ..Faults::default() });
                back.reattach(DomId(0));
            }
            Fault::DomainDies => back.reattach(DomId(3)),
        }
    }
}

/// One user of the disk: what it asks for, one after the other.
struct User {
    sector: u64,
    script: &'static [Ask],
    done: usize,
    head: Option<u16>,
    /// The last value that was answered, and the last that was asked for.
    answered: u8,
    asked: u8,
}

#[derive(Clone, Copy)]
enum Ask {
    Write(u8),
    Flush,
}

impl User {
    fn new(sector: u64, script: &'static [Ask]) -> User {
        User { sector, script, done: 0, head: None, answered: 0, asked: 0 }
    }

    /// Asks for what comes next; whether that is a flush.
    fn ask(&mut self, machine: &mut Machine) -> bool {
        let Some(&ask) = self.script.get(self.done).filter(|_| self.head.is_none()) else { return false };
        self.head = Some(match ask {
            Ask::Write(value) => {
                self.asked = value;
                machine.ask(WRITE, self.sector, &[value; SECTOR])
            }
            Ask::Flush => machine.ask(FLUSH, 0, &[]),
        });
        matches!(ask, Ask::Flush)
    }
}

/// A flush has failed: what was answered before is nobody's promise any more.
fn covered_from_now(users: &mut [User]) {
    users.iter_mut().for_each(|user| user.answered = 0);
}

fn byte(bytes: &[u8], sector: u64) -> u8 {
    bytes[usize::try_from(sector).expect("small") * SECTOR]
}

/// What the last flush covers: the value of each user's sector that was answered before it.
type Covered = Vec<(u64, u8)>;

fn run(choices: &Choices, fault: Fault) {
    let mut machine = Machine::new();
    let is_late = fault == Fault::MadeAgainWithWritesUnderWay;
    // So many moments requests stay with it.
    let delay_steps = if is_late { [1, 2][choices.pick(2)] } else { 1 };
    machine.back.set_faults(Faults { delay_steps, ..Faults::default() });
    let storage = Rc::new(Storage {
        choices: choices.clone(),
        fault,
        machine: RefCell::new(Some(machine.back.clone())),
        moments: Cell::new(40),
        gone: Cell::new(false),
        back: Cell::new(false),
        wait: Cell::new(0),
    });
    // That many rounds after it is back, its old requests reach the disk.
    let mut late_rounds: u32 = if is_late { [2, 400][choices.pick(2)] } else { 0 };
    let peer = storage.clone();
    machine.xen.on_idle(move || peer.moment());
    let mut users = [
        User::new(0, &[Ask::Write(1), Ask::Write(2), Ask::Flush, Ask::Write(3), Ask::Flush]),
        User::new(8, &[Ask::Write(11), Ask::Write(12)]),
    ];
    let (mut covered, mut told): (Covered, u32) = (Vec::new(), 0);
    for round in 0.. {
        assert!(round < ROUNDS, "a request is never answered");
        let answered: Covered = users.iter().map(|user| (user.sector, user.answered)).collect();
        for user in &mut users {
            if user.ask(&mut machine) {
                covered.clone_from(&answered);
            }
        }
        machine.round(SLEEP_NS);
        // The disk does late what the old connection had given it.
        if storage.back.get() {
            if late_rounds == 0 {
                machine.back.let_go();
            }
            late_rounds = late_rounds.saturating_sub(1);
        }
        while let Some((head, answer)) = machine.driver.next_used() {
            let user = users.iter_mut().find(|user| user.head == Some(head)).expect("somebody asked");
            user.head = None;
            let ask = user.script[user.done];
            user.done += 1;
            match ask {
                Ask::Write(value) => {
                    assert_eq!(answer.status, OK, "a write");
                    user.answered = value;
                }
                Ask::Flush if answer.status == OK => {
                    let disk = machine.back.disk();
                    for &(sector, value) in &covered {
                        assert!(byte(&disk.durable, sector) >= value, "sector {sector} is not durable");
                    }
                }
                Ask::Flush => {
                    assert_eq!(fault, Fault::DomainDies, "a flush failed");
                    told += 1;
                    // Who had not flushed has to write again, or live with what is there.
                    covered_from_now(&mut users);
                }
            }
        }
        machine.driver.take_interrupt();
        if users.iter().all(|user| user.done == user.script.len()) {
            break;
        }
    }
    machine.back.let_go();
    assert!(told <= 1, "one loss is told once");
    let disk = machine.back.disk();
    for user in &users {
        let lost = fault == Fault::DomainDies;
        let now = byte(&disk.cached, user.sector);
        assert!(now == user.answered || lost, "sector {}: {now}, not {}", user.sector, user.answered);
        assert!(!lost || now <= user.asked);
    }
    storage.machine.take();
}

fn all(fault: Fault) {
    let ways = explore(20_000, |choices| run(choices, fault));
    println!("{ways} ways");
    assert!(ways > 50, "{ways} ways are few");
}

#[test]
fn a_driver_that_is_unbound_and_bound_loses_nothing() {
    all(Fault::Unbound);
}

#[test]
fn no_write_that_is_still_under_way_lands_after_its_successor() {
    all(Fault::MadeAgainWithWritesUnderWay);
}

#[test]
fn a_device_that_is_made_again_loses_nothing() {
    all(Fault::MadeAgain);
}

#[test]
fn no_flush_succeeds_for_what_died_with_a_cache() {
    all(Fault::DomainDies);
}
