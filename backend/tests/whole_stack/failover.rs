//! The PV disk's storage backend leaves, returns, is replaced or misbehaves.

use super::common::*;
use backend::testkit::{BlkRequest, Framing};
use drivers::fake::{BlkBackConfig, Faults, Misdeed};
use kernel::fake::GuestAccess;
use kernel::{DomId, Hypervisor};
use proptest::prelude::*;

const OP_READ: u8 = 0;
const OP_WRITE: u8 = 1;
const OP_FLUSH: u8 = 3;
const PAUSE_MAX_NS: u64 = 10_000_000_000;
/// Longer than any pause of ours, shorter than the timeout.
pub const A_WHILE_NS: u64 = PAUSE_MAX_NS + 5_000_000_000;

impl Machine {
    pub fn submit(&mut self, request: &BlkRequest) -> u16 {
        self.pv.submit(request, &Framing::Usual)
    }

    /// Lets the storage backend take the requests and answer none of them.
    pub fn send_without_answer(&mut self) {
        self.back().misbehave(Misdeed::Silence);
        self.pv.kick();
        self.run();
        self.fault(Faults::default());
    }

    pub fn fault(&self, faults: Faults) {
        self.world.borrow().back.set_faults(faults);
    }

    pub fn run_for(&self, idle_ns: u64) -> u32 {
        self.world.borrow_mut().run_for(idle_ns)
    }

    /// All answers that have come: head and status.
    pub fn answers(&mut self) -> Vec<(u16, u8)> {
        self.world.borrow_mut().irqs(PV_IRQ);
        self.pv.take_interrupt();
        core::iter::from_fn(|| self.pv.next_used()).map(|(head, answer)| (head, answer.status)).collect()
    }

    pub fn back(&self) -> drivers::fake::BlkBack {
        self.world.borrow().back.clone()
    }

    /// A request that was answered while no interrupt was looked for.
    pub fn status_of(&mut self, request: &BlkRequest) -> u8 {
        self.world.borrow_mut().irqs(PV_IRQ);
        self.pv.take_interrupt();
        self.ask(Disk::Pv, request, &Framing::Usual).status
    }
}

/// The ways in which a storage backend leaves and comes back.
#[derive(Clone, Copy, Debug)]
enum Way {
    Close,
    Rebind,
    Reattach,
    Detach,
    OtherDomain,
    BreakRing(Misdeed),
}

const WAYS: [Way; 8] = [
    Way::Close,
    Way::Rebind,
    Way::Reattach,
    Way::Detach,
    Way::OtherDomain,
    Way::BreakRing(Misdeed::BogusId),
    Way::BreakRing(Misdeed::WrongOperation),
    Way::BreakRing(Misdeed::IndexJump(5000)),
];

fn leave_and_return(machine: &mut Machine, way: Way) {
    let back = machine.back();
    match way {
        Way::Close => back.set_node("state", "5"),
        Way::Rebind => {
            back.unbind();
            machine.run();
            back.bind();
        }
        Way::Reattach => back.reattach(DomId(0)),
        Way::Detach => {
            back.detach();
            machine.run_for(3_000_000_000);
            back.reattach(DomId(0));
        }
        Way::OtherDomain => {
            back.die();
            machine.run_for(3_000_000_000);
            back.reattach(DomId(9));
        }
        Way::BreakRing(misdeed) => {
            // It has forgotten the others: something to answer wrongly.
            back.misbehave(misdeed);
            machine.submit(&read_request(64, 512));
            machine.pv.kick();
            machine.run();
            machine.fault(Faults::default());
        }
    }
    machine.run_for(A_WHILE_NS);
}

#[test]
fn the_guest_sees_latency_only_however_the_backend_comes_back() {
    for way in WAYS {
        let mut machine = Machine::ready(Setup::default());
        let data = bytes(100_000 / 512 * 512, 0x21);
        let kept = bytes(4096, 0x77);
        assert_eq!(machine.write(Disk::Pv, 4096, &kept).status, S_OK);
        assert_eq!(machine.status_of(&flush_request()), S_OK);
        machine.submit(&write_request(0, &data));
        machine.submit(&read_request(4096, 4096));
        machine.submit(&flush_request());
        machine.send_without_answer();
        assert_eq!(machine.answers(), [], "{way:?}");
        let requests = if let Way::BreakRing(_) = way { 4 } else { 3 };
        leave_and_return(&mut machine, way);
        let mut answers = Vec::new();
        while let Some((_, answer)) = machine.pv.next_used() {
            assert_eq!(answer.status, S_OK, "{way:?}");
            if answer.data.len() == 4096 {
                assert!(answer.data == kept, "{way:?}");
            }
            answers.push(answer);
        }
        assert_eq!(answers.len(), requests, "{way:?}");
        machine.answers();
        assert!(machine.read(Disk::Pv, 0, data.len()).data == data, "{way:?}");
        assert_eq!(machine.back().disk().durable[..data.len()], data, "{way:?}");
        assert_eq!(machine.read(Disk::Ram, 0, 512).status, S_OK, "{way:?}");
    }
}

