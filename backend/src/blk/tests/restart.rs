//! A device that is dropped at any moment and goes on by its journal: every request is
//! answered exactly once, as if nothing had happened.

use super::*;
use crate::blk::DeviceJournal;
use crate::guest_mem::{GuestAddr, MemFault};
use crate::journal::JournalError;
use crate::storage::Storage;
use core::cell::Cell;
use kernel::{Order, PageSlice, SharedPage};
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Guest memory that ends an incarnation of the device at a chosen access: before or after it.
#[derive(Clone)]
struct Mortal {
    inner: TestMemory,
    /// Half accesses until the end; none if it is 0.
    left: Rc<Cell<u32>>,
}

/// What an incarnation ends with. No panic message.
struct Death;

impl Mortal {
    fn tick(&self) {
        match self.left.get() {
            0 => {}
            1 => {
                self.left.set(0);
                resume_unwind(Box::new(Death));
            }
            left => self.left.set(left - 1),
        }
    }

    fn around<T>(&self, access: impl FnOnce(&TestMemory) -> T) -> T {
        self.tick();
        let result = access(&self.inner);
        self.tick();
        result
    }
}

impl GuestMemory for Mortal {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        self.around(|mem| mem.read(addr, dst))
    }
    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        self.around(|mem| mem.write(addr, src))
    }
    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        self.around(|mem| mem.load_u16(addr, order))
    }
    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        self.around(|mem| mem.store_u16(addr, value, order))
    }
    fn copy_to_page(&self, addr: GuestAddr, part: PageSlice<'_>) -> Result<(), MemFault> {
        self.around(|mem| mem.copy_to_page(addr, part))
    }
    fn copy_from_page(&self, addr: GuestAddr, part: PageSlice<'_>) -> Result<(), MemFault> {
        self.around(|mem| mem.copy_from_page(addr, part))
    }
    fn invalidate(&self) {
        self.inner.invalidate();
    }
}

/// A rig whose device has a journal.
struct Incarnations {
    rig: Rig,
    journal: SharedPage,
    mem: Mortal,
    deaths: u32,
    options: DeviceOptions,
}

impl Incarnations {
    fn new() -> Incarnations {
        let rig = Rig::build(Faults::default(), false, 2);
        let journal = SharedPage::alloc().expect("host memory");
        let mem = Mortal { inner: rig.mem.clone(), left: Rc::default() };
        let options =
            DeviceOptions { serial: String::from("pf-test"), queues: 2, ..DeviceOptions::default() };
        let storage =
            FaultyStorage::new(RamDisk::new(DISK_BYTES, false).expect("memory"), rig.faults.clone());
        *rig.device.borrow_mut() =
            Device::new(storage, &options).with_journal(DeviceJournal::new(journal.clone()));
        Incarnations { rig, journal, mem, deaths: 0, options }
    }

    /// The next incarnation of the device: with nothing but disk, guest and journal.
    fn next_incarnation(&mut self) {
        self.deaths += 1;
        let spare = RamDisk::new(512, false).expect("memory");
        let spare = Device::new(FaultyStorage::new(spare, Rc::default()), &DeviceOptions::default());
        let old = self.rig.device.replace(spare);
        let storage = old.into_storage().forget();
        let journal = DeviceJournal::new(self.journal.clone());
        let device = Device::resume(storage, &self.options, journal, &self.rig.mem).expect("a good journal");
        *self.rig.device.borrow_mut() = device;
    }

    /// Lets the device work until it would block; it may die on the way, each time after
    /// another number of half accesses.
    fn run(&mut self, deaths: &mut impl Iterator<Item = u32>) {
        for _ in 0..10_000 {
            let (device, mem) = (self.rig.device.clone(), self.mem.clone());
            let step = catch_unwind(AssertUnwindSafe(|| {
                let worked = device.borrow_mut().process(&mem);
                worked || device.borrow_mut().enable_notifications(&mem)
            }));
            match step {
                Ok(true) => {}
                Ok(false) => return,
                Err(death) => {
                    assert!(death.is::<Death>(), "a real panic");
                    self.next_incarnation();
                    self.mem.left.set(deaths.next().unwrap_or(0));
                }
            }
            self.rig.irqs += u32::from(self.rig.device.borrow_mut().take_irq());
        }
        panic!("the device never comes to rest");
    }

    /// Takes what was used; the driver itself checks that it is each head once.
    fn reap(&mut self, asked: &mut Vec<(u16, u16, BlkRequest)>) {
        for queue in 0..2 {
            self.rig.driver.queue = queue;
            while let Some((head, answer)) = self.rig.driver.next_used() {
                let at = asked.iter().position(|(q, h, _)| (*q, *h) == (queue, head)).expect("asked once");
                let (.., request) = asked.remove(at);
                assert_eq!(answer.status, S_OK);
                if request.kind == T_IN {
                    let tag = request.sector.to_le_bytes()[0];
                    assert_eq!(answer.data, bytes(request.in_len, tag), "sector {}", request.sector);
                }
            }
        }
    }
}

