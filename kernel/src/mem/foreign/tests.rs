//! The window's bookkeeping over a guest whose frames are pages of the host.

mod stale;

use super::*;
use crate::mem::shared::{Order, PageSlice, SharedPage};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::iter;
use core::ops::Range;
use core::ptr::NonNull;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::errno::Errno;

/// What Xen and the guest are in reality.
#[derive(Default)]
struct Guest {
    /// Contents of each frame that is RAM.
    frames: BTreeMap<u64, Vec<u8>>,
    /// What each page of the window shows: a frame.
    shown: BTreeMap<(u16, usize), u64>,
    /// Pages asked for in `map`, in all.
    asked: usize,
    /// Slots that have never been used cannot be: no p2m memory.
    closed: BTreeSet<u16>,
    /// Pages of the window that must not be used any more.
    stale: BTreeSet<(u16, usize)>,
}

/// What stale pages are filled with.
const POISON: u8 = 0xa5;

/// A window in host memory. The page tables of reality are played by copying: a page is
/// filled when mapped and written back to its frame when unmapped or replaced.
#[derive(Clone)]
struct FakeWindow {
    guest: Rc<RefCell<Guest>>,
    block: NonNull<u8>,
    slots: u16,
    previous_slots: u16,
}

const SLOT_SIZE: usize = CHUNK_PAGES * PAGE_SIZE;

impl FakeWindow {
    fn new(slots: u16, ram: impl IntoIterator<Item = Range<u64>>) -> FakeWindow {
        let frames = ram.into_iter().flat_map(|range| {
            (range.start / 4096..range.end / 4096).map(|gfn| {
                let mut bytes = vec![0; PAGE_SIZE];
                bytes[..8].copy_from_slice(&gfn.to_le_bytes());
                (gfn, bytes)
            })
        });
        let guest = Guest { frames: frames.collect(), ..Guest::default() };
        let block = vec![0u64; usize::from(slots) * SLOT_SIZE / 8 + PAGE_SIZE / 8].leak();
        let start = block.as_mut_ptr().cast::<u8>();
        let start = start.wrapping_add(start.align_offset(PAGE_SIZE));
        FakeWindow {
            guest: Rc::new(RefCell::new(guest)),
            block: NonNull::new(start).expect("not null"),
            slots,
            previous_slots: 0,
        }
    }

    fn at(&self, slot: u16, page: usize) -> *mut u8 {
        self.base(slot).as_ptr().wrapping_add(page * PAGE_SIZE)
    }

    fn write_back(&self, guest: &mut Guest, slot: u16, page: usize) {
        let Some(gfn) = guest.shown.remove(&(slot, page)) else { return };
        if guest.stale.remove(&(slot, page)) {
            // SAFETY: as below.
            let bytes = unsafe { core::slice::from_raw_parts(self.at(slot, page), PAGE_SIZE) };
            assert!(bytes.iter().all(|&byte| byte == POISON), "written through a stale page");
        } else if let Some(frame) = guest.frames.get_mut(&gfn) {
            // SAFETY: a page of our block, of which no other borrow exists.
            unsafe { self.at(slot, page).copy_to(frame.as_mut_ptr(), PAGE_SIZE) };
        }
    }

    /// Everything that is mapped is stale from now on: whoever reads there finds poison.
    fn poison(&self) {
        let mut guest = self.guest.borrow_mut();
        for place in guest.shown.clone().into_keys() {
            self.poison_page(&mut guest, place);
        }
    }

    fn poison_page(&self, guest: &mut Guest, (slot, page): (u16, usize)) {
        let place = (slot, page);
        if !guest.stale.contains(&place)
            && let Some(gfn) = guest.shown.get(&place).copied()
        {
            self.write_back(guest, slot, page);
            guest.shown.insert(place, gfn);
            guest.stale.insert(place);
            // SAFETY: as in `write_back`.
            unsafe { self.at(slot, page).write_bytes(POISON, PAGE_SIZE) };
        }
    }

    /// The frame's bytes after everything was written back.
    fn frame(&self, gfn: u64) -> Vec<u8> {
        self.guest.borrow().frames[&gfn].clone()
    }

    fn take_asked(&self) -> usize {
        core::mem::take(&mut self.guest.borrow_mut().asked)
    }

    /// Frames shown anywhere in the window.
    fn shown(&self) -> BTreeSet<u64> {
        self.guest.borrow().shown.values().copied().collect()
    }
}

