//! The frontend against a fake blkback.

use super::*;
use crate::fake::{BlkBack, BlkBackConfig, Faults, Misdeed, XenStored};
use crate::xenstore::{StoreError, Xenstore};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use kernel::fake::FakeXen;
use kernel::{DomId, Errno, Hypervisor};
use proptest::prelude::*;
use xen_pv_sys::io::xenbus::XenbusState;

const VDEV: u32 = 51712;

struct Machine {
    xen: FakeXen,
    store: XenStored,
    back: BlkBack,
    xs: Xenstore<FakeXen>,
}

impl Machine {
    fn new(config: BlkBackConfig) -> Machine {
        let xen = FakeXen::new(DomId(5));
        let store = XenStored::start(&xen);
        let back = BlkBack::attach(&xen, &store, VDEV, config);
        let xs = Xenstore::new(&xen).unwrap();
        Machine { xen, store, back, xs }
    }

    fn connect(&mut self, pool_pages: u16) -> Result<BlkFront<FakeXen>, ConnectError> {
        BlkFront::connect(&self.xen, &mut self.xs, VDEV, pool_pages)
    }

    fn front_node(&self, key: &str) -> Option<String> {
        self.store.read(&format!("/local/domain/5/device/vbd/{VDEV}/{key}"))
    }

    /// Waits as the main loop does; false if nothing came within a second.
    fn wait(&self, front: &mut BlkFront<FakeXen>) -> bool {
        if front.enable_events(1) {
            return true;
        }
        self.xen.poll(&[front.port()], Some(self.xen.now_ns() + 1_000_000_000)).unwrap();
        self.xen.evtchn_take_pending(front.port())
    }

    fn completion(&self, front: &mut BlkFront<FakeXen>) -> Option<Completion> {
        loop {
            if let Some(completion) = front.next_completion() {
                return Some(completion);
            }
            if !self.wait(front) {
                return None;
            }
        }
    }

    /// One request from start to end; its pages go back.
    fn run(&self, front: &mut BlkFront<FakeXen>, op: Op) -> Result<(), IoError> {
        front.submit(77, op).unwrap();
        front.kick();
        let completion = self.completion(front).expect("an answer");
        assert_eq!(completion.id, 77);
        if let Some(bounce) = completion.bounce {
            front.give_back(bounce);
        }
        completion.outcome
    }

    fn write(&self, front: &mut BlkFront<FakeXen>, first_sector: u64, data: &[u8]) -> Result<(), IoError> {
        let op = write_op(front, first_sector, data);
        self.run(front, op)
    }

    fn read(&self, front: &mut BlkFront<FakeXen>, first_sector: u64, len_bytes: u32) -> Vec<u8> {
        let bounce = front.take_pages(pages(len_bytes)).unwrap();
        front.submit(1, Op::Read { first_sector, bounce, len_bytes }).unwrap();
        front.kick();
        let completion = self.completion(front).unwrap();
        assert_eq!(completion.outcome, Ok(()));
        let bounce = completion.bounce.unwrap();
        let data = content(front, &bounce, len_bytes);
        front.give_back(bounce);
        data
    }
}

fn pages(len_bytes: u32) -> u16 {
    u16::try_from(len_bytes.div_ceil(4096)).unwrap()
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 512 * 7 + at) % 251).unwrap() ^ seed).collect()
}

fn fill(front: &BlkFront<FakeXen>, bounce: &Bounce, data: &[u8]) {
    for (page, part) in front.pages(bounce).zip(data.chunks(4096)) {
        page.write(0, part).unwrap();
    }
}

fn content(front: &BlkFront<FakeXen>, bounce: &Bounce, len_bytes: u32) -> Vec<u8> {
    let mut data = vec![0; len_bytes as usize];
    for (page, part) in front.pages(bounce).zip(data.chunks_mut(4096)) {
        page.read(0, part).unwrap();
    }
    data
}

fn write_op(front: &mut BlkFront<FakeXen>, first_sector: u64, data: &[u8]) -> Op {
    let len_bytes = u32::try_from(data.len()).unwrap();
    let bounce = front.take_pages(pages(len_bytes)).unwrap();
    fill(front, &bounce, data);
    Op::Write { first_sector, bounce, len_bytes }
}

// Negotiation.

