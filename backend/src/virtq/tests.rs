//! The device's half of a queue against rings written by hand, and against any memory.

use super::layout::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE};
use super::queue::RingFeatures;
use super::*;
use crate::guest_mem::{GuestAddr, GuestMemory, MemFault};
use crate::testkit::{HostileMemory, TestMemory};
use alloc::vec::Vec;
use proptest::prelude::*;

const BASE: u64 = TestMemory::BASE;
const AVAIL: u64 = BASE + 0x1000;
const USED: u64 = BASE + 0x2000;
const TABLE: u64 = BASE + 0x3000;
const SIZE: u16 = 8;
const ALL: RingFeatures = RingFeatures { event_idx: true, indirect: true };
const NONE: RingFeatures = RingFeatures { event_idx: false, indirect: false };

struct Rig {
    mem: TestMemory,
    queue: Queue,
    pool: SegmentPool,
}

/// Where the descriptor `index` of a table lies.
fn at(table: u64, index: u16) -> u64 {
    table + u64::from(index) * 16
}

impl Rig {
    fn new(features: RingFeatures) -> Rig {
        let [desc, avail, used] = [BASE, AVAIL, USED].map(GuestAddr::new);
        let layout = Layout::new(SIZE.into(), desc, avail, used).expect("valid");
        let mem = TestMemory::new(0x10_0000);
        Rig { mem, queue: Queue::new(layout, features), pool: SegmentPool::new(2048) }
    }

    fn desc(&self, at: u64, (addr, len): (u64, u32), flags: u16, next: u16) {
        let mut bytes = addr.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.mem.poke(at, &bytes);
    }

    /// Puts heads into the ring from index `from` on and publishes them.
    fn offer(&self, from: u16, heads: &[u16]) {
        let mut idx = from;
        for head in heads {
            self.mem.poke_u16(AVAIL + 4 + u64::from(idx % SIZE) * 2, *head);
            idx = idx.wrapping_add(1);
        }
        self.mem.poke_u16(AVAIL + 2, idx);
    }

    fn pop(&mut self) -> Result<Option<Chain>, QueueFault> {
        self.queue.pop(&self.mem, &mut self.pool)
    }

    fn push(&mut self, chain: Chain, len: u32) {
        self.queue.add_used(&self.mem, &mut self.pool, chain, len).expect("mapped");
        self.queue.publish_used(&self.mem).expect("mapped");
    }

    fn fault(&mut self) -> QueueFault {
        let before = self.pool.available();
        let fault = self.pop().expect_err("a broken rule");
        assert_eq!(self.pool.available(), before, "a refused chain leaves no segment behind");
        fault
    }
}

#[test]
fn a_chain_keeps_its_buffers_in_order() {
    let mut rig = Rig::new(NONE);
    rig.desc(at(BASE, 5), (BASE + 0x8000, 10), DESC_F_NEXT, 1);
    rig.desc(at(BASE, 1), (BASE + 0x9000, 0), DESC_F_NEXT, 2);
    rig.desc(at(BASE, 2), (BASE + 0xa000, 20), DESC_F_NEXT | DESC_F_WRITE, 0);
    rig.desc(at(BASE, 0), (BASE + 0xb000, 30), DESC_F_WRITE, 7);
    rig.offer(0, &[5]);
    let chain = rig.pop().expect("valid").expect("a chain");
    assert_eq!((chain.head(), chain.readable_bytes(), chain.writable_bytes()), (5, 10, 50));
    let runs = |skip, len| -> Vec<(u64, u32)> {
        rig.pool
            .writable(&chain, skip..u64::saturating_add(skip, len))
            .map(|run| (run.addr.raw() - BASE, run.len_bytes))
            .collect()
    };
    assert_eq!(runs(0, u64::MAX), [(0xa000, 20), (0xb000, 30)]);
    assert_eq!(runs(19, 2), [(0xa013, 1), (0xb000, 1)]);
    assert_eq!(runs(49, 100), [(0xb01d, 1)]);
    assert_eq!(runs(50, 1), []);
    rig.push(chain, 50);
    assert_eq!(rig.mem.peek_u16(USED + 2), 1);
    assert_eq!(rig.mem.peek(USED + 4, 8), [5, 0, 0, 0, 50, 0, 0, 0]);
    assert_eq!(rig.pool.available(), 2048);
}