// SAFETY: the block is leaked and has a page for each slot and page number.
unsafe impl Window for FakeWindow {
    fn slots(&self) -> u16 {
        self.slots
    }

    fn previous_slots(&self) -> u16 {
        self.previous_slots
    }

    fn base(&self, slot: u16) -> NonNull<u8> {
        assert!(slot < self.slots);
        NonNull::new(self.block.as_ptr().wrapping_add(usize::from(slot) * SLOT_SIZE)).expect("not null")
    }

    fn map(&self, slot: u16, first_gfn: u64, wanted: &PageSet) -> Mapped {
        let mut guest = self.guest.borrow_mut();
        let mut mapped = Mapped { pages: PageSet::EMPTY, failure: None };
        for page in wanted.iter() {
            guest.asked += 1;
            let gfn = first_gfn + page as u64;
            if guest.closed.contains(&slot) {
                mapped.failure = mapped.failure.or(Some(Errno::ENOMEM));
            } else if guest.frames.contains_key(&gfn) {
                assert!(!guest.shown.contains_key(&(slot, page)), "mapped over another");
                // Where the frame was before, its chunk was displaced.
                let elsewhere = guest.shown.iter().filter(|(_, shown)| **shown == gfn);
                for place in elsewhere.map(|(place, _)| *place).collect::<Vec<_>>() {
                    self.poison_page(&mut guest, place);
                }
                // SAFETY: as in `write_back`.
                unsafe { self.at(slot, page).copy_from(guest.frames[&gfn].as_ptr(), PAGE_SIZE) };
                guest.shown.insert((slot, page), gfn);
                mapped.pages.insert(page);
            } else {
                mapped.failure = mapped.failure.or(Some(Errno::EINVAL));
            }
        }
        mapped
    }

    fn unmap(&self, slot: u16, pages: &PageSet) {
        let mut guest = self.guest.borrow_mut();
        for page in pages.iter() {
            assert!(
                slot < self.previous_slots || guest.shown.contains_key(&(slot, page)),
                "unmaps only what is mapped"
            );
            self.write_back(&mut guest, slot, page);
        }
    }
}

const CHUNK: u64 = 2 << 20;
const BASE: u64 = 0x4000_0000;

fn guest(slots: u16, chunks: u64) -> (FakeWindow, ForeignMap<FakeWindow>) {
    let window = FakeWindow::new(slots, iter::once(BASE..BASE + chunks * CHUNK));
    (window.clone(), ForeignMap::new(window))
}

/// What Xen's request does.
fn invalidate(window: &FakeWindow, map: &ForeignMap<FakeWindow>) {
    map.invalidate();
    window.poison();
}

/// Until nothing is left to sweep; how many steps that took.
fn sweep_all(map: &ForeignMap<FakeWindow>) -> usize {
    iter::from_fn(|| map.is_unswept().then(|| map.sweep())).count()
}

fn fault(gpa: u64, reason: Reason) -> ForeignFault {
    ForeignFault { gpa, reason }
}

const NOT_RAM: Reason = Reason::Unmappable(Errno::EINVAL);

#[test]
fn copies_cross_pages_and_chunks() {
    let (window, map) = guest(2, 2);
    let bytes: Vec<u8> = (0..10_000u32).map(|i| u8::try_from(i % 251).expect("small")).collect();
    let gpa = BASE + CHUNK - 5001;
    map.write(gpa, &bytes).expect("RAM");
    let mut got = vec![0; bytes.len()];
    map.read(gpa, &mut got).expect("RAM");
    assert_eq!(got, bytes);
    map.zero(gpa + 1, 9_998).expect("RAM");
    map.read(gpa, &mut got).expect("RAM");
    assert_eq!((got[0], got[9_999]), (bytes[0], bytes[9_999]));
    assert!(got[1..9_999].iter().all(|&byte| byte == 0));
    map.invalidate();
    sweep_all(&map);
    assert_eq!(window.frame((BASE + CHUNK) / 4096 - 2)[4096 - 905], bytes[0]);
}

#[test]
fn a_hit_asks_xen_nothing() {
    let (window, map) = guest(2, 2);
    assert_eq!(map.load::<u64>(BASE, Order::Relaxed), Ok(BASE / 4096));
    assert_eq!(map.load::<u64>(BASE + CHUNK, Order::Relaxed), Ok((BASE + CHUNK) / 4096));
    assert_eq!(window.take_asked(), 1024);
    for _ in 0..100 {
        assert_eq!(map.load::<u64>(BASE + 8192, Order::Relaxed), Ok(BASE / 4096 + 2));
        assert_eq!(map.load::<u64>(BASE + CHUNK + 4096, Order::Relaxed), Ok((BASE + CHUNK) / 4096 + 1));
    }
    assert_eq!(window.take_asked(), 0);
}