#[test]
fn a_connection_takes_what_linux_offers() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let front = machine.connect(256).unwrap();
    let discard = Some(Discard { granularity_bytes: 4096, alignment_bytes: 0, secure: true });
    let expected = Geometry {
        sectors: 2048,
        sector_size_bytes: 512,
        physical_sector_size_bytes: 4096,
        read_only: false,
        flush: true,
        discard,
    };
    assert_eq!(*front.geometry(), expected);
    assert_eq!((front.ring_entries(), front.max_pages_per_request()), (128, 256));
    assert_eq!(machine.front_node("state").as_deref(), Some("4"));
    assert_eq!(machine.front_node("ring-page-order").as_deref(), Some("2"));
    assert!(machine.front_node("ring-ref3").is_some() && machine.front_node("ring-ref").is_none());
    assert_eq!(machine.front_node("feature-persistent").as_deref(), Some("1"));
    assert_eq!(machine.back.state(), 4);
    // 256 data pages, 4 of the ring, one for segments for each 12.
    assert_eq!(machine.xen.live_grants(), 256 + 4 + 21);
    assert_eq!(front.backend_path(), "/local/domain/0/backend/vbd/5/51712");
}

#[test]
fn a_plain_back_end_gets_the_plain_protocol() {
    let config = BlkBackConfig {
        max_ring_page_order: None,
        max_indirect_segments: None,
        persistent: false,
        flush: false,
        discard: false,
        ..BlkBackConfig::default()
    };
    let mut machine = Machine::new(config);
    // Left by an earlier frontend; a blkback would prefer it to `ring-ref`.
    machine.store.write(&format!("/local/domain/5/device/vbd/{VDEV}/ring-page-order"), "1");
    let mut front = machine.connect(64).unwrap();
    assert_eq!((front.ring_entries(), front.max_pages_per_request()), (32, 11));
    assert!(machine.front_node("ring-ref").is_some() && machine.front_node("ring-page-order").is_none());
    assert_eq!(front.submit(1, Op::Flush), Err((SubmitError::Unsupported, Op::Flush)));
    let discard = Op::Discard { first_sector: 0, sectors: 8, secure: false };
    assert_eq!(front.submit(1, discard).unwrap_err().0, SubmitError::Unsupported);
    let long = write_op(&mut front, 0, &[0; 12 * 4096]);
    let (error, long) = front.submit(1, long).unwrap_err();
    assert_eq!(error, SubmitError::BadRange);
    let Op::Write { bounce, .. } = long else { panic!("another request") };
    front.give_back(bounce);
    let data = pattern(11 * 4096, 3);
    machine.write(&mut front, 16, &data).unwrap();
    assert_eq!(machine.read(&mut front, 16, 11 * 4096), data);
    assert_eq!(machine.back.mapped_pages(), 0, "every page was unmapped again");
}

#[test]
fn the_ring_is_no_larger_than_the_pool_can_fill() {
    for (pool_pages, entries) in [(1, 32), (32, 32), (33, 64), (128, 128), (129, 128), (960, 128)] {
        let mut machine = Machine::new(BlkBackConfig::default());
        let front = machine.connect(pool_pages).unwrap();
        assert_eq!(front.ring_entries(), entries, "{pool_pages} pages");
        assert!(front.max_pages_per_request() <= pool_pages);
    }
}

#[test]
fn hostile_properties_are_refused_and_nothing_stays() {
    let cases = [
        ("sectors", "0", ConnectError::BadValue("sectors")),
        ("sectors", "36028797018963968", ConnectError::BadValue("sectors")),
        ("sectors", "-1", ConnectError::BadValue("sectors")),
        ("sectors", "18446744073709551616", ConnectError::BadValue("sectors")),
        ("sectors", "", ConnectError::BadValue("sectors")),
    ];
    for (key, value, expected) in cases {
        let mut machine = Machine::new(BlkBackConfig::default());
        machine.back.set_node(key, value);
        assert_eq!(machine.connect(8).err(), Some(expected), "{key} = {value:?}");
        assert_eq!(machine.xen.live_grants(), 0, "{key} = {value:?}");
        assert_eq!(machine.xen.open_ports(), 1, "xenstore's own");
        assert_eq!(machine.front_node("state").as_deref(), Some("6"));
        assert!(machine.store.watches().is_empty());
    }
}

#[test]
fn logical_blocks_are_powers_of_two_up_to_a_page() {
    for (bytes, good) in [(0, false), (256, false), (512, true), (1536, false), (4096, true), (8192, false)] {
        let config = BlkBackConfig { sector_size_bytes: bytes, ..BlkBackConfig::default() };
        let connected = Machine::new(config).connect(8).map(|front| front.geometry().sector_size_bytes);
        let expected = if good { Ok(bytes) } else { Err(ConnectError::BadValue("sector-size")) };
        assert_eq!(connected, expected, "{bytes}");
    }
}