#[test]
fn each_broken_rule_has_its_fault() {
    let chain = |descs: &[(u64, u32, u16, u16)]| {
        let mut rig = Rig::new(ALL);
        for (index, &(addr, len, flags, next)) in (0..).zip(descs) {
            rig.desc(at(BASE, index), (addr, len), flags, next);
        }
        rig.offer(0, &[0]);
        rig.fault()
    };
    let data = BASE + 0x8000;
    assert_eq!(chain(&[(data, 1, DESC_F_NEXT, 8)]), QueueFault::NextOutOfTable(8));
    assert_eq!(chain(&[(data, 1, DESC_F_NEXT, 0)]), QueueFault::ChainTooLong, "a loop");
    assert_eq!(chain(&[(data, 0, DESC_F_NEXT, 0)]), QueueFault::ChainTooLong, "a loop of nothing");
    assert_eq!(
        chain(&[(data, 1, DESC_F_NEXT | DESC_F_WRITE, 1), (data, 1, 0, 0)]),
        QueueFault::ReadableAfterWritable
    );
    let top = GuestAddr::new(u64::MAX);
    assert_eq!(chain(&[(u64::MAX, 1, 0, 0)]), QueueFault::Memory(MemFault { addr: top }));
    let indirect = |len, flags| chain(&[(TABLE, len, DESC_F_INDIRECT | flags, 0)]);
    assert_eq!(indirect(0, 0), QueueFault::IndirectLength(0));
    assert_eq!(indirect(24, 0), QueueFault::IndirectLength(24));
    assert_eq!(indirect(16, DESC_F_NEXT), QueueFault::IndirectWithNext);
    assert_eq!(chain(&[(u64::MAX, 16, DESC_F_INDIRECT, 0)]), QueueFault::Memory(MemFault { addr: top }));
    let far = GuestAddr::new(0x10);
    assert_eq!(chain(&[(0x10, 16, DESC_F_INDIRECT, 0)]), QueueFault::Memory(MemFault { addr: far }));
}

#[test]
fn an_indirect_table_holds_one_level_and_only_if_negotiated() {
    let mut rig = Rig::new(ALL);
    rig.desc(at(BASE, 0), (TABLE, 32), DESC_F_INDIRECT, 0);
    rig.desc(at(TABLE, 0), (TABLE, 32), DESC_F_INDIRECT, 0);
    rig.offer(0, &[0]);
    assert_eq!(rig.fault(), QueueFault::IndirectNested);
    let mut rig = Rig::new(ALL);
    rig.desc(at(BASE, 0), (TABLE, 32), DESC_F_INDIRECT, 0);
    rig.desc(at(TABLE, 0), (BASE, 1), DESC_F_NEXT, 2);
    rig.offer(0, &[0]);
    assert_eq!(rig.fault(), QueueFault::NextOutOfTable(2));
    let mut rig = Rig::new(NONE);
    rig.desc(at(BASE, 0), (TABLE, 32), DESC_F_INDIRECT, 0);
    rig.offer(0, &[0]);
    assert_eq!(rig.fault(), QueueFault::IndirectNotNegotiated);
}

#[test]
fn an_indirect_table_need_be_memory_only_as_far_as_its_chain_goes() {
    let mut rig = Rig::new(ALL);
    rig.desc(at(BASE, 0), (TABLE, 16 * 64), DESC_F_INDIRECT, 0);
    rig.desc(at(TABLE, 0), (BASE + 0x8000, 1), DESC_F_NEXT, 1);
    rig.desc(at(TABLE, 1), (BASE + 0x9000, 2), DESC_F_WRITE, 0);
    rig.mem.punch(TABLE + 32..TABLE + 16 * 64);
    rig.offer(0, &[0]);
    let chain = rig.pop().expect("valid").expect("a chain");
    assert_eq!((chain.readable_bytes(), chain.writable_bytes()), (1, 2));
    // A descriptor of the chain that is no memory is another matter.
    rig.mem.punch(TABLE + 16..TABLE + 32);
    rig.desc(at(BASE, 1), (TABLE, 32), DESC_F_INDIRECT, 0);
    rig.offer(1, &[1]);
    let hole = GuestAddr::new(TABLE + 16);
    assert_eq!(rig.fault(), QueueFault::Memory(MemFault { addr: hole }));
}

