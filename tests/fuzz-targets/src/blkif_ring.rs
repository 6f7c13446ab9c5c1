//! Our block front end against a back end that writes anything into nodes and ring.

use crate::Input;
use drivers::blkfront::{Bounce, Health, Op};
use drivers::fake::{BlkBack, BlkBackConfig, XenStored};
use drivers::{BlkFront, Xenstore};
use kernel::fake::FakeXen;
use kernel::{DomId, GrantRef, Order, SharedPage};
use std::collections::BTreeSet;
use xen_pv_sys::io::blkif::{RING_ENTRY_SIZE, Response};
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_EVENT, RSP_EVENT, RSP_PROD};
use zerocopy::IntoBytes;

const VDEV: u32 = 51712;
const POOL_PAGES: u16 = 12;
const STEPS: usize = 200;
/// Entries of a ring of one page.
const ENTRIES: u32 = 32;

const NODES: [&str; 8] = [
    "sectors",
    "sector-size",
    "physical-sector-size",
    "info",
    "feature-max-indirect-segments",
    "discard-granularity",
    "feature-discard",
    "state",
];
const VALUES: [&str; 12] =
    ["", "0", "1", "-1", "511", "512", "4096", "3", "18446744073709551615", "4294967296", "x", "6"];

/// Runs a hostile back end.
///
/// # Panics
/// If the front end breaks a rule: see `drive`.
pub fn blkif_ring(data: &[u8]) {
    let xen = FakeXen::new(DomId(5));
    drive(&xen, data);
    xen.forget_peers();
}

/// Connects, then uses the disk while the ring is written by the script.
///
/// # Panics
/// If a request completes that is not under way, or twice; if pages are lost; if a broken
/// connection completes anything.
fn drive(xen: &FakeXen, data: &[u8]) {
    let mut input = Input::new(data);
    let store = XenStored::start(xen);
    let config = BlkBackConfig { max_ring_page_order: None, sectors: 64, ..BlkBackConfig::default() };
    let back = BlkBack::attach(xen, &store, VDEV, config);
    let mut xs = Xenstore::new(xen).expect("a ring");
    for _ in 0..input.u8() % 4 {
        let key = input.choose(&NODES);
        back.set_node(key, input.choose(&VALUES));
    }
    let Ok(mut front) = BlkFront::connect(xen, &mut xs, VDEV, POOL_PAGES) else {
        return;
    };
    let gref = store.read(&format!("/local/domain/5/device/vbd/{VDEV}/ring-ref"));
    let gref = gref.and_then(|gref| gref.parse().ok()).expect("one ring page");
    let ring = xen.domain(DomId(0)).map_grant(DomId(5), GrantRef(gref), true).expect("granted");

    let mut under_way = BTreeSet::new();
    let mut pages_out = 0u16;
    for id in 0..STEPS as u64 {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 | 1 => {
                let pages = 1 + u16::from(input.u8() % 3);
                let op = operation(&mut input, &mut front, pages);
                let Some(op) = op else { continue };
                let taken = pages_of(&op);
                match front.submit(id, op) {
                    Ok(()) => {
                        assert!(under_way.insert(id));
                        pages_out += taken;
                    }
                    Err((_, op)) => give_back(&mut front, op),
                }
            }
            2 => front.kick(),
            3 | 4 => {
                if let Some(completion) = front.next_completion() {
                    assert!(under_way.remove(&completion.id), "under way, and once");
                    if let Some(bounce) = completion.bounce {
                        pages_out -= bounce.page_count();
                        front.give_back(bounce);
                    }
                }
            }
            5 => {
                let _ = front.rearm();
            }
            _ => misdeed(&mut input, &ring),
        }
        if front.health() != Health::Connected {
            assert_eq!(front.next_completion(), None, "a broken connection completes nothing");
        }
        let count = front.pool_count();
        assert_eq!(count.free + pages_out, count.total, "no page is lost");
        assert_eq!(front.in_flight_ids().count(), under_way.len());
    }
    let left = front.disconnect();
    assert_eq!(left.unfinished.len(), under_way.len());
}

fn operation(input: &mut Input<'_>, front: &mut BlkFront<FakeXen>, pages: u16) -> Option<Op> {
    let kind = input.u8();
    let first_sector = if kind & 0x80 != 0 { input.u64() } else { u64::from(input.u8() % 64) };
    let len_bytes = if kind & 0x40 != 0 { input.u32() } else { u32::from(pages) * 4096 };
    Some(match kind % 4 {
        0 => Op::Read { first_sector, bounce: take(front, pages)?, len_bytes },
        1 => Op::Write { first_sector, bounce: take(front, pages)?, len_bytes },
        2 => Op::Flush,
        _ => Op::Discard { first_sector, sectors: u64::from(input.u8()), secure: kind & 0x20 != 0 },
    })
}

fn take(front: &mut BlkFront<FakeXen>, pages: u16) -> Option<Bounce> {
    front.take_pages(pages)
}

fn pages_of(op: &Op) -> u16 {
    match op {
        Op::Read { bounce, .. } | Op::Write { bounce, .. } => bounce.page_count(),
        _ => 0,
    }
}

fn give_back(front: &mut BlkFront<FakeXen>, op: Op) {
    if let Op::Read { bounce, .. } | Op::Write { bounce, .. } = op {
        front.give_back(bounce);
    }
}

/// One hostile change of the ring page.
fn misdeed(input: &mut Input<'_>, ring: &SharedPage) {
    let set = |field: usize, value: u32| ring.store(field, value, Order::Relaxed).expect("inside");
    let get = |field: usize| ring.load::<u32>(field, Order::Relaxed).expect("inside");
    match input.u8() % 8 {
        0 => {
            let at = usize::from(input.u16()) % 4000;
            let len = input.below(64);
            ring.write(at, input.bytes(len)).expect("inside");
        }
        1 => set(RSP_PROD, input.u32()),
        2 => set(REQ_EVENT, input.u32()),
        3 => set(RSP_EVENT, input.u32()),
        _ => {
            // A response to the request in that place, right in most ways.
            let at = get(RSP_PROD);
            let entry = HEADER_SIZE + (at % ENTRIES) as usize * RING_ENTRY_SIZE;
            let operation: u8 = ring.load(entry, Order::Relaxed).expect("inside");
            // A request's id lies after operation, segment count, handle and padding.
            let id: u64 = ring.load(entry + 8, Order::Relaxed).expect("inside");
            let twist = input.u8();
            let response = Response {
                id: if twist & 0xc0 == 0xc0 { id.wrapping_add(input.u64()) } else { id },
                operation: if twist & 0x30 == 0x30 { twist & 7 } else { operation },
                pad: 0,
                status: i16::from(twist & 3) - 2,
                pad2: 0,
            };
            ring.write(entry, response.as_bytes()).expect("inside");
            set(RSP_PROD, at.wrapping_add(1));
        }
    }
}