#[test]
fn a_strange_physical_block_is_ignored() {
    for bytes in [0, 3000, 512] {
        let config = BlkBackConfig {
            sector_size_bytes: 4096,
            physical_sector_size_bytes: bytes,
            ..BlkBackConfig::default()
        };
        let front = Machine::new(config).connect(8).unwrap();
        assert_eq!(front.geometry().physical_sector_size_bytes, 4096);
    }
}

#[test]
fn a_back_end_that_hangs_runs_into_the_deadline() {
    let mut machine = Machine::new(BlkBackConfig { hangs_at_start: true, ..BlkBackConfig::default() });
    let error = machine.connect(8).err();
    assert_eq!(error, Some(ConnectError::TimedOut(XenbusState::Initialising)));
    assert!(machine.xen.now_ns() >= CONNECT_TIMEOUT_NS);
    assert_eq!(machine.xen.live_grants(), 0);
    assert!(machine.store.watches().is_empty());
}

#[test]
fn a_device_that_does_not_exist_is_named() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let missing = BlkFront::connect(&machine.xen, &mut machine.xs, 51728, 8).err();
    assert_eq!(missing, Some(ConnectError::Missing("backend")));
    for (key, value) in
        [("backend", "relative"), ("backend", "/a b"), ("backend-id", "65536"), ("backend-id", "32752")]
    {
        let mut machine = Machine::new(BlkBackConfig::default());
        machine.store.write(&format!("/local/domain/5/device/vbd/{VDEV}/{key}"), value);
        assert_eq!(machine.connect(8).err(), Some(ConnectError::BadValue(key)), "{value}");
    }
}

#[test]
fn pools_have_limits() {
    let mut machine = Machine::new(BlkBackConfig::default());
    assert_eq!(machine.connect(0).err(), Some(ConnectError::PoolSize(0)));
    assert_eq!(machine.connect(961).err(), Some(ConnectError::PoolSize(961)));
    machine.xen.limit_grants(40);
    assert_eq!(machine.connect(64).err(), Some(ConnectError::Xen(Errno::ENOSPC)));
    assert_eq!(machine.xen.live_grants(), 0);
}

// Data.

#[test]
fn every_length_reads_back_what_was_written() {
    for persistent in [false, true] {
        let mut machine = Machine::new(BlkBackConfig { persistent, ..BlkBackConfig::default() });
        let mut front = machine.connect(64).unwrap();
        // 11 pages go direct, 12 go by a page of segments.
        for sectors in [1, 7, 8, 9, 87, 88, 89, 96, 97, 511, 512] {
            let data = pattern(sectors * 512, 0x5a);
            machine.write(&mut front, 3, &data).unwrap();
            assert_eq!(machine.back.disk().cached[3 * 512..(3 + sectors) * 512], data);
            assert_eq!(machine.read(&mut front, 3, u32::try_from(data.len()).unwrap()), data);
        }
        let counts = machine.back.disk().counts;
        assert_eq!((counts.writes, counts.reads, counts.indirect, counts.malformed), (11, 11, 10, 0));
        assert_eq!(front.pool_count(), PoolCount { total: 64, free: 64 });
    }
}

#[test]
fn a_flush_makes_durable_and_a_discard_frees() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 0, &[7; 512]).unwrap();
    assert_eq!(machine.back.disk().durable[0], 0, "cached only");
    machine.run(&mut front, Op::Flush).unwrap();
    machine.write(&mut front, 1, &[8; 512]).unwrap();
    machine.back.disk_mut().power_cut();
    assert_eq!(machine.read(&mut front, 0, 1024), [[7; 512], [0; 512]].concat());
    machine.run(&mut front, Op::Discard { first_sector: 0, sectors: 8, secure: true }).unwrap();
    assert_eq!(machine.read(&mut front, 0, 512), [0; 512]);
    let counts = machine.back.disk().counts;
    assert_eq!((counts.flushes, counts.discards), (1, 1));
}

#[test]
fn requests_outside_the_disk_come_back_untouched() {
    let config = BlkBackConfig { sector_size_bytes: 4096, ..BlkBackConfig::default() };
    let mut machine = Machine::new(config);
    let mut front = machine.connect(16).unwrap();
    let cases =
        [(2048, 4096), (2041, 4096), (u64::MAX, 4096), (0, 0), (0, 512), (4, 4096), (0, 4100), (0, 8192)];
    for (first_sector, len_bytes) in cases {
        let bounce = front.take_pages(1).unwrap();
        let (error, op) = front.submit(1, Op::Read { first_sector, bounce, len_bytes }).unwrap_err();
        assert_eq!(error, SubmitError::BadRange, "{first_sector} {len_bytes}");
        let Op::Read { bounce, .. } = op else { panic!("another request") };
        front.give_back(bounce);
    }
    let far = Op::Discard { first_sector: 2040, sectors: u64::MAX, secure: false };
    assert_eq!(front.submit(1, far).unwrap_err().0, SubmitError::BadRange);
    assert_eq!(front.pool_count().free, 16);
    assert_eq!(machine.back.disk().counts, crate::fake::Counts::default());
}