#[test]
fn descriptors_of_a_long_table_are_found_in_any_order() {
    let mut rig = Rig::new(ALL);
    rig.desc(at(BASE, 0), (TABLE, 16 * 64), DESC_F_INDIRECT, 0);
    let order = [0u16, 3, 2, 7, 8, 63, 62, 1, 20, 21, 27, 28, 29];
    for (place, pair) in (1..).zip(order.windows(2)) {
        rig.desc(at(TABLE, pair[0]), (BASE + 0x8000, place), DESC_F_NEXT | DESC_F_WRITE, pair[1]);
    }
    rig.desc(at(TABLE, 29), (BASE + 0x8000, 13), DESC_F_WRITE, 0);
    rig.offer(0, &[0]);
    let chain = rig.pop().expect("valid").expect("a chain");
    let lengths: Vec<u32> = rig.pool.writable(&chain, 0..u64::MAX).map(|run| run.len_bytes).collect();
    assert_eq!(lengths, (1..=13).collect::<Vec<u32>>());
    rig.push(chain, 0);
}

#[test]
fn buffers_may_precede_an_indirect_table() {
    let mut rig = Rig::new(ALL);
    rig.desc(at(BASE, 0), (BASE + 0x8000, 16), DESC_F_NEXT, 1);
    // The write flag of an indirect descriptor means nothing.
    rig.desc(at(BASE, 1), (TABLE, 32), DESC_F_INDIRECT | DESC_F_WRITE, 0);
    rig.desc(at(TABLE, 0), (BASE + 0x9000, 4), DESC_F_NEXT, 1);
    rig.desc(at(TABLE, 1), (BASE + 0xa000, 5), DESC_F_WRITE, 0);
    rig.offer(0, &[0]);
    let chain = rig.pop().expect("valid").expect("a chain");
    assert_eq!((chain.readable_bytes(), chain.writable_bytes()), (20, 5));
    rig.push(chain, 0);
}

#[test]
fn a_chain_of_1024_buffers_is_taken_and_one_of_1025_is_not() {
    for (count, good) in [(1024u16, true), (1025, false)] {
        let mut rig = Rig::new(ALL);
        rig.desc(at(BASE, 0), (TABLE, u32::from(count) * 16), DESC_F_INDIRECT, 0);
        for index in 0..count {
            let more = if index + 1 < count { DESC_F_NEXT } else { 0 };
            rig.desc(at(TABLE, index), (BASE, 1), more, index + 1);
        }
        rig.offer(0, &[0]);
        match rig.pop() {
            Ok(Some(chain)) if good => rig.push(chain, 0),
            Err(QueueFault::ChainTooLong) if !good => {}
            other => panic!("{count}: {other:?}"),
        }
    }
}

#[test]
fn an_index_that_runs_ahead_or_back_is_a_fault() {
    let mut rig = Rig::new(NONE);
    rig.mem.poke_u16(AVAIL + 2, SIZE + 1);
    assert_eq!(rig.fault(), QueueFault::AvailOverrun { outstanding: 9 });
    let mut rig = Rig::new(NONE);
    rig.desc(at(BASE, 0), (BASE, 1), 0, 0);
    rig.desc(at(BASE, 1), (BASE, 1), 0, 0);
    rig.offer(0, &[0, 1]);
    let chains = [rig.pop().expect("valid"), rig.pop().expect("valid")];
    rig.mem.poke_u16(AVAIL + 2, 1);
    assert!(matches!(rig.fault(), QueueFault::AvailOverrun { .. }), "backwards");
    // Nothing was returned, so six more are all that fit.
    rig.mem.poke_u16(AVAIL + 2, 9);
    assert_eq!(rig.fault(), QueueFault::AvailOverrun { outstanding: 9 });
    for chain in chains.into_iter().flatten() {
        rig.push(chain, 0);
    }
}

