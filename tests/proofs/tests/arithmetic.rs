//! Arithmetic of rings, chains, windows and requests against what it means, for every small size.
//!
//! (A bounded model checker such as Kani would take symbolic sizes. Its verifier cannot be had from the
//! registry of crates, so sizes are enumerated.)

use backend::access::{Access, Direction, Width};
use backend::testkit::{BlkRequest, Framing, TestMemory};
use backend::virtq::queue::RingFeatures;
use backend::virtq::{ChainView, Layout, Queue, SegmentPool};
use backend::{GuestAddr, GuestMemory};
use drivers::fake::BlkBackConfig;
use drivers::ring::FrontRing;
use kernel::SharedPage;
use proofs::machine::Machine;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::blkif::RING_ENTRY_SIZE;
use xen_pv_sys::io::ring::HEADER_SIZE;

/// Each entry of a ring of up to 16 pages lies behind the one before, as one run over the pages.
#[test]
fn entries_follow_each_other_over_all_pages() {
    for count in [1, 2, 4, 8, 16] {
        let pages: Vec<SharedPage> = (0..count).map(|_| SharedPage::alloc().expect("memory")).collect();
        let mut ring = FrontRing::new(pages.clone(), RING_ENTRY_SIZE).expect("a ring");
        let entries = usize::try_from(ring.entries()).expect("few");
        assert!(entries.is_power_of_two() && HEADER_SIZE + entries * RING_ENTRY_SIZE <= count * PAGE_SIZE);
        assert!(HEADER_SIZE + 2 * entries * RING_ENTRY_SIZE > count * PAGE_SIZE, "the largest that fits");
        let entry = |number: usize| -> Vec<u8> {
            (0..RING_ENTRY_SIZE).map(|at| u8::try_from((number * 7 + at) % 251).expect("a byte")).collect()
        };
        (0..entries).for_each(|number| ring.queue(&entry(number)).expect("room"));
        let mut all = vec![0; count * PAGE_SIZE];
        for (page, bytes) in pages.iter().zip(all.chunks_mut(PAGE_SIZE)) {
            page.read(0, bytes).expect("a page");
        }
        let expected: Vec<u8> = (0..entries).flat_map(entry).collect();
        assert_eq!(all[HEADER_SIZE..HEADER_SIZE + expected.len()], expected, "{count} pages");
    }
}

/// An access is inside a window exactly if each of its bytes is, also at the end of all addresses.
#[test]
fn an_access_is_inside_a_window_if_all_its_bytes_are() {
    let near = |middle: u64| (0..24u64).map(move |at| middle.wrapping_sub(12).wrapping_add(at));
    for base in near(0x1000).chain(near(u64::MAX - 12)).chain(0..12) {
        // A window does not wrap.
        for len in (0..20).filter(|&len| base.checked_add(len).is_some()) {
            for addr in near(base) {
                for width in [Width::One, Width::Two, Width::Four, Width::Eight] {
                    let access = Access { addr, width, direction: Direction::Read };
                    let inside = (0..width.bytes())
                        .all(|byte| addr.checked_add(byte).is_some_and(|at| at >= base && at - base < len));
                    let expected = inside.then(|| addr - base);
                    let found = access.within(base, len).map(|access| access.addr);
                    assert_eq!(found, expected, "{addr:#x} {width:?} in {base:#x}+{len}");
                }
            }
        }
    }
}

const DESCS: u64 = TestMemory::BASE;
const AVAIL: u64 = TestMemory::BASE + 0x100;
const USED: u64 = TestMemory::BASE + 0x200;
const DATA: u64 = TestMemory::BASE + 0x400;

/// A chain with buffers of these lengths to read, whose bytes count up from 1.
fn chain_of(lens: &[u32]) -> TestMemory {
    let mem = TestMemory::new(0x1000);
    let mut value = 0;
    for (at, &len) in lens.iter().enumerate() {
        let addr = DATA + at as u64 * 16;
        for byte in 0..u64::from(len) {
            value += 1;
            mem.poke(addr + byte, &[value]);
        }
        let mut desc = addr.to_le_bytes().to_vec();
        desc.extend(len.to_le_bytes());
        desc.extend(u16::from(at + 1 < lens.len()).to_le_bytes());
        desc.extend(u16::try_from(at + 1).expect("short").to_le_bytes());
        mem.poke(DESCS + at as u64 * 16, &desc);
    }
    mem.poke_u16(AVAIL + 2, 1);
    mem
}

/// Every part of every short chain, whatever its framing, is the bytes that stand there.
#[test]
fn a_part_of_a_chain_is_the_same_bytes_however_they_are_framed() {
    let place = GuestAddr::new;
    let layout = Layout::new(4, place(DESCS), place(AVAIL), place(USED)).expect("a good layout");
    let lens = (0..=3).flat_map(|a| (0..=3).flat_map(move |b| (0..=3).map(move |c| [a, b, c])));
    for lens in lens {
        let mem = chain_of(&lens);
        let mut pool = SegmentPool::new(1024);
        let mut queue = Queue::new(layout, RingFeatures::default());
        let popped = queue.pop(&mem, &mut pool).expect("a good ring");
        let chain = popped.expect("a chain");
        let view = ChainView::new(&chain, &pool, &mem);
        let total = u64::from(lens.iter().sum::<u32>());
        assert_eq!((view.readable_bytes(), view.writable_bytes()), (total, 0));
        for start in 0..=total + 1 {
            for end in start..=total + 2 {
                let mut found = [0; 16];
                let read = view.readable(start..end).read(&mut found).expect("memory");
                let expected: Vec<u8> =
                    (start.min(total)..end.min(total)).map(|at| u8::try_from(at + 1).expect("few")).collect();
                assert_eq!(found[..read], expected, "{start}..{end} of {lens:?}");
            }
        }
        pool.abandon(chain);
        assert_eq!(mem.read(place(DATA), &mut [0]), Ok(()));
    }
}

/// Writes of every length up to several ring requests land where they should, and no ring request is
/// longer than its storage backend takes.
#[test]
fn a_request_of_any_length_is_split_without_a_gap() {
    for max_indirect_segments in [None, Some(16)] {
        for sectors in (1..=10).chain(86..=90).chain(127..=130).chain(175..=178) {
            let config = BlkBackConfig { sectors: 256, max_indirect_segments, ..BlkBackConfig::default() };
            let mut machine = Machine::with(config, 64);
            let data: Vec<u8> =
                (0..sectors * 512).map(|at: usize| u8::try_from(at % 251).expect("a byte")).collect();
            let request = BlkRequest { kind: 1, sector: 3, out: data.clone(), in_len: 0 };
            machine.driver.submit(&request, &Framing::Pieces(vec![16, 700, 4096, 33_000]));
            machine.driver.want_interrupt(1);
            machine.driver.kick();
            let answer = (0..50).find_map(|_| {
                machine.round(1_000_000);
                machine.driver.next_used()
            });
            assert_eq!(answer.expect("answered").1.status, 0, "{sectors} sectors");
            let disk = machine.back.disk();
            assert_eq!(disk.counts.malformed, 0);
            let written = 3 * 512..3 * 512 + data.len();
            assert!(disk.cached[written.clone()] == data, "{sectors} sectors");
            assert!(
                disk.cached[..written.start].iter().chain(&disk.cached[written.end..]).all(|&byte| byte == 0)
            );
        }
    }
}