#[test]
fn the_last_sector_is_the_last() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 2047, &[9; 512]).unwrap();
    assert_eq!(machine.read(&mut front, 2047, 512), [9; 512]);
    let beyond = write_op(&mut front, 2047, &[9; 1024]);
    assert_eq!(front.submit(1, beyond).unwrap_err().0, SubmitError::BadRange);
    let beyond = Op::Discard { first_sector: 2048, sectors: 1, secure: false };
    assert_eq!(front.submit(1, beyond).unwrap_err().0, SubmitError::BadRange);
}

#[test]
fn pages_of_another_disk_are_refused() {
    let (mut machine, mut other) =
        (Machine::new(BlkBackConfig::default()), Machine::new(BlkBackConfig::default()));
    // Another port, hence another pool.
    let _port = machine.xen.evtchn_alloc_unbound(DomId(0)).unwrap();
    let (mut front, mut wrong) = (machine.connect(8).unwrap(), other.connect(8).unwrap());
    let bounce = wrong.take_pages(1).unwrap();
    assert_eq!(front.pages(&bounce).count(), 0);
    assert!(front.page(&bounce, 0).is_none());
    let (error, op) = front.submit(1, Op::Write { first_sector: 0, bounce, len_bytes: 512 }).unwrap_err();
    assert_eq!(error, SubmitError::BadRange);
    let Op::Write { bounce, .. } = op else { panic!("another request") };
    wrong.give_back(bounce);
    assert_eq!((front.pool_count().free, wrong.pool_count().free), (8, 8));
}

#[test]
fn a_read_only_disk_takes_no_writes() {
    let mut machine = Machine::new(BlkBackConfig { read_only: true, ..BlkBackConfig::default() });
    let mut front = machine.connect(8).unwrap();
    assert!(front.geometry().read_only);
    let write = write_op(&mut front, 0, &[1; 512]);
    assert_eq!(front.submit(1, write).unwrap_err().0, SubmitError::Unsupported);
    assert_eq!(machine.read(&mut front, 0, 512), [0; 512]);
}

#[test]
fn a_full_ring_hands_the_request_back_and_goes_on_later() {
    let config = BlkBackConfig { max_ring_page_order: None, ..BlkBackConfig::default() };
    let mut machine = Machine::new(config);
    let mut front = machine.connect(64).unwrap();
    for id in 0..32 {
        let bounce = front.take_pages(1).unwrap();
        front.submit(id, Op::Read { first_sector: id, bounce, len_bytes: 512 }).unwrap();
    }
    let bounce = front.take_pages(1).unwrap();
    let (error, op) = front.submit(99, Op::Read { first_sector: 0, bounce, len_bytes: 512 }).unwrap_err();
    assert_eq!(error, SubmitError::RingFull);
    front.kick();
    let first = machine.completion(&mut front).unwrap();
    assert_eq!((first.id, machine.back.most_held()), (0, 32));
    front.submit(99, op).unwrap();
    front.kick();
    let ids: Vec<_> = core::iter::from_fn(|| machine.completion(&mut front)).map(|done| done.id).collect();
    assert_eq!(ids, (1..32).chain([99]).collect::<Vec<_>>());
}

#[test]
fn long_requests_can_fill_the_whole_pool() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(60).unwrap();
    machine.back.set_faults(Faults { delay_steps: 3, ..Faults::default() });
    for id in 0..5 {
        let op = write_op(&mut front, id * 96, &pattern(12 * 4096, 1));
        front.submit(id, op).unwrap();
    }
    assert_eq!(front.take_pages(1), None);
    front.kick();
    assert_eq!(core::iter::from_fn(|| machine.completion(&mut front)).count(), 5);
    assert_eq!(machine.back.disk().counts.indirect, 5);
}

#[test]
fn failures_are_told_apart() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.back.set_faults(Faults { fail_every: Some(2), ..Faults::default() });
    assert_eq!(machine.write(&mut front, 0, &[1; 512]), Ok(()));
    assert_eq!(machine.write(&mut front, 0, &[2; 512]), Err(IoError::Failed));
    assert_eq!(machine.run(&mut front, Op::Flush), Ok(()));
    machine.back.set_faults(Faults { fail_every: Some(2), fail_as_unsupported: true, ..Faults::default() });
    assert_eq!(machine.run(&mut front, Op::Flush), Err(IoError::Unsupported));
    assert_eq!(front.health(), Health::Connected);
    assert_eq!(front.pool_count().free, 8);
}

