//! One queue over any memory, at any valid place, while the memory may change.

use crate::Input;
use backend::testkit::{HostileMemory, TestMemory};
use backend::virtq::queue::RingFeatures;
use backend::virtq::{Chain, Layout, QUEUE_SIZE_MAX, Queue, SegmentPool};
use backend::{GuestAddr, GuestMemory};

const RAM: usize = 0x4000;
/// Room for two of the longest chains: it runs short as well.
const POOL: u16 = 2 * QUEUE_SIZE_MAX;

/// An address of a half-word in the RAM.
fn clamp(at: u64) -> u64 {
    at.min(TestMemory::BASE + RAM as u64 - 2)
}

/// What a case is made of.
struct Case<'a> {
    layout: Layout,
    flags: u8,
    ram: TestMemory,
    seed: u64,
    ops: &'a [u8],
}

impl<'a> Case<'a> {
    /// Fills a small RAM with the input and puts a queue somewhere in it; `None` where none may be.
    fn new(data: &'a [u8]) -> Option<Self> {
        let mut input = Input::new(data);
        let size = 1u16 << (input.u8() % 10);
        let mut place = |align: u64| {
            let at = TestMemory::BASE + u64::from(input.u16()) % RAM as u64;
            GuestAddr::new(at & !(align - 1))
        };
        let (desc, avail, used) = (place(16), place(2), place(4));
        let Ok(layout) = Layout::new(size.into(), desc, avail, used) else {
            assert!(size > QUEUE_SIZE_MAX, "aligned parts below the top of memory");
            return None;
        };
        let flags = input.u8();
        let seed = u64::from(input.u16());
        let steps = input.below(96) + 1;
        let ops = input.bytes(steps);
        let ram = TestMemory::new(RAM);
        let content = input.bytes(RAM);
        // Near the queue's parts, or the fuzzer would need long inputs to reach them.
        for (part, start) in content.chunks(content.len().div_ceil(3).max(1)).zip([desc, avail, used]) {
            let room = RAM - usize::try_from(start.raw() - TestMemory::BASE).expect("inside");
            ram.poke(start.raw(), &part[..part.len().min(room)]);
        }
        if flags & 8 != 0 {
            // Heads that are in the table, and few enough of them to be taken.
            let heads = u16::from(content.first().copied().unwrap_or(0)) % (size + 1);
            ram.poke_u16(clamp(avail.raw() + 2), heads);
            for entry in 0..u64::from(heads.min(8)) {
                let at = clamp(avail.raw() + 4 + entry * 2);
                ram.poke_u16(at, ram.peek_u16(at) % size);
            }
        }
        Some(Self { layout, flags, ram, seed, ops })
    }
}

/// What must hold of a chain that came out.
fn check(chain: &Chain, pool: &SegmentPool, held: &[Chain], size: u16) {
    assert!(chain.head() < size);
    let readable: u64 = pool.readable(chain, 0..u64::MAX).map(|run| u64::from(run.len_bytes)).sum();
    let writable: u64 = pool.writable(chain, 0..u64::MAX).map(|run| u64::from(run.len_bytes)).sum();
    assert_eq!(readable, chain.readable_bytes());
    assert_eq!(writable, chain.writable_bytes());
    assert!(held.iter().all(|other| other.head() != chain.head()));
    assert!(held.len() < size.into(), "no more than the queue has");
}

/// Uses a queue that the input puts somewhere into a small RAM. Returns whether a chain came out.
///
/// # Panics
/// If a chain is inconsistent, if more chains come out than the queue has entries, or if a
/// segment is lost.
pub fn virtq_mem(data: &[u8]) -> bool {
    let Some(case) = Case::new(data) else { return false };
    let (flags, size) = (case.flags, case.layout.size());
    let range = TestMemory::BASE..TestMemory::BASE + RAM as u64;
    let hostile = HostileMemory::new(case.ram.clone(), range, case.seed);
    let mem: &dyn GuestMemory = if flags & 4 != 0 { &hostile } else { &case.ram };

    let features = RingFeatures { event_idx: flags & 1 != 0, indirect: flags & 2 != 0 };
    let mut queue = Queue::new(case.layout, features);
    let mut pool = SegmentPool::new(POOL);
    let mut held = Vec::new();
    let mut popped = false;
    for op in case.ops {
        match op % 6 {
            0..=2 => match queue.pop(mem, &mut pool) {
                Ok(Some(chain)) => {
                    check(&chain, &pool, &held, size);
                    held.push(chain);
                    popped = true;
                }
                Ok(None) => {}
                Err(_) => break,
            },
            3 => {
                if let Some(chain) = held.pop() {
                    let _ = queue.add_used(mem, &mut pool, chain, u32::from(*op));
                }
            }
            4 => {
                let _ = queue.publish_used(mem).and_then(|()| queue.needs_notification(mem));
            }
            _ => {
                let _ = if op & 0x80 != 0 {
                    queue.enable_notification(mem, 1).map(drop)
                } else {
                    queue.disable_notification(mem)
                };
            }
        }
    }
    for chain in held {
        let _ = queue.add_used(mem, &mut pool, chain, 0);
    }
    assert_eq!(pool.available(), POOL, "every segment came back");
    popped
}
