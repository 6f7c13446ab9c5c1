//! A guest's grants in the host's memory, with Xen's rules about them.

use super::*;
use crate::mem::shared::{Order, PageSlice, SharedPage};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use proptest::prelude::*;
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTST_BAD_COPY_ARG, GNTST_BAD_GNTREF, GNTST_OKAY,
    GNTST_PERMISSION_DENIED, GnttabCopy,
};
use xen_pv_sys::xen::DOMID_SELF;

const GUEST: u16 = 5;

/// A page of the guest, and whether it may only be read.
#[derive(Clone, Copy)]
struct Granted {
    page: NonNull<u8>,
    read_only: bool,
}

#[derive(Default)]
struct Table {
    grants: BTreeMap<u32, Granted>,
    /// By handle: the grant that is mapped.
    mapped: BTreeMap<u32, u32>,
    handles: u32,
    calls: usize,
    copies: usize,
}

/// What Xen knows of the guest's grants.
#[derive(Clone, Default)]
struct FakeGrants(Rc<RefCell<Table>>);

impl FakeGrants {
    /// With `count` grants from `first` on.
    fn new(first: u32, count: u32) -> FakeGrants {
        let grants = FakeGrants::default();
        for gref in first..first + count {
            grants.grant(gref, false);
        }
        grants
    }

    fn grant(&self, gref: u32, read_only: bool) {
        let words = vec![0u64; 2 * PAGE_SIZE / 8].leak().as_mut_ptr().cast::<u8>();
        let start = words.wrapping_add(words.align_offset(PAGE_SIZE));
        let page = NonNull::new(start).expect("not null");
        self.0.borrow_mut().grants.insert(gref, Granted { page, read_only });
    }

    /// The guest takes a page back. As in reality, not one that is in use.
    fn revoke(&self, gref: u32) {
        assert!(!self.mapped().contains(&gref), "grant {gref} is still in use");
        self.0.borrow_mut().grants.remove(&gref);
    }

    fn mapped(&self) -> Vec<u32> {
        let mut mapped: Vec<u32> = self.0.borrow().mapped.values().copied().collect();
        mapped.sort_unstable();
        mapped
    }

    /// Copies and hypercalls since the last call.
    fn take_counts(&self) -> (usize, usize) {
        let mut table = self.0.borrow_mut();
        (core::mem::take(&mut table.copies), core::mem::take(&mut table.calls))
    }

    /// What the guest itself has there.
    fn bytes(&self, gref: u32) -> Vec<u8> {
        let Granted { page, .. } = self.0.borrow().grants[&gref];
        // SAFETY: a leaked page, of which no reference exists.
        (0..PAGE_SIZE).map(|at| unsafe { page.add(at).read() }).collect()
    }

    fn fill(&self, gref: u32, seed: u8) {
        let Granted { page, .. } = self.0.borrow().grants[&gref];
        for at in 0..PAGE_SIZE {
            // SAFETY: as in `bytes`.
            unsafe { page.add(at).write(pattern(at, seed)) };
        }
    }
}

fn pattern(at: usize, seed: u8) -> u8 {
    u8::try_from(at % 251).expect("small") ^ seed
}

impl Table {
    fn copy(&self, operation: &GnttabCopy) -> i16 {
        let GnttabCopy { source, dest, len, flags, .. } = *operation;
        assert!(len > 0, "a copy of nothing");
        let (theirs, ours) = match flags {
            GNTCOPY_SOURCE_GREF => (source, dest),
            GNTCOPY_DEST_GREF => (dest, source),
            _ => panic!("one end is a grant: {flags}"),
        };
        assert_eq!((theirs.domid, ours.domid), (GUEST, DOMID_SELF));
        for end in [theirs, ours] {
            if usize::from(end.offset) + usize::from(len) > PAGE_SIZE {
                return GNTST_BAD_COPY_ARG;
            }
        }
        let Some(granted) = u32::try_from(theirs.page).ok().and_then(|gref| self.grants.get(&gref)) else {
            return GNTST_BAD_GNTREF;
        };
        if granted.read_only && flags == GNTCOPY_DEST_GREF {
            return GNTST_PERMISSION_DENIED;
        }
        let own = usize::try_from(ours.page << 12).expect("64 bits") + usize::from(ours.offset);
        let own: *mut u8 = with_exposed_provenance_mut(own);
        // SAFETY: a page of the guest and memory that the caller named, each checked or promised to have `len`.
        unsafe {
            let their = granted.page.as_ptr().add(theirs.offset.into());
            let (from, to) = if flags == GNTCOPY_SOURCE_GREF { (their, own) } else { (own, their) };
            from.copy_to(to, len.into());
        }
        GNTST_OKAY
    }
}