/// What a property test keeps of a request under way.
#[derive(Clone, Debug)]
enum Expect {
    Write { sectors: core::ops::Range<usize>, seed: u8 },
    Read { sectors: core::ops::Range<usize> },
    Other,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever the order of completions and whichever requests fail: reads return what was
    /// written, failed requests change nothing, and every page comes back.
    #[test]
    fn data_survives_reordering_and_errors(
        seed in any::<u64>(),
        persistent in any::<bool>(),
        delay_steps in 0u32..4,
        fail_every in prop::option::of(2u64..9),
        requests in prop::collection::vec((0usize..10, 0usize..1900, 1usize..140, any::<u8>()), 1..120),
    ) {
        let mut machine = Machine::new(BlkBackConfig { persistent, ..BlkBackConfig::default() });
        let mut front = machine.connect(96).unwrap();
        machine.back.set_faults(Faults { seed, reorder: true, delay_steps, fail_every, ..Faults::default() });
        let mut disk = vec![0u8; 2048 * 512];
        let mut flying: BTreeMap<u64, Expect> = BTreeMap::new();
        let mut queue = requests.into_iter();
        let mut next = queue.next();
        let mut id = 0;
        let overlaps = |flying: &BTreeMap<u64, Expect>, range: &core::ops::Range<usize>| {
            flying.values().any(|expect| match expect {
                Expect::Write { sectors, .. } | Expect::Read { sectors } => {
                    sectors.start < range.end && range.start < sectors.end
                }
                Expect::Other => false,
            })
        };
        while next.is_some() || !flying.is_empty() {
            // Requests that touch the same sectors are kept apart, as a guest would.
            while let Some((kind, first, count, seed)) = next {
                let sectors = first..(first + count).min(2048);
                if overlaps(&flying, &sectors) {
                    break;
                }
                let len_bytes = u32::try_from(sectors.len() * 512).unwrap();
                let first_sector = first as u64;
                let (op, expect) = if kind == 0 {
                    (Op::Flush, Expect::Other)
                } else {
                    let Some(bounce) = front.take_pages(pages(len_bytes)) else { break };
                    if kind < 6 {
                        fill(&front, &bounce, &pattern(sectors.len() * 512, seed));
                        (Op::Write { first_sector, bounce, len_bytes }, Expect::Write { sectors, seed })
                    } else {
                        (Op::Read { first_sector, bounce, len_bytes }, Expect::Read { sectors })
                    }
                };
                if let Err((error, op)) = front.submit(id, op) {
                    prop_assert_eq!(error, SubmitError::RingFull);
                    if let Op::Read { bounce, .. } | Op::Write { bounce, .. } = op {
                        front.give_back(bounce);
                    }
                    break;
                }
                flying.insert(id, expect);
                id += 1;
                next = queue.next();
            }
            front.kick();
            let done = machine.completion(&mut front).expect("something completes");
            match (flying.remove(&done.id).expect("asked for"), done.outcome) {
                (Expect::Write { sectors, seed }, Ok(())) => {
                    let data = pattern(sectors.len() * 512, seed);
                    disk[sectors.start * 512..sectors.end * 512].copy_from_slice(&data);
                }
                (Expect::Read { sectors }, Ok(())) => {
                    let len_bytes = u32::try_from(sectors.len() * 512).unwrap();
                    let read = content(&front, done.bounce.as_ref().unwrap(), len_bytes);
                    prop_assert!(read == disk[sectors.start * 512..sectors.end * 512]);
                }
                (_, outcome) => prop_assert!(outcome.is_ok() || fail_every.is_some()),
            }
            if let Some(bounce) = done.bounce {
                front.give_back(bounce);
            }
        }
        prop_assert_eq!(front.health(), Health::Connected);
        prop_assert_eq!(front.pool_count(), PoolCount { total: 96, free: 96 });
        prop_assert!(machine.back.disk().cached == disk);
        front.close(&mut machine.xs).unwrap();
        let left = front.disconnect();
        prop_assert_eq!((left.busy_pages, left.unfinished.len()), (0, 0));
        prop_assert_eq!(machine.xen.live_grants(), 0);
    }