#[test]
fn unfinished_writes_go_first_in_their_order_and_flushes_after_them() {
    let mut machine = Machine::ready(Setup::default());
    for request in [
        write_request(0, &bytes(512, 1)),
        flush_request(),
        read_request(8, 512),
        write_request(16, &bytes(512, 2)),
        flush_request(),
        write_request(24, &bytes(512, 3)),
    ] {
        machine.submit(&request);
    }
    machine.send_without_answer();
    let back = machine.back();
    back.die();
    machine.run();
    // Since then: after all of that, as it came.
    machine.submit(&flush_request());
    machine.submit(&write_request(32, &bytes(512, 4)));
    machine.pv.kick();
    machine.run();
    assert_eq!(machine.answers(), []);
    drop(back.take_order());
    back.reattach(DomId(0));
    machine.run_for(A_WHILE_NS);
    let expected = [
        (OP_WRITE, 0),
        (OP_READ, 8),
        (OP_WRITE, 16),
        (OP_WRITE, 24),
        (OP_FLUSH, 0),
        (OP_FLUSH, 0),
        (OP_FLUSH, 0),
        (OP_WRITE, 32),
    ];
    assert_eq!(back.take_order(), expected);
    let answers = machine.answers();
    assert_eq!(answers.len(), 8);
    assert!(answers.iter().all(|&(_, status)| status == S_OK));
}

#[test]
fn nothing_is_sent_before_the_old_backend_has_let_go_of_every_page() {
    let mut machine = Machine::ready(Setup::default());
    assert_eq!(machine.write(Disk::Pv, 0, &bytes(8192, 1)).status, S_OK);
    let back = machine.back();
    machine.submit(&write_request(0, &bytes(8192, 2)));
    machine.send_without_answer();
    let grants = machine.world.borrow().xen.live_grants();
    // It says that it has closed, and keeps its mappings: a write may still be on its way.
    machine.fault(Faults { keep_grants: true, ..Faults::default() });
    back.set_node("state", "5");
    machine.run_for(A_WHILE_NS);
    machine.fault(Faults::default());
    assert_eq!((back.connections(), back.state()), (1, 6));
    let kept = machine.world.borrow().xen.live_grants();
    assert!(kept > 0 && kept < grants, "what can be taken back is, what cannot stays: {kept} of {grants}");
    let rounds = machine.run_for(30_000_000_000);
    assert!(rounds < 1500, "it looks now and then: {rounds} rounds in 30 s");
    assert_eq!(machine.answers(), [], "nothing fails before the timeout");
    machine.run_for(TIMEOUT_NS);
    assert_eq!(machine.answers().iter().map(|&(_, status)| status).collect::<Vec<_>>(), [S_IOERR]);
    assert_eq!(
        (back.connections(), machine.world.borrow().xen.live_grants()),
        (1, kept),
        "no page was added"
    );
}

#[test]
fn another_disk_behind_the_same_name_is_refused_and_a_longer_one_is_a_resize() {
    type Change = fn(&mut BlkBackConfig);
    let cases: [(Change, bool); 4] = [
        (|config| config.sector_size_bytes = 4096, false),
        (|config| config.read_only = true, false),
        (|config| config.flush = false, true),
        (|config| config.discard = false, true),
    ];
    for (at, (change, fits)) in cases.into_iter().enumerate() {
        let mut machine = Machine::ready(Setup::default());
        let back = machine.back();
        back.die();
        machine.run();
        machine.submit(&read_request(0, 512));
        machine.pv.kick();
        machine.run();
        back.configure(change);
        back.reattach(DomId(0));
        machine.run_for(A_WHILE_NS);
        let expected = if fits { S_OK } else { S_IOERR };
        assert_eq!(machine.answers().first().map(|answer| answer.1), Some(expected), "case {at}");
        assert_eq!(machine.status_of(&flush_request()), expected, "case {at}");
        if !fits {
            let before = back.connections();
            machine.run_for(100_000_000_000);
            assert!(back.connections() - before < 8, "it is asked now and then only");
            // The right one again.
            back.configure(|config| *config = Setup::default().back);
            back.reattach(DomId(0));
            machine.run_for(60_000_000_000);
            assert_eq!(machine.status_of(&read_request(0, 512)), S_OK, "case {at}");
        }
    }
    let mut machine = Machine::ready(Setup::default());
    let back = machine.back();
    back.die();
    machine.run();
    back.configure(|config| config.sectors = 4096);
    back.reattach(DomId(0));
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.pv.capacity(), 4096);
}