// SAFETY: pages are leaked; a copy stays within the ends that it names.
unsafe impl GuestGrants for FakeGrants {
    fn map(&self, gref: u32) -> Result<RingPage, GrantStatus> {
        let mut table = self.0.borrow_mut();
        let Granted { page, read_only } = *table.grants.get(&gref).ok_or(GrantStatus(GNTST_BAD_GNTREF))?;
        if read_only {
            return Err(GrantStatus(GNTST_PERMISSION_DENIED));
        }
        table.handles += 1;
        let handle = table.handles;
        table.mapped.insert(handle, gref);
        Ok(RingPage { base: page, handle })
    }

    fn unmap(&self, page: RingPage) -> Result<(), GrantStatus> {
        let was = self.0.borrow_mut().mapped.remove(&page.handle);
        assert!(was.is_some(), "unmapped twice");
        Ok(())
    }

    fn domain(&self) -> u16 {
        GUEST
    }

    unsafe fn copy(&self, operations: &mut [GnttabCopy]) {
        let mut table = self.0.borrow_mut();
        assert!((1..=BATCH).contains(&operations.len()));
        table.calls += 1;
        table.copies += operations.len();
        for operation in operations {
            operation.status = table.copy(operation);
        }
    }
}

fn at(gref: u32, offset: u64) -> u64 {
    GRANT_BIT | u64::from(gref) << 12 | offset
}

fn page() -> SharedPage {
    SharedPage::alloc().expect("host memory")
}

fn whole(page: &SharedPage) -> PageSlice<'_> {
    PageSlice { page, offset: 0, len: PAGE_SIZE }
}

#[test]
fn rings_are_mapped_once_and_unmapped_with_their_last_user() {
    let grants = FakeGrants::new(20, 4);
    let map = GrantMap::new(grants.clone());
    // Descriptors in a page and a half, and the other parts behind them.
    map.keep(at(20, 0), 6000).expect("granted");
    map.keep(at(21, 2000), 600).expect("granted");
    map.keep(at(22, 0), 4097).expect("granted");
    assert_eq!(grants.mapped(), [20, 21, 22, 23]);
    assert_eq!(map.usage().ring_pages, 4);
    map.store(at(23, 8), 0x1234u16, Order::AcqRel).expect("a ring's");
    assert_eq!(grants.bytes(23)[8..10], [0x34, 0x12]);
    assert_eq!(map.load::<u16>(at(23, 8), Order::Relaxed), Ok(0x1234));
    assert!(map.load::<u16>(at(20, 0), Order::Relaxed).is_ok());
    map.release(at(20, 0), 6000);
    assert_eq!(grants.mapped(), [21, 22, 23], "21 has another user");
    assert_eq!(map.load::<u16>(at(20, 0), Order::Relaxed), Err(GrantFault { addr: at(20, 0) }));
    assert!(map.load::<u16>(at(21, 2000), Order::Relaxed).is_ok());
    map.release(at(21, 2000), 600);
    map.release(at(22, 0), 4097);
    assert_eq!(grants.mapped(), []);
    assert_eq!(grants.take_counts(), (0, 0), "nothing was copied by Xen");
}