    /// A peer that breaks a rule at any moment is noticed, takes nothing with it but the
    /// requests it still held, and every page is accounted for.
    #[test]
    fn a_broken_rule_loses_no_page(
        at in 0u64..12,
        reorder in any::<bool>(),
        seed in any::<u64>(),
        misdeed in prop_oneof![
            Just(Misdeed::BogusId), Just(Misdeed::Duplicate), Just(Misdeed::WrongOperation),
            (33u32..).prop_map(Misdeed::IndexJump), Just(Misdeed::Vanish), Just(Misdeed::Silence),
        ],
    ) {
        let mut machine = Machine::new(BlkBackConfig::default());
        let mut front = machine.connect(32).unwrap();
        let misdeed_at = Some((at, misdeed));
        machine.back.set_faults(Faults { seed, reorder, misdeed_at, ..Faults::default() });
        for id in 0..12u64 {
            let op = write_op(&mut front, id * 16, &pattern(8192, 1));
            front.submit(id, op).unwrap();
        }
        front.kick();
        let mut completed = 0;
        while let Some(done) = machine.completion(&mut front) {
            completed += 1;
            front.give_back(done.bounce.unwrap());
        }
        machine.xs.poll_events().unwrap();
        while let Some(event) = machine.xs.next_event() {
            front.on_watch(&mut machine.xs, &event.path).unwrap();
        }
        let flying: Vec<_> = front.in_flight_ids().collect();
        prop_assert_eq!(completed + flying.len(), 12);
        let in_flight_pages = 2 * flying.len();
        prop_assert_eq!(usize::from(front.pool_count().free) + in_flight_pages, 32);
        match (misdeed, front.health()) {
            (Misdeed::BogusId, Health::Broken(PeerFault::UnknownId(_)))
            | (Misdeed::WrongOperation, Health::Broken(PeerFault::WrongOperation { .. }))
            | (Misdeed::Duplicate, Health::Broken(PeerFault::UnknownId(_) | PeerFault::ResponseOverrun(_)))
            | (Misdeed::IndexJump(_), Health::Broken(PeerFault::ResponseOverrun(_)))
            | (Misdeed::Vanish, Health::Broken(PeerFault::Left(XenbusState::Closed))) => {
                let bounce = front.take_pages(1);
                prop_assert!(front.submit(50, Op::Flush).is_err());
                prop_assert!(front.next_completion().is_none() && !front.enable_events(1));
                bounce.into_iter().for_each(|bounce| front.give_back(bounce));
            }
            (Misdeed::Silence, Health::Connected) => prop_assert!(!flying.is_empty()),
            (_, health) => prop_assert!(false, "{:?} gave {:?}", misdeed, health),
        }
        front.close(&mut machine.xs).unwrap();
        let left = front.disconnect();
        prop_assert_eq!(left.busy_pages, 0);
        // 32 data pages, a ring page, two pages for segments.
        prop_assert_eq!(left.revoked_pages, 35);
        prop_assert_eq!(left.unfinished.len(), flying.len());
        prop_assert_eq!(machine.xen.live_grants(), 0);
    }
}

proptest! {
    /// Whatever stands in the ring, the frontend neither panics nor loses a page, and a
    /// completion is always that of a request.
    #[test]
    fn no_ring_content_loses_a_page(
        words in prop::collection::vec((0usize..64, any::<u32>()), 0..40),
        low_ids in any::<bool>(),
        rsp_prod in 0u32..16,
    ) {
        let mut machine = Machine::new(BlkBackConfig::default());
        let mut front = machine.connect(32).unwrap();
        machine.back.set_faults(Faults { misdeed_at: Some((0, Misdeed::Silence)), ..Faults::default() });
        for id in 0..12u64 {
            let op = write_op(&mut front, id * 16, &[1; 8192]);
            front.submit(id, op).unwrap();
        }
        front.kick();
        let ring = front.ring_pages[0].page().clone();
        for (place, value) in words {
            // The four words of a response in each of the first entries.
            let value = if low_ids { value % 14 } else { value };
            ring.store(64 + place / 4 * 112 + place % 4 * 4, value, kernel::Order::Relaxed).unwrap();
        }
        ring.store(8, rsp_prod, kernel::Order::AcqRel).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(done) = front.next_completion() {
            prop_assert!(done.id < 12 && seen.insert(done.id));
            front.give_back(done.bounce.unwrap());
        }
        prop_assert_eq!(seen.len() + front.in_flight_ids().count(), 12);
        prop_assert_eq!(usize::from(front.pool_count().free), 8 + 2 * seen.len());
    }
}

// Watching and leaving.