#[test]
fn a_chunk_not_used_lately_gives_way() {
    let (window, map) = guest(3, 4);
    let touch = |chunk: u64| map.load::<u64>(BASE + chunk * CHUNK, Order::Relaxed).expect("RAM");
    for chunk in [0, 1, 2, 0, 2, 3] {
        touch(chunk);
    }
    window.take_asked();
    for chunk in [0, 2, 3] {
        touch(chunk);
    }
    assert_eq!(window.take_asked(), 0);
    assert_eq!(touch(1), (BASE + CHUNK) / 4096);
    assert_eq!(window.take_asked(), 4, "what displaces another comes in part");
    assert_eq!(window.shown().len(), 3 * 512, "what it displaces goes later");
    assert_eq!(map.usage(), MapUse { pages: 512 + 4 + 4, stale: 2 * 508 });
    assert!(sweep_all(&map) >= 2 * 508 / 8, "and in steps");
    assert_eq!(window.shown().len(), 512 + 4 + 4);
    assert_eq!(map.usage(), MapUse { pages: 512 + 4 + 4, stale: 0 });
}

#[test]
fn a_chunk_that_displaces_another_grows_with_its_use() {
    let (window, map) = guest(1, 2);
    let touch = |page: u64| map.load::<u64>(BASE + CHUNK + page * 4096, Order::Relaxed).expect("RAM");
    map.load::<u64>(BASE, Order::Relaxed).expect("RAM");
    window.take_asked();
    let mut asked = 0;
    for page in 0..512 {
        assert_eq!(touch(page), (BASE + CHUNK) / 4096 + page);
        asked += usize::from(window.take_asked() > 0);
    }
    sweep_all(&map);
    assert_eq!(window.shown().len(), 512);
    assert!(asked <= 12, "4, 4, 8, 16, 32, 64, 64, ... and not one by one: {asked}");
    // Far apart, each use brings few pages.
    map.load::<u64>(BASE, Order::Relaxed).expect("RAM");
    window.take_asked();
    touch(3);
    touch(500);
    assert_eq!(window.take_asked(), 8);
}

#[test]
fn what_was_written_survives_eviction() {
    let (window, map) = guest(1, 3);
    for chunk in 0..3u8 {
        map.store::<u8>(BASE + u64::from(chunk) * CHUNK + 9, chunk + 1, Order::AcqRel).expect("RAM");
    }
    map.invalidate();
    sweep_all(&map);
    for chunk in 0..3u8 {
        assert_eq!(window.frame((BASE + u64::from(chunk) * CHUNK) / 4096)[9], chunk + 1);
    }
}

#[test]
fn an_address_outside_ram_costs_one_page_and_displaces_one() {
    let (window, map) = guest(1, 1);
    assert_eq!(map.load::<u64>(BASE, Order::Relaxed), Ok(BASE / 4096));
    window.take_asked();
    for gpa in [0, 0x0200_0000, BASE - 8, BASE + CHUNK, ADDRESS_LIMIT - 8] {
        assert_eq!(map.load::<u64>(gpa, Order::Relaxed), Err(fault(gpa, NOT_RAM)));
        assert_eq!(window.take_asked(), 1);
    }
    for gpa in [ADDRESS_LIMIT, 1 << 52, u64::MAX - 7] {
        assert_eq!(map.load::<u64>(gpa, Order::Relaxed), Err(fault(gpa, Reason::OutOfRange)));
    }
    assert_eq!(map.read(u64::MAX, &mut [0; 2]), Err(fault(u64::MAX, Reason::OutOfRange)));
    assert_eq!(map.write(ADDRESS_LIMIT - 1, &[0; 2]), Err(fault(ADDRESS_LIMIT - 1, Reason::OutOfRange)));
    // All of them are their chunk's first page but the last, and so is this.
    assert_eq!(map.load::<u64>(BASE + 8, Order::Relaxed), Ok(0));
    assert_eq!(map.load::<u64>(BASE + 4096, Order::Relaxed), Ok(BASE / 4096 + 1));
    assert!(window.take_asked() <= 2, "the chunk in use stayed but for what was in the way");
}