#[test]
fn a_ring_that_cannot_be_mapped_whole_is_not_mapped() {
    let grants = FakeGrants::new(20, 2);
    let map = GrantMap::new(grants.clone());
    assert_eq!(map.keep(at(20, 16), 3 * 4096), Err(GrantFault { addr: at(22, 0) }));
    grants.grant(22, true);
    assert!(map.keep(at(21, 0), 8192).is_err(), "granted for reading only");
    assert_eq!(map.keep(at(u32::MAX, 0), 8192).ok(), None);
    assert_eq!(map.keep(0x4000_0000, 64), Err(GrantFault { addr: 0x4000_0000 }), "no grant");
    assert_eq!(map.keep(u64::MAX - 10, 64).ok(), None);
    assert_eq!(grants.mapped(), []);
    // A page that another ring has stays with it.
    map.keep(at(21, 0), 64).expect("granted");
    assert!(map.keep(at(21, 64), 8192).is_err());
    assert_eq!(grants.mapped(), [21]);
}

#[test]
fn words_are_loaded_from_rings_only_and_aligned() {
    let map = GrantMap::new(FakeGrants::new(20, 2));
    map.keep(at(20, 0), 4096).expect("granted");
    for addr in [at(20, 1), at(21, 0), 0x4000_0000, 20 << 12, at(20, 0) & !GRANT_BIT] {
        assert_eq!(map.load::<u16>(addr, Order::Relaxed), Err(GrantFault { addr }));
        assert_eq!(map.store(addr, 1u16, Order::Relaxed), Err(GrantFault { addr }));
    }
}

#[test]
fn bytes_of_rings_are_reached_in_place_and_others_by_one_call_that_maps_nothing() {
    let grants = FakeGrants::new(20, 40);
    (20..60).for_each(|gref| grants.fill(gref, 7));
    let map = GrantMap::new(grants.clone());
    map.keep(at(20, 0), 8192).expect("granted");
    let mut across = [0; 8];
    map.read(at(20, 4092), &mut across).expect("granted");
    assert_eq!(across[..4], grants.bytes(20)[4092..]);
    assert_eq!(across[4..], grants.bytes(21)[..4]);
    map.write(at(21, 4090), &[9; 6]).expect("granted");
    assert_eq!(grants.bytes(21)[4090..], [9; 6]);
    assert_eq!(grants.take_counts(), (0, 0));

    let mut long = vec![0; 20 * 4096];
    map.read(at(30, 100), &mut long).expect("granted");
    assert!(long.iter().enumerate().all(|(n, &byte)| byte == pattern((n + 100) % 4096, 7)));
    let (copies, calls) = grants.take_counts();
    assert!(copies >= 21 && calls == 1, "{copies} copies in {calls} calls");
    map.write(at(55, 4095), &[1, 2]).expect("granted");
    assert_eq!((grants.bytes(55)[4095], grants.bytes(56)[0]), (1, 2));
    assert_eq!(grants.take_counts().1, 1);
    // From a ring on into what is none.
    map.read(at(21, 4000), &mut [0; 200]).expect("granted");
    assert_eq!(grants.mapped(), [20, 21]);
}

#[test]
fn pages_are_copied_in_batches_and_done_when_asked() {
    let grants = FakeGrants::new(20, 150);
    (20..170).for_each(|gref| grants.fill(gref, u8::try_from(gref).expect("small")));
    let map = GrantMap::new(grants.clone());
    let pages: Vec<SharedPage> = (0..100).map(|_| page()).collect();
    for (gref, page) in (20..).zip(&pages) {
        map.copy_to_page(at(gref, 0), whole(page)).expect("inside");
    }
    map.finish_copies().expect("granted");
    for (gref, page) in (20u8..).zip(&pages) {
        let mut bytes = vec![0; PAGE_SIZE];
        page.read(0, &mut bytes).expect("inside");
        assert!(bytes.iter().enumerate().all(|(n, &byte)| byte == pattern(n, gref)));
    }
    assert_eq!(grants.take_counts(), (100, 2));
    for (gref, page) in (130..140).zip(&pages) {
        map.copy_from_page(at(gref, 8), PageSlice { page, offset: 16, len: 100 }).expect("inside");
    }
    map.finish_copies().expect("granted");
    assert_eq!(grants.take_counts(), (10, 1));
    assert_eq!(grants.bytes(130)[8..108], grants.bytes(20)[16..116]);
    assert_eq!(map.finish_copies(), Ok(()));
    assert_eq!(grants.take_counts(), (0, 0));
    assert_eq!((grants.mapped(), map.usage().ring_pages), (vec![], 0));
}