#[test]
fn a_head_is_in_flight_only_once_and_lies_in_the_table() {
    let mut rig = Rig::new(NONE);
    rig.desc(at(BASE, 3), (BASE, 1), 0, 0);
    rig.offer(0, &[3, 3]);
    let first = rig.pop().expect("valid").expect("a chain");
    assert_eq!(rig.fault(), QueueFault::HeadInFlight(3));
    rig.push(first, 0);
    assert!(rig.pop().expect("now it is free again").is_some());
    let mut rig = Rig::new(NONE);
    rig.offer(0, &[SIZE]);
    assert_eq!(rig.fault(), QueueFault::HeadOutOfTable(SIZE));
}

#[test]
fn a_short_pool_delays_a_chain_and_loses_nothing() {
    let mut rig = Rig::new(NONE);
    rig.pool = SegmentPool::new(1024);
    rig.desc(at(BASE, 0), (BASE, 1), 0, 0);
    rig.desc(at(BASE, 1), (BASE, 1), 0, 0);
    rig.offer(0, &[0, 1]);
    let first = rig.pop().expect("valid").expect("room for one");
    assert_eq!(rig.pop(), Ok(None));
    rig.push(first, 0);
    assert!(rig.pop().expect("valid").is_some());
}

#[test]
fn a_signal_follows_the_event_index_across_the_wrap() {
    let mut rig = Rig::new(ALL);
    rig.desc(at(BASE, 0), (BASE, 1), 0, 0);
    let mut signals = 0u32;
    // The driver asks for every 7th buffer, well beyond 65536 of them.
    let mut event = 6u16;
    rig.mem.poke_u16(AVAIL + 4 + 16, event);
    for turn in 0..70_000u32 {
        rig.offer((turn & 0xffff) as u16, &[0]);
        let chain = rig.pop().expect("valid").expect("a chain");
        rig.push(chain, 0);
        if rig.queue.needs_notification(&rig.mem).expect("mapped") {
            signals += 1;
            assert_eq!(event, (turn & 0xffff) as u16);
            event = event.wrapping_add(7);
            rig.mem.poke_u16(AVAIL + 4 + 16, event);
        }
        assert!(!rig.queue.needs_notification(&rig.mem).expect("mapped"), "told once");
    }
    assert_eq!(signals, 10_000);
}

#[test]
fn without_event_index_the_flags_decide_on_both_sides() {
    let mut rig = Rig::new(NONE);
    rig.desc(at(BASE, 0), (BASE, 1), 0, 0);
    for (turn, no_interrupt) in (0..).zip([true, false]) {
        rig.mem.poke_u16(AVAIL, no_interrupt.into());
        rig.offer(turn, &[0]);
        let chain = rig.pop().expect("valid").expect("a chain");
        rig.push(chain, 0);
        assert_eq!(rig.queue.needs_notification(&rig.mem), Ok(!no_interrupt));
    }
    rig.queue.disable_notification(&rig.mem).expect("mapped");
    assert_eq!(rig.mem.peek_u16(USED), 1);
    assert_eq!(rig.queue.enable_notification(&rig.mem, 1), Ok(false));
    assert_eq!(rig.mem.peek_u16(USED), 0);
}

#[test]
fn arming_finds_a_chain_that_came_before_the_driver_could_know() {
    for features in [ALL, NONE] {
        let mut rig = Rig::new(features);
        rig.queue.disable_notification(&rig.mem).expect("mapped");
        assert_eq!(rig.queue.enable_notification(&rig.mem, 1), Ok(false));
        rig.queue.disable_notification(&rig.mem).expect("mapped");
        rig.desc(at(BASE, 0), (BASE, 1), 0, 0);
        rig.offer(0, &[0]);
        assert_eq!(rig.queue.enable_notification(&rig.mem, 1), Ok(true));
        assert!(rig.queue.is_notification_enabled());
        let avail_event = rig.mem.peek_u16(USED + 4 + 64);
        assert_eq!(avail_event, 0, "the next index to be taken");
    }
}