#[test]
fn a_resize_is_taken_over_and_nonsense_is_not() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    let path = format!("{}/state", front.backend_path());
    assert_eq!(front.on_watch(&mut machine.xs, &path), Ok(WatchOutcome::Unchanged));
    assert_eq!(
        front.on_watch(&mut machine.xs, "/local/domain/0/backend/vbd/5/517120/state"),
        Ok(WatchOutcome::NotOurs)
    );
    machine.back.set_node("sectors", "4096");
    machine.back.set_node("state", "4");
    assert_eq!(front.on_watch(&mut machine.xs, &path), Ok(WatchOutcome::Resized));
    assert_eq!(front.geometry().sectors, 4096);
    for nonsense in ["99999999999999999999", "18446744073709551615", "0", "many"] {
        machine.back.set_node("sectors", nonsense);
        assert_eq!(front.on_watch(&mut machine.xs, &path), Ok(WatchOutcome::Unchanged));
        assert_eq!(front.geometry().sectors, 4096);
    }
}

#[test]
fn a_fault_seen_while_going_to_sleep_is_looked_at() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    assert!(!front.enable_events(1));
    front.ring_pages[0].page().store(8, 1u32, kernel::Order::AcqRel).unwrap();
    assert!(front.enable_events(1), "there is something to look at");
    assert!(matches!(front.health(), Health::Broken(PeerFault::ResponseOverrun(_))));
    assert!(!front.enable_events(1), "once");
}

#[test]
fn a_back_end_that_cannot_be_notified_is_lost() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    front.submit(1, Op::Flush).unwrap();
    machine.xen.fail_next("evtchn_send", Errno::EINVAL);
    front.kick();
    assert_eq!(front.health(), Health::Broken(PeerFault::Unreachable(Errno::EINVAL)));
}

#[test]
fn a_removed_back_end_is_a_lost_one() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    while machine.xs.next_event().is_some() {}
    machine.store.rm("/local/domain/0/backend/vbd/5/51712");
    machine.xen.run_peers(10);
    assert!(machine.xs.poll_events().unwrap());
    let event = machine.xs.next_event().unwrap();
    assert_eq!(front.on_watch(&mut machine.xs, &event.path), Ok(WatchOutcome::Lost));
    assert_eq!(front.health(), Health::Broken(PeerFault::Left(XenbusState::Unknown)));
}

#[test]
fn closing_in_order_gives_everything_back() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 0, &[1; 4096]).unwrap();
    assert!(machine.back.mapped_pages() > 0);
    front.close(&mut machine.xs).unwrap();
    assert_eq!(front.health(), Health::Closed);
    assert_eq!(machine.back.state(), 6);
    assert_eq!(front.disconnect(), Disconnected { revoked_pages: 9, busy_pages: 0, unfinished: vec![] });
    assert_eq!((machine.xen.live_grants(), machine.xen.open_ports()), (0, 1));
    assert!(machine.store.watches().is_empty());
    // Blkback is online still: a new frontend can connect.
    let mut front = machine.connect(8).unwrap();
    assert_eq!(machine.read(&mut front, 0, 512), [1; 512]);
}

#[test]
fn pages_that_the_back_end_keeps_are_leaked_and_reported() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 0, &[1; 4096]).unwrap();
    let mapped = machine.back.mapped_pages();
    machine.back.set_faults(Faults { keep_grants: true, ..Faults::default() });
    front.close(&mut machine.xs).unwrap();
    let leaked = crate::gnttab::leaked_pages();
    let left = front.disconnect();
    // The ring's page and the data pages.
    assert_eq!((left.busy_pages, left.revoked_pages), (mapped + 1, 9 - mapped - 1));
    assert!(crate::gnttab::leaked_pages() >= leaked + left.busy_pages);
    assert_eq!(machine.xen.live_grants(), left.busy_pages);
}

#[test]
fn a_dead_xenstore_does_not_stop_the_disk() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.store.knobs(|knobs| knobs.silent = true);
    let path = format!("{}/state", front.backend_path());
    assert_eq!(front.on_watch(&mut machine.xs, &path), Err(StoreError::TimedOut));
    assert_eq!(front.health(), Health::Connected);
    machine.write(&mut front, 0, &[1; 512]).unwrap();
}

// Earlier incarnations and later ones.

/// Steps until a connection stands or this much time has passed.
fn reconnect(machine: &mut Machine, way: &mut Reconnect<FakeXen>, time_ns: u64) -> Option<BlkFront<FakeXen>> {
    let end_ns = machine.xen.now_ns() + time_ns;
    while machine.xen.now_ns() < end_ns {
        machine.xs.poll_events().unwrap();
        while let Some(event) = machine.xs.next_event() {
            way.on_watch(&event.path);
        }
        if let Some(front) = way.step(&mut machine.xs) {
            return Some(front);
        }
        let until_ns = way.due_ns().min(end_ns);
        machine.xen.poll(&[machine.xs.port()], Some(until_ns)).unwrap();
    }
    None
}