#[test]
fn a_page_that_is_dropped_before_its_copy_is_done_lives_until_then() {
    let grants = FakeGrants::new(20, 1);
    let map = GrantMap::new(grants.clone());
    let page = page();
    page.write(0, &[5; 64]).expect("inside");
    map.copy_from_page(at(20, 0), PageSlice { page: &page, offset: 0, len: 64 }).expect("inside");
    drop(page);
    let others: Vec<SharedPage> = (0..8).map(|_| self::page()).collect();
    map.finish_copies().expect("granted");
    assert_eq!(grants.bytes(20)[..64], [5; 64]);
    drop(others);
}

#[test]
fn the_first_failure_of_a_batch_is_told_once_and_the_rest_is_done() {
    let grants = FakeGrants::new(20, 4);
    grants.fill(23, 3);
    grants.revoke(21);
    grants.grant(30, true);
    let map = GrantMap::new(grants.clone());
    let (a, b) = (page(), page());
    map.copy_to_page(at(20, 0), whole(&a)).expect("inside");
    map.copy_to_page(at(21, 4), PageSlice { page: &a, offset: 0, len: 8 }).expect("inside");
    map.copy_to_page(at(99, 0), whole(&a)).expect("inside");
    map.copy_to_page(at(23, 0), whole(&b)).expect("inside");
    assert_eq!(map.finish_copies(), Err(GrantFault { addr: at(21, 4) }));
    assert_eq!(map.finish_copies(), Ok(()));
    assert_eq!(b.load::<u8>(100, Order::Relaxed), Ok(pattern(100, 3)));
    // Not granted for writing; no grant at all; beyond the last grant; beyond our page.
    assert_eq!(map.write(at(30, 0), &[1]), Err(GrantFault { addr: at(30, 0) }));
    assert!(map.read(at(30, 0), &mut [0; 16]).is_ok());
    assert_eq!(map.read(0x4000_0000, &mut [0; 16]), Err(GrantFault { addr: 0x4000_0000 }));
    assert!(map.read(at(u32::MAX, 4090), &mut [0; 16]).is_err());
    let odd = 1u64 << 50 | GRANT_BIT;
    assert_eq!(map.read(odd, &mut [0; 16]), Err(GrantFault { addr: odd }));
    let beyond = PageSlice { page: &a, offset: 4090, len: 16 };
    assert_eq!(map.copy_to_page(at(20, 0), beyond), Err(GrantFault { addr: at(20, 0) }));
    assert_eq!(map.finish_copies(), Ok(()));
}

proptest! {
    /// Whatever is copied from where to where: each copy is within a page at both ends (the fake table
    /// refuses any other), and every byte arrives.
    #[test]
    fn any_copy_is_whole(offset in 0..3 * 4096u64, len in 0..3 * 4096usize, shift in 0..64usize, kept: bool) {
        let grants = FakeGrants::new(20, 6);
        (20..26).for_each(|gref| grants.fill(gref, u8::try_from(gref).expect("small")));
        let map = GrantMap::new(grants.clone());
        if kept {
            map.keep(at(21, 0), 4096).expect("granted");
        }
        let mut buffer = vec![0xee; len + 64];
        map.read(at(20, 0) + offset, &mut buffer[shift..shift + len]).expect("granted");
        let first = usize::try_from(offset).expect("small");
        let expected: Vec<u8> = (20..26).flat_map(|gref| grants.bytes(gref)).skip(first).take(len).collect();
        prop_assert_eq!(&buffer[shift..shift + len], &expected[..]);
        prop_assert!(buffer[..shift].iter().chain(&buffer[shift + len..]).all(|&byte| byte == 0xee));
        buffer.iter_mut().for_each(|byte| *byte ^= 0x55);
        map.write(at(20, 0) + offset, &buffer[shift..shift + len]).expect("granted");
        let now: Vec<u8> = (20..26).flat_map(|gref| grants.bytes(gref)).skip(first).take(len).collect();
        prop_assert_eq!(&now[..], &buffer[shift..shift + len]);
    }
}