#[test]
fn a_ring_that_goes_away_is_a_fault() {
    let mut rig = Rig::new(ALL);
    rig.desc(at(BASE, 0), (BASE, 1), 0, 0);
    rig.offer(0, &[0]);
    let chain = rig.pop().expect("valid").expect("a chain");
    rig.mem.punch(AVAIL..USED + 0x1000);
    let used = QueueFault::Memory(MemFault { addr: GuestAddr::new(USED + 4) });
    assert_eq!(rig.queue.add_used(&rig.mem, &mut rig.pool, chain, 0), Err(used));
    assert_eq!(rig.pool.available(), 2048);
    assert!(rig.queue.publish_used(&rig.mem).is_err());
    assert!(matches!(rig.fault(), QueueFault::Memory(_)));
}

proptest! {
    /// Any ring memory: no panic; every chain taken is well-formed and can be given back;
    /// nothing is taken more often than it was offered.
    #[test]
    fn any_ring_memory_is_survived(
        bytes in prop::collection::vec(prop_oneof![3 => 0u8..8, 1 => any::<u8>()], 0x400),
        offered in 0u16..20,
        event_idx in any::<bool>(),
        seed in prop::option::of(any::<u64>()),
    ) {
        let mut rig = Rig::new(RingFeatures { event_idx, indirect: true });
        // Descriptors that mostly point into the RAM.
        for (index, chunk) in (0u16..8).zip(bytes.chunks(8)) {
            let addr = BASE + u64::from(chunk[0]) * 0x700;
            rig.desc(at(BASE, index), (addr, u32::from(chunk[1]) * 16), u16::from(chunk[2] % 8), chunk[3].into());
        }
        rig.mem.poke(TABLE, &bytes);
        rig.mem.poke(AVAIL + 4, &bytes[0x80..0x90]);
        rig.mem.poke_u16(AVAIL + 2, offered);
        let hostile = seed.map(|seed| HostileMemory::new(rig.mem.clone(), BASE..BASE + 0x4000, seed));
        let mem: &dyn GuestMemory = match &hostile {
            Some(hostile) => hostile,
            None => &rig.mem,
        };
        let mut held = Vec::new();
        for turn in 0..64 {
            match rig.queue.pop(mem, &mut rig.pool) {
                Ok(Some(chain)) => {
                    prop_assert!(chain.head() < SIZE);
                    let total: u64 = rig.pool.writable(&chain, 0..u64::MAX).map(|run| u64::from(run.len_bytes)).sum();
                    prop_assert_eq!(total, chain.writable_bytes());
                    held.push(chain);
                }
                Ok(None) => {}
                Err(_) => break,
            }
            prop_assert!(held.len() <= SIZE.into());
            if turn % 3 == 0 && let Some(chain) = held.pop() {
                let _ = rig.queue.add_used(mem, &mut rig.pool, chain, 1);
                let _ = rig.queue.publish_used(mem);
                let _ = rig.queue.needs_notification(mem);
            }
            let _ = rig.queue.enable_notification(mem, 1);
        }
        for chain in held {
            let _ = rig.queue.add_used(mem, &mut rig.pool, chain, 0);
        }
        prop_assert_eq!(rig.pool.available(), 2048);
    }

    /// A driver that obeys: every chain comes out once, in order, with its bytes.
    #[test]
    fn every_chain_offered_is_taken_once_and_returned_once(
        lengths in prop::collection::vec((0u32..50, 0u32..50), 1..200),
    ) {
        let mut rig = Rig::new(ALL);
        for (turn, &(out, into)) in (0u16..).zip(&lengths) {
            let head = (turn * 3) % SIZE;
            rig.desc(at(BASE, head), (BASE + 0x8000, out), DESC_F_NEXT, (head + 1) % SIZE);
            rig.desc(at(BASE, (head + 1) % SIZE), (BASE + 0x9000, into), DESC_F_WRITE, 0);
            rig.offer(turn, &[head]);
            let chain = rig.pop().expect("valid").expect("a chain");
            prop_assert_eq!(chain.head(), head);
            prop_assert_eq!((chain.readable_bytes(), chain.writable_bytes()), (out.into(), into.into()));
            prop_assert_eq!(rig.pop(), Ok(None));
            rig.push(chain, into);
            let elem = rig.mem.peek(USED + 4 + u64::from(turn % SIZE) * 8, 8);
            prop_assert_eq!(u32::from_le_bytes([elem[4], elem[5], elem[6], elem[7]]), into);
            prop_assert_eq!(rig.mem.peek_u16(USED + 2), turn + 1);
        }
    }
}