fn write_request(sector: u64) -> BlkRequest {
    BlkRequest { kind: T_OUT, sector, out: bytes(512, sector.to_le_bytes()[0]), in_len: 0 }
}

fn flush_request() -> BlkRequest {
    BlkRequest { kind: T_FLUSH, sector: 0, out: vec![], in_len: 0 }
}

proptest! {
    #[test]
    fn each_request_is_answered_once_whenever_the_device_dies(
        features in prop::sample::select(vec![ALL, F_VERSION_1 | F_FLUSH, ALL & !F_EVENT_IDX, ALL & !F_INDIRECT_DESC]),
        batches in prop::collection::vec((1..4usize, 0..3u16, prop::collection::vec(1..60u32, 0..6)), 1..8),
        write_back: bool,
    ) {
        let mut machine = Incarnations::new();
        machine.rig.driver.init_queues(features, 16, 2);
        if write_back {
            machine.rig.driver.set_config(32, crate::access::Width::One, 1);
        }
        let mut sector = 0;
        for (count, release, deaths) in batches {
            let mut asked = Vec::new();
            for at in 0..count {
                // What was written before is read again, beside new writes and a flush.
                let queue = (at % 2) as u16;
                machine.rig.driver.queue = queue;
                sector += 1;
                let mut requests = vec![write_request(sector), flush_request()];
                if sector > 10 {
                    requests.push(read_request(sector - 10, 512));
                }
                for request in requests {
                    if machine.rig.driver.free_descs() >= 4 {
                        let head = machine.rig.driver.submit(&request, &Framing::Usual);
                        asked.push((queue, head, request));
                    }
                }
                machine.rig.driver.kick();
            }
            // Some completions come at once, others later and in another incarnation.
            machine.rig.faults.hold.set(true);
            machine.rig.faults.release.set(release.into());
            let mut deaths = deaths.into_iter();
            machine.mem.left.set(deaths.next().unwrap_or(0));
            machine.run(&mut deaths);
            machine.reap(&mut asked);
            machine.next_incarnation();
            machine.rig.faults.hold.set(false);
            machine.run(&mut deaths);
            machine.reap(&mut asked);
            prop_assert!(asked.is_empty(), "{asked:?}");
            prop_assert!(!machine.rig.needs_reset());
            machine.mem.left.set(0);
        }
        for sector in 1..=sector {
            machine.rig.driver.queue = 0;
            let answer = machine.rig.read(sector, 512, &Framing::Usual);
            prop_assert_eq!(answer.data, bytes(512, sector.to_le_bytes()[0]));
        }
    }
}

#[test]
fn a_queue_that_is_ready_before_the_features_are_agreed_survives_a_death() {
    let mut machine = Incarnations::new();
    // Where the driver's queue lies; then all over again, in another order.
    machine.rig.driver.init(F_VERSION_1, 8);
    let [desc, avail, used] =
        [machine.rig.driver.desc(0), machine.rig.driver.avail(0), machine.rig.driver.used(0)];
    let parts = [(QUEUE_DESC_LOW, desc), (QUEUE_DRIVER_LOW, avail), (QUEUE_DEVICE_LOW, used)];
    let registers = [(STATUS, 0), (QUEUE_SIZE, 8)].into_iter().chain(parts).chain([(QUEUE_READY, 1)]);
    for (register, value) in registers {
        machine.rig.driver.write(register, value as u32);
    }
    machine.next_incarnation();
    assert_eq!(machine.rig.driver.read(QUEUE_READY), 1);
    machine.rig.driver.write(STATUS, 7);
    machine.next_incarnation();
    assert_eq!(machine.rig.read(3, 512, &Framing::Usual).status, S_OK);
}

#[test]
fn a_death_at_each_single_half_access_of_a_batch() {
    let mut points = 0;
    loop {
        points += 1;
        let mut machine = Incarnations::new();
        machine.rig.driver.init_queues(ALL, 16, 2);
        machine.rig.driver.queue = 1;
        let mut asked = Vec::new();
        for request in [write_request(3), flush_request(), write_request(4)] {
            asked.push((1, machine.rig.driver.submit(&request, &Framing::Usual), request));
        }
        machine.rig.driver.kick();
        machine.mem.left.set(points);
        machine.run(&mut core::iter::empty());
        machine.reap(&mut asked);
        assert!(asked.is_empty(), "point {points}: {asked:?}");
        // Heads are used again at once, so a record that lagged would show.
        for sector in [3, 4] {
            let answer = machine.rig.read(sector, 512, &Framing::Usual);
            assert_eq!(answer.data, bytes(512, sector.to_le_bytes()[0]));
        }
        if machine.deaths == 0 {
            break;
        }
    }
    assert!(points > 50, "{points} points are too few to be all");
}