#[test]
fn a_page_that_is_no_ram_fails_only_its_own_access() {
    let window = FakeWindow::new(1, [BASE..BASE + 4096, BASE + 8192..BASE + CHUNK]);
    let map = ForeignMap::new(window.clone());
    let hole = BASE + 4096;
    assert_eq!(map.load::<u64>(BASE, Order::Relaxed), Ok(BASE / 4096));
    assert_eq!(map.load::<u32>(hole, Order::Relaxed), Err(fault(hole, NOT_RAM)));
    assert_eq!(map.read(BASE, &mut [0; 8192]), Err(fault(hole, NOT_RAM)));
    assert_eq!(map.load::<u64>(BASE + 8192, Order::Relaxed), Ok(BASE / 4096 + 2));
    // The guest has put RAM there since: found without being told.
    window.guest.borrow_mut().frames.insert(hole / 4096, vec![7; PAGE_SIZE]);
    assert_eq!(map.load::<u8>(hole, Order::Relaxed), Ok(7));
}

#[test]
fn replacing_a_chunk_leaves_nothing_of_it_behind() {
    let window = FakeWindow::new(1, [BASE..BASE + CHUNK, BASE + CHUNK..BASE + CHUNK + 4096]);
    let map = ForeignMap::new(window.clone());
    map.load::<u64>(BASE, Order::Relaxed).expect("RAM");
    map.load::<u64>(BASE + CHUNK, Order::Relaxed).expect("RAM");
    sweep_all(&map);
    assert_eq!(window.shown(), BTreeSet::from([(BASE + CHUNK) / 4096]));
}

#[test]
fn without_memory_for_more_slots_those_that_exist_are_used() {
    let (window, map) = guest(8, 8);
    window.guest.borrow_mut().closed = (2..8).collect();
    for chunk in (0..8).chain(0..8) {
        assert_eq!(map.load::<u64>(BASE + chunk * CHUNK, Order::Relaxed), Ok((BASE + chunk * CHUNK) / 4096));
    }
    sweep_all(&map);
    assert_eq!(window.shown().len(), 2 * 4, "those displace each other");
    window.guest.borrow_mut().closed = (0..8).collect();
    map.invalidate();
    let out_of_memory = Reason::Unmappable(Errno::ENOMEM);
    assert_eq!(map.load::<u64>(BASE, Order::Relaxed), Err(fault(BASE, out_of_memory)));
}

#[test]
fn a_window_without_slots_maps_nothing() {
    let (_, map) = guest(0, 1);
    assert!(map.load::<u64>(BASE, Order::Relaxed).is_err());
    map.invalidate();
}

#[test]
fn words_must_be_aligned() {
    let (_, map) = guest(1, 1);
    assert_eq!(map.load::<u16>(BASE + 1, Order::Relaxed), Err(fault(BASE + 1, Reason::Misaligned)));
    assert_eq!(map.store::<u32>(BASE + 2, 1, Order::Relaxed), Err(fault(BASE + 2, Reason::Misaligned)));
    assert_eq!(map.store::<u16>(BASE + 4094, 0xabcd, Order::AcqRel), Ok(()));
    assert_eq!(map.load::<u16>(BASE + 4094, Order::AcqRel), Ok(0xabcd));
    assert_eq!(map.store::<u32>(BASE + 4, 5, Order::AcqRel), Ok(()));
    assert_eq!(map.load::<u32>(BASE + 4, Order::AcqRel), Ok(5));
}

#[test]
fn pages_of_ours_are_copied_from_and_to() {
    let (_, map) = guest(1, 1);
    let page = SharedPage::alloc().expect("host memory");
    map.write(BASE + 4090, b"across pages").expect("RAM");
    map.copy_to_page(BASE + 4090, PageSlice { page: &page, offset: 100, len: 12 }).expect("RAM");
    map.copy_from_page(BASE + CHUNK - 12, PageSlice { page: &page, offset: 100, len: 12 }).expect("RAM");
    let mut text = [0; 12];
    map.read(BASE + CHUNK - 12, &mut text).expect("RAM");
    assert_eq!(&text, b"across pages");
    let too_small = Err(fault(BASE, Reason::OutOfPage));
    assert_eq!(map.copy_to_page(BASE, PageSlice { page: &page, offset: 4090, len: 7 }), too_small);
    assert_eq!(map.copy_from_page(BASE, PageSlice { page: &page, offset: usize::MAX, len: 7 }), too_small);
}
