//! Our block frontend against a storage backend that writes anything into nodes and ring.

use crate::Input;
use drivers::blkfront::{Bounce, Health, Op};
use drivers::fake::XenStored;
use drivers::{BlkFront, Xenstore};
use kernel::fake::FakeXen;
use kernel::{DomId, GrantRef, Order, SharedPage};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use xen_pv_sys::io::blkif::{RING_ENTRY_SIZE, Response};
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_EVENT, RSP_EVENT, RSP_PROD};
use zerocopy::IntoBytes;

const STUB: DomId = DomId(5);
const VDEV: u32 = 51712;
const FRONT: &str = "/local/domain/5/device/vbd/51712";
const FRONT_STATE: &str = "/local/domain/5/device/vbd/51712/state";
const BACK: &str = "/local/domain/0/backend/vbd/5/51712";
const BACK_STATE: &str = "/local/domain/0/backend/vbd/5/51712/state";
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

/// The storage backend: as much of one as lets the frontend connect. It lets go of the ring when
/// the frontend closes; that one which keeps it loses pages is another test's.
struct Back {
    me: FakeXen,
    store: XenStored,
    ring: Option<(GrantRef, SharedPage)>,
}

impl Back {
    fn state(&self, path: &str) -> u32 {
        self.store.read(path).and_then(|state| state.parse().ok()).unwrap_or(0)
    }

    fn set(&self, key: &str, value: &str) {
        self.store.write(&format!("{BACK}/{key}"), value);
    }

    /// One step of the handshake, if there is one to take.
    fn step(&mut self) -> bool {
        match (self.state(FRONT_STATE), self.state(BACK_STATE)) {
            (_, 1) => self.set("state", "2"),
            (3 | 4, 2) => {
                if self.ring.is_none() {
                    self.map_ring();
                }
                self.set("state", "4");
            }
            (5, 2..=4) => self.set("state", "5"),
            (6, _) if self.ring.is_some() => self.let_go(),
            (6, 2..=5) => self.set("state", "6"),
            _ => return false,
        }
        true
    }

    fn map_ring(&mut self) {
        let gref = self.store.read(&format!("{FRONT}/ring-ref"));
        let gref = GrantRef(gref.and_then(|gref| gref.parse().ok()).expect("one ring page"));
        let page = self.me.map_grant(STUB, gref, true).expect("granted");
        self.ring = Some((gref, page));
    }

    fn let_go(&mut self) {
        if let Some((gref, _)) = self.ring.take() {
            self.me.unmap_grant(STUB, gref).expect("mapped");
        }
    }
}

/// Runs a hostile storage backend. Returns whether a request was completed well.
///
/// # Panics
/// If the frontend breaks a rule: see `drive`.
pub fn blkif_ring(data: &[u8]) -> bool {
    let xen = FakeXen::new(STUB);
    let completed = drive(&xen, data);
    xen.forget_peers();
    completed
}

/// Both ends' nodes, as the toolstack leaves them, and what the script wants others to be.
fn nodes(store: &XenStored, input: &mut Input<'_>) {
    for (key, value) in [("backend", BACK), ("backend-id", "0"), ("state", "1")] {
        store.write(&format!("{FRONT}/{key}"), value);
    }
    for (key, value) in [("state", "1"), ("sectors", "64"), ("sector-size", "512"), ("feature-discard", "1")]
    {
        store.write(&format!("{BACK}/{key}"), value);
    }
    for _ in 0..input.u8() % 4 {
        let key = input.choose(&NODES);
        store.write(&format!("{BACK}/{key}"), input.choose(&VALUES));
    }
}

/// The frontend, and what it was asked for and has not answered.
struct Front {
    front: BlkFront<FakeXen>,
    under_way: BTreeSet<u64>,
    pages_out: u16,
    /// Whether a request was completed well.
    completed: bool,
}

impl Front {
    fn submit(&mut self, id: u64, input: &mut Input<'_>) {
        let pages = 1 + u16::from(input.u8() % 3);
        let Some(op) = operation(input, &mut self.front, pages) else { return };
        let taken = pages_of(&op);
        match self.front.submit(id, op) {
            Ok(()) => {
                assert!(self.under_way.insert(id));
                self.pages_out += taken;
            }
            Err((_, op)) => give_back(&mut self.front, op),
        }
    }

    fn complete(&mut self) {
        let Some(completion) = self.front.next_completion() else { return };
        assert!(self.under_way.remove(&completion.id), "under way, and once");
        self.completed |= completion.outcome.is_ok();
        if let Some(bounce) = completion.bounce {
            self.pages_out -= bounce.page_count();
            self.front.give_back(bounce);
        }
    }

    /// What must hold after every step.
    fn check(&mut self) {
        if self.front.health() != Health::Connected {
            assert_eq!(self.front.next_completion(), None, "a broken connection completes nothing");
        }
        let count = self.front.pool_count();
        assert_eq!(count.free + self.pages_out, count.total, "no page is lost");
        assert_eq!(self.front.in_flight_ids().count(), self.under_way.len());
    }
}

/// Connects, then uses the disk while ring and nodes are written by the script.
///
/// # Panics
/// If a request completes that is not under way, or twice; if pages are lost; if a broken
/// connection completes anything.
fn drive(xen: &FakeXen, data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let store = XenStored::start(xen);
    nodes(&store, &mut input);
    let back = Rc::new(RefCell::new(Back { me: xen.domain(DomId(0)), store, ring: None }));
    let peer = back.clone();
    xen.on_idle(move || peer.borrow_mut().step());
    let mut xs = Xenstore::new(xen).expect("a ring");
    let Ok(front) = BlkFront::connect(xen, &mut xs, VDEV, POOL_PAGES) else {
        assert_eq!(xen.live_grants(), 0, "everything was taken back");
        return false;
    };
    let ring = back.borrow().ring.as_ref().map(|(_, page)| page.clone()).expect("mapped");
    let orderly = input.u8() & 1 == 0;

    let mut used = Front { front, under_way: BTreeSet::new(), pages_out: 0, completed: false };
    for id in 0..STEPS as u64 {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 | 1 => used.submit(id, &mut input),
            2 => used.front.kick(),
            3 | 4 => used.complete(),
            5 => {
                let _ = used.front.enable_events(1);
                if input.u8().is_multiple_of(8) {
                    back.borrow().set(input.choose(&["sectors", "state"]), input.choose(&VALUES));
                    let _ = used.front.on_watch(&mut xs, BACK_STATE);
                }
            }
            _ => misdeed(&mut input, &ring),
        }
        used.check();
    }
    if orderly {
        let _ = used.front.close(&mut xs);
    } else {
        back.borrow_mut().let_go();
    }
    let left = used.front.disconnect();
    assert_eq!(left.unfinished.len(), used.under_way.len());
    assert_eq!((left.busy_pages, xen.live_grants()), (0, 0), "every page was taken back");
    used.completed
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