const A_WHILE_NS: u64 = 15_000_000_000;

#[test]
fn what_an_earlier_life_left_is_closed_before_connecting() {
    for state in ["5", "4", "2"] {
        let mut machine = Machine::new(BlkBackConfig::default());
        // A stub that panicked gives nothing back and says nothing.
        core::mem::forget(machine.connect(8).unwrap());
        machine.back.set_node("state", state);
        let mut front = machine.connect(8).unwrap();
        assert_eq!(machine.back.connections(), 2, "from {state}");
        machine.write(&mut front, 0, &[7; 512]).unwrap();
        assert_eq!(machine.read(&mut front, 0, 512), [7; 512]);
    }
}

#[test]
fn a_back_end_that_never_lets_go_of_an_earlier_life_is_not_connected_to() {
    let mut machine = Machine::new(BlkBackConfig::default());
    core::mem::forget(machine.connect(8).unwrap());
    machine.back.unbind();
    assert_eq!(machine.connect(8).err(), Some(ConnectError::TimedOut(XenbusState::Connected)));
}

#[test]
fn a_reconnection_takes_every_page_back_first() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 0, &[1; 8 * 4096]).unwrap();
    let grants = machine.xen.live_grants();
    machine.back.set_faults(Faults { keep_grants: true, ..Faults::default() });
    machine.back.set_node("state", "5");
    let mut way = front.reconnect();
    assert!(reconnect(&mut machine, &mut way, A_WHILE_NS).is_none());
    assert_eq!(way.pages_out(), grants, "all of them are mapped");
    assert_eq!(machine.xen.live_grants(), grants, "and no other was granted");
    // It lets go at last.
    machine.back.set_faults(Faults::default());
    machine.back.let_go();
    let mut front = reconnect(&mut machine, &mut way, A_WHILE_NS).unwrap();
    assert_eq!((way.pages_out(), machine.xen.live_grants()), (0, grants));
    assert_eq!(machine.read(&mut front, 0, 512), [1; 512]);
}

#[test]
fn a_disk_that_is_attached_elsewhere_is_followed() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    assert_eq!(front.backend_domid(), DomId(0));
    machine.back.reattach(DomId(9));
    machine.xen.run_peers(100);
    assert_eq!(front.refresh(&mut machine.xs), Ok(WatchOutcome::Lost));
    let mut way = front.reconnect();
    let front = reconnect(&mut machine, &mut way, A_WHILE_NS).unwrap();
    assert_eq!(
        (front.backend_domid(), front.backend_path()),
        (DomId(9), "/local/domain/9/backend/vbd/5/51712")
    );
    let mut watches: Vec<_> = machine.store.watches().into_iter().map(|(path, _)| path).collect();
    watches.sort();
    assert_eq!(watches, ["/local/domain/9/backend/vbd/5/51712/state", "device/vbd/51712/backend"]);
}

#[test]
fn a_directory_made_anew_behind_the_same_name_is_noticed() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    // Blkback's state is the only node that looks as it did.
    machine.back.unbind();
    machine.store.write(&format!("/local/domain/5/device/vbd/{VDEV}/state"), "1");
    let path = format!("device/vbd/{VDEV}/backend");
    assert_eq!(front.on_watch(&mut machine.xs, &path), Ok(WatchOutcome::Lost));
    assert_eq!(front.health(), Health::Broken(PeerFault::Replaced));
}

#[test]
fn a_disk_that_is_being_taken_away_is_closed_and_not_begun_anew() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let front = machine.connect(8).unwrap();
    machine.back.detach();
    let mut way = front.reconnect();
    assert!(reconnect(&mut machine, &mut way, A_WHILE_NS).is_none());
    assert_eq!((machine.front_node("state"), machine.back.state()), (None, 0), "the toolstack is done");
    assert_eq!(machine.back.connections(), 1);
    machine.back.reattach(DomId(0));
    // At once: nobody failed.
    assert!(reconnect(&mut machine, &mut way, 100_000_000).is_some());
}

#[test]
fn a_reconnection_without_memory_or_grants_is_tried_again() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let front = machine.connect(64).unwrap();
    machine.back.set_node("state", "5");
    let mut way = front.reconnect();
    machine.xen.limit_grants(40);
    assert!(reconnect(&mut machine, &mut way, A_WHILE_NS).is_none());
    assert!(machine.xen.live_grants() <= 40);
    machine.xen.limit_grants(1000);
    assert!(reconnect(&mut machine, &mut way, A_WHILE_NS).is_some());
}