#[test]
fn a_driver_sets_its_device_up_over_any_number_of_lives() {
    /// A bus on which the device dies around every access: after it has taken effect, once
    /// before and once after the journal knows. The access is executed again each time.
    struct Dying(Rc<RefCell<Incarnations>>);
    impl Bus for Dying {
        fn access(&mut self, access: Access) -> u64 {
            let mut machine = self.0.borrow_mut();
            let mut before = [0; 4096];
            machine.journal.read(0, &mut before).expect("inside");
            let _unanswered = machine.rig.device.borrow_mut().access(access);
            machine.journal.write(0, &before).expect("inside");
            machine.next_incarnation();
            let _unanswered = machine.rig.device.borrow_mut().access(access);
            machine.next_incarnation();
            let Reply(value) = machine.rig.device.borrow_mut().access(access);
            value
        }
    }
    let machine = Rc::new(RefCell::new(Incarnations::new()));
    let mem = machine.borrow().rig.mem.clone();
    let mut driver = Driver::new(Dying(machine.clone()), mem, 0);
    driver.init_queues(ALL, 16, 2);
    driver.set_config(32, crate::access::Width::One, 0);
    for sector in [1, 2] {
        driver.queue = 0;
        let head = driver.submit(&write_request(sector), &Framing::Usual);
        driver.kick();
        machine.borrow_mut().run(&mut core::iter::empty());
        let (used, answer) = driver.next_used().expect("an answer");
        assert_eq!((used, answer.status), (head, S_OK));
    }
    assert_eq!(machine.borrow().rig.faults.flushes.get(), 2, "write-through outlives the device");
    driver.write(STATUS, 0);
    driver.init_queues(ALL, 8, 1);
}

#[test]
fn a_resumed_device_interrupts_once_for_whatever_was_not_told() {
    let mut machine = Incarnations::new();
    machine.next_incarnation();
    machine.run(&mut core::iter::empty());
    assert_eq!(machine.rig.irqs, 0, "a driver that is not set up is left alone");
    machine.rig.driver.init_queues(ALL, 16, 2);
    machine.rig.irqs = 0;
    machine.next_incarnation();
    machine.run(&mut core::iter::empty());
    assert_eq!(machine.rig.irqs, 1);
    assert_eq!(machine.rig.driver.take_interrupt(), INT_USED | INT_CONFIG);
}

#[test]
fn a_used_ring_that_the_driver_wrote_to_costs_it_a_reset() {
    for idx in [1, 7, 0xffff] {
        let mut machine = Incarnations::new();
        machine.rig.driver.init_queues(ALL, 16, 2);
        machine.rig.driver.queue = 0;
        let used_idx = machine.rig.driver.used(2);
        machine.rig.mem.poke_u16(used_idx, idx);
        machine.next_incarnation();
        assert!(machine.rig.needs_reset());
        machine.rig.driver.init_queues(ALL, 16, 2);
        assert!(!machine.rig.needs_reset());
    }
}

#[test]
fn a_disk_that_has_become_another_is_not_resumed() {
    let mut machine = Incarnations::new();
    machine.rig.driver.init_queues(ALL, 16, 2);
    let geometry = RamDisk::new(DISK_BYTES, false).expect("memory").geometry();
    let resume = |geometry: Geometry, queues: u16| {
        let faults = Faults::default();
        faults.geometry.set(Some(geometry));
        let storage = FaultyStorage::new(RamDisk::new(512, false).expect("memory"), Rc::new(faults));
        let options = DeviceOptions { queues, ..machine.options.clone() };
        Device::resume(storage, &options, DeviceJournal::new(machine.journal.clone()), &machine.rig.mem)
            .map(|mut device| (device.update_capacity(), device.take_irq()))
    };
    assert_eq!(resume(geometry, 2), Ok((false, false)));
    let larger = Geometry { capacity_sectors: geometry.capacity_sectors + 8, ..geometry };
    assert_eq!(resume(larger, 2), Ok((true, true)), "another length is told as ever");
    assert_eq!(resume(geometry, 1), Err(JournalError::Changed));
    assert_eq!(resume(Geometry { block_size_bytes: 4096, ..geometry }, 2), Err(JournalError::Changed));
    assert_eq!(resume(Geometry { read_only: true, ..geometry }, 2), Err(JournalError::Changed));
}