#[test]
fn a_backend_that_flaps_for_ever_costs_little_and_holds_nothing() {
    let mut machine = Machine::ready(Setup { backend_timeout_ns: None, ..Setup::default() });
    let back = machine.back();
    let grants = machine.world.borrow().xen.live_grants();
    machine.submit(&write_request(0, &bytes(4096, 3)));
    machine.send_without_answer();
    machine.fault(Faults { flaps: true, ..Faults::default() });
    let began_ns = machine.world.borrow().xen.now_ns();
    let mut rounds = 0;
    for _ in 0..60 {
        rounds += machine.run_for(10_000_000_000);
        assert!(machine.world.borrow().xen.live_grants() <= grants);
        assert!(machine.world.borrow().xen.open_ports() < 8);
    }
    let seconds = (machine.world.borrow().xen.now_ns() - began_ns) / 1_000_000_000;
    assert!(seconds >= 600, "{seconds}");
    let connections = back.connections();
    assert!((10..seconds / 5).contains(&connections), "{connections} connections in {seconds} s");
    assert!(u64::from(rounds) < seconds * 40, "{rounds} rounds in {seconds} s");
    machine.fault(Faults::default());
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.answers().len(), 1);
    assert_eq!(back.disk().cached[..4096], bytes(4096, 3));
}

#[test]
fn a_reset_without_a_backend_gives_the_old_requests_up_and_serves_the_new_driver() {
    let mut machine = Machine::ready(Setup::default());
    let back = machine.back();
    let old = bytes(64 * 1024, 0x0d);
    machine.submit(&write_request(0, &old));
    machine.submit(&read_request(0, 64 * 1024));
    machine.send_without_answer();
    back.die();
    machine.run();
    machine.pv.init(u64::MAX, 256);
    machine.run();
    let writes = machine.world.borrow().mem.device_writes();
    let new = bytes(64 * 1024, 0x3e);
    machine.submit(&write_request(0, &new));
    machine.pv.kick();
    machine.run();
    assert!(!machine.world.borrow_mut().stub().enable_events(), "nothing but to wait");
    back.reattach(DomId(0));
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.answers().len(), 1);
    assert!(machine.world.borrow().mem.device_writes() - writes < 12, "no data of the old read");
    let writes: Vec<_> = back.take_order();
    assert!(
        writes.iter().all(|&(operation, _)| operation == OP_WRITE),
        "the old read was not sent: {writes:?}"
    );
    assert!(back.disk().cached[..new.len()] == new);
}

#[test]
fn accesses_are_answered_while_there_is_no_backend() {
    let machine = Machine::ready(Setup::default());
    let back = machine.back();
    back.die();
    machine.run();
    for _ in 0..100 {
        // `World::access` fails if the answer is not there at once.
        assert_eq!(machine.world.borrow_mut().access(0, GuestAccess::read(PV_MMIO)), 0x7472_6976);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens to the storage backends between batches and during them of requests, a disk
    /// is an array of sectors.
    #[test]
    fn a_pv_disk_with_many_backends_is_an_array_of_sectors(
        seed in any::<u64>(),
        delay_steps in 0u32..4,
        pool_pages in 12u16..64,
        batches in prop::collection::vec(
            (prop::option::of(0usize..5), 0u64..8, prop::collection::vec((any::<bool>(), 1usize..200), 1..10)),
            1..6,
        ),
    ) {
        let mut machine = Machine::ready(Setup { pool_pages, vcpus: 1, queues: 1, ..Setup::default() });
        let mut model = vec![0u8; 8192 * 512];
        let mut domain = 0;
        for (round, (way, answered, batch)) in batches.iter().enumerate() {
            let mut expected = std::collections::BTreeMap::new();
            for (place, &(is_write, sectors)) in batch.iter().enumerate() {
                let sector = place * 600 + round * 7;
                let range = sector * 512..(sector + sectors) * 512;
                let request = if is_write {
                    let data = bytes(sectors * 512, u8::try_from(round * 16 + place).expect("small"));
                    model[range.clone()].copy_from_slice(&data);
                    write_request(sector as u64, &data)
                } else {
                    read_request(sector as u64, sectors * 512)
                };
                let head = machine.submit(&request);
                expected.insert(head, if is_write { Vec::new() } else { model[range].to_vec() });
            }
            // Some are answered before the storage backend falls silent.
            let misdeed_at = way.map(|_| (machine.back().responses() + answered, Misdeed::Silence));
            machine.fault(Faults { seed, reorder: true, delay_steps, misdeed_at, ..Faults::default() });
            machine.pv.kick();
            machine.run();
            machine.fault(Faults { seed, reorder: true, delay_steps, ..Faults::default() });
            let back = machine.back();
            match way {
                Some(0) => back.set_node("state", "5"),
                Some(1) => { back.unbind(); back.bind(); back.set_node("state", "5"); }
                Some(2) => back.reattach(DomId(domain)),
                Some(3) => { back.detach(); machine.run_for(1_000_000_000); back.reattach(DomId(domain)); }
                Some(_) => { domain += 1; back.die(); back.reattach(DomId(domain)); }
                None => {}
            }
            machine.run_for(A_WHILE_NS);
            while let Some((head, answer)) = machine.pv.next_used() {
                prop_assert_eq!(answer.status, S_OK, "round {} {:?}", round, way);
                let data = expected.remove(&head).expect("in flight");
                prop_assert!(answer.data == data, "round {} {:?}", round, way);
            }
            prop_assert!(expected.is_empty(), "round {} {:?}: {} left", round, way, expected.len());
        }
        prop_assert!(machine.back().disk().cached == model);
    }
}
