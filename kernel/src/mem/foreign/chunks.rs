//! Which chunk of the guest lies in which slot of the window, and what of it may be used.

use super::pages::{CHUNK_PAGES, PageSet};
use super::window::{ADDRESS_LIMIT, CHUNK_SHIFT, Window};
use alloc::boxed::Box;
use alloc::vec::Vec;
use xen_pv_sys::errno::Errno;

/// Chunks that one leaf of the index covers: 1 GiB.
const LEAF_CHUNKS: usize = 512;
const LEAVES: usize = (ADDRESS_LIMIT >> CHUNK_SHIFT) as usize / LEAF_CHUNKS;
/// Of a leaf's entry: the chunk is in no slot.
const NO_SLOT: u16 = u16::MAX;
/// Of a slot: no chunk was there yet.
const NO_CHUNK: u32 = u32::MAX;

/// Pages that are mapped at first of a chunk in a slot that was used before, and the most that are
/// mapped at once of it: each may have to be unmapped first, which takes several times as long.
const GROUP_PAGES: usize = 4;
const GROUP_PAGES_MAX: usize = 64;
/// Pages that one [`Chunks::sweep`] unmaps, and slots that it examines for them.
const SWEEP_PAGES: usize = 8;
const SWEEP_SLOTS: usize = 64;

type Leaf = Box<[u16; LEAF_CHUNKS]>;

/// One for each 2 MiB of the window.
#[derive(Clone)]
struct Slot {
    /// Pages of `chunk` that may be used, if `epoch` is the present one; otherwise they are stale.
    pages: PageSet,
    /// Pages at which something is mapped that must not be used any more. Never one of `pages`.
    stale: PageSet,
    epoch: u64,
    chunk: u32,
    /// Whether it was used since the hand came by.
    used: bool,
}

// What the daemon reckons with when it gives a stub its memory.
const _: () = assert!(size_of::<Slot>() == 144);

impl Slot {
    /// Puts what is stale where it belongs.
    fn settle(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.retire();
            self.epoch = epoch;
        }
    }

    /// Nothing of what is here may be used any more.
    fn retire(&mut self) {
        self.stale.insert_all(&self.pages);
        self.pages = PageSet::EMPTY;
    }

    /// Unmaps what is stale of `pages`.
    #[inline(never)]
    fn vacate<W: Window>(&mut self, window: &W, number: u16, pages: &PageSet) {
        let stale = self.stale.common(pages);
        if !stale.is_empty() {
            window.unmap(number, &stale);
            self.stale = self.stale.without(&stale);
        }
    }
}

/// How much of the window is mapped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MapUse {
    /// Pages that may be used.
    pub pages: usize,
    /// Pages that must not, and are about to be unmapped.
    pub stale: usize,
}

pub(super) struct Chunks {
    slots: Vec<Slot>,
    /// Slots below this one have been used: their p2m table exists.
    opened: usize,
    /// By chunk: its slot. Leaves exist for the GiBs in which something was mapped.
    index: Vec<Option<Leaf>>,
    /// Counts the times that everything became stale.
    epoch: u64,
    /// The slot to examine next for one that can give way.
    hand: usize,
    /// The slot to examine next for stale pages, and how many have to be examined.
    broom: usize,
    unswept: usize,
    /// Look-ups that led to a hypercall.
    misses: u64,
}

impl Chunks {
    /// `previous`: in this many slots an earlier incarnation may have left anything.
    pub(super) fn new(slots: u16, previous: u16) -> Chunks {
        let (count, previous) = (usize::from(slots), usize::from(previous.min(slots)));
        let (pages, stale) = (PageSet::EMPTY, PageSet::EMPTY);
        let empty = Slot { pages, stale, epoch: 0, chunk: NO_CHUNK, used: false };
        // Slots are numbered from 0, so the largest number is never one: see `NO_SLOT`.
        let mut slots = alloc::vec![empty; count];
        slots.iter_mut().take(previous).for_each(|slot| slot.stale = PageSet::ALL);
        let mut index = Vec::new();
        index.resize_with(LEAVES, || None);
        Chunks { slots, opened: previous, index, epoch: 0, hand: 0, broom: 0, unswept: previous, misses: 0 }
    }

    /// Whether `page` of the chunk in `slot` may be used.
    fn has(&self, slot: u16, page: usize) -> bool {
        let slot = self.slots.get(usize::from(slot));
        slot.is_some_and(|slot| slot.epoch == self.epoch && slot.pages.contains(page))
    }

    /// Whether `page` of `chunk` may be used.
    pub(super) fn is_mapped(&self, chunk: u64, page: usize) -> bool {
        self.find(chunk).is_some_and(|slot| self.has(slot, page))
    }

    /// Whether every page of the chunk in `slot` may be used.
    pub(super) fn is_whole(&self, slot: u16) -> bool {
        let slot = self.slots.get(usize::from(slot));
        slot.is_some_and(|slot| slot.epoch == self.epoch && slot.pages == PageSet::ALL)
    }

    /// The chunk in `slot` was used.
    pub(super) fn touch(&mut self, slot: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.used = true;
        }
    }

    pub(super) fn misses(&self) -> u64 {
        self.misses
    }

    pub(super) fn usage(&self) -> MapUse {
        let mut usage = MapUse::default();
        for slot in self.slots.iter().take(self.opened) {
            let pages = slot.pages.count();
            if slot.epoch == self.epoch {
                usage.pages += pages;
            } else {
                usage.stale += pages;
            }
            usage.stale += slot.stale.count();
        }
        usage
    }

    fn find(&self, chunk: u64) -> Option<u16> {
        let chunk = usize::try_from(chunk).ok()?;
        let leaf = self.index.get(chunk / LEAF_CHUNKS)?.as_ref()?;
        leaf.get(chunk % LEAF_CHUNKS).copied().filter(|&slot| slot != NO_SLOT)
    }

    /// Enters `slot` for `chunk`, or [`NO_SLOT`].
    fn enter(&mut self, chunk: u32, slot: u16) {
        let leaf = usize::try_from(chunk).ok().and_then(|chunk| {
            let leaf = self.index.get_mut(chunk / LEAF_CHUNKS)?;
            if leaf.is_none() && slot == NO_SLOT {
                return None;
            }
            leaf.get_or_insert_with(|| Box::new([NO_SLOT; LEAF_CHUNKS])).get_mut(chunk % LEAF_CHUNKS)
        });
        if let Some(entry) = leaf {
            *entry = slot;
        }
    }

    /// The slot in which `page` of `chunk` may be used, mapping it if need be.
    ///
    /// # Errors
    /// Why Xen did not map that page. Everything else is then as before, but for one page of
    /// another chunk, if all slots were taken.
    pub(super) fn fetch<W: Window>(&mut self, window: &W, chunk: u64, page: usize) -> Result<u16, Errno> {
        let found = self.find(chunk);
        if let Some(slot) = found {
            self.touch(slot);
            if self.has(slot, page) {
                return Ok(slot);
            }
        }
        self.misses += 1;
        let chunk = u32::try_from(chunk).map_err(|_| Errno::EINVAL)?;
        let opened = self.opened;
        let slot = match found {
            // The chunk is there without this page: it was brought in in part, it is stale, or the
            // page has become RAM since.
            Some(slot) => self.probe(window, usize::from(slot), chunk, page),
            None if opened < self.slots.len() => match self.probe(window, opened, chunk, page) {
                // No memory for a new slot's tables: make do with those that exist.
                Err(Errno::ENOMEM) => self.displace(window, chunk, page),
                result => result,
            },
            None => self.displace(window, chunk, page),
        }?;
        self.widen(window, slot, page, usize::from(slot) == opened);
        Ok(slot)
    }

    /// Maps `page` of `chunk` in place of another chunk that was not used lately.
    fn displace<W: Window>(&mut self, window: &W, chunk: u32, page: usize) -> Result<u16, Errno> {
        // The first that was not used since the hand came by last: after a whole round, any.
        for _ in 0..self.opened.saturating_add(1).saturating_mul(2) {
            let number = self.hand;
            let Some(slot) = self.slots.get_mut(number).filter(|_| number < self.opened) else {
                self.hand = 0;
                continue;
            };
            self.hand = number + 1;
            if !core::mem::take(&mut slot.used) {
                return self.probe(window, number, chunk, page);
            }
        }
        Err(Errno::ENOMEM)
    }

    /// Maps one page of `chunk` into slot `number`, which is the chunk's from then on. Alone: a
    /// false address costs one entry, and displaces no more.
    fn probe<W: Window>(&mut self, window: &W, number: usize, chunk: u32, page: usize) -> Result<u16, Errno> {
        let name = u16::try_from(number).map_err(|_| Errno::EINVAL)?;
        let slot = self.slots.get_mut(number).ok_or(Errno::EINVAL)?;
        slot.settle(self.epoch);
        let one = PageSet::one(page);
        // Of another chunk, which is about to give way.
        slot.stale.insert_all(&slot.pages.common(&one));
        slot.pages = slot.pages.without(&one);
        slot.vacate(window, name, &one);
        let mapped = window.map(name, u64::from(chunk) * CHUNK_PAGES as u64, &one);
        if mapped.pages != one {
            return Err(mapped.failure.unwrap_or(Errno::EFAULT));
        }
        let old = slot.chunk;
        if old != chunk {
            slot.retire();
            slot.chunk = chunk;
            slot.used = false;
        }
        slot.pages.insert(page);
        if number >= self.opened {
            self.opened = number + 1;
            // The round has one slot more, and must not end before those that it has still to see.
            self.unswept += usize::from(self.unswept > 0);
        }
        if old != chunk {
            if old != NO_CHUNK {
                self.enter(old, NO_SLOT);
                self.unswept = self.opened;
            }
            self.enter(chunk, name);
        }
        Ok(name)
    }

    /// Maps what is around `page` of the chunk in `number`: all of it in a slot that was never used;
    /// otherwise as much as is mapped already, so that a chunk that is used comes with few calls,
    /// and one that is hardly used with few pages.
    #[inline(never)]
    fn widen<W: Window>(&mut self, window: &W, number: u16, page: usize, new: bool) {
        let Some(slot) = self.slots.get_mut(usize::from(number)) else { return };
        let before = slot.pages.count().saturating_sub(1);
        let grown = before.next_power_of_two().clamp(GROUP_PAGES, GROUP_PAGES_MAX);
        let group = PageSet::around(page, if new { CHUNK_PAGES } else { grown });
        let wanted = group.without(&slot.pages);
        if !wanted.is_empty() {
            slot.vacate(window, number, &wanted);
            let mapped = window.map(number, u64::from(slot.chunk) * CHUNK_PAGES as u64, &wanted);
            slot.pages.insert_all(&mapped.pages);
        }
    }

    /// Everything that is mapped is stale from now on.
    pub(super) fn invalidate(&mut self) {
        // 2^64 of them do not happen.
        self.epoch = self.epoch.wrapping_add(1);
        self.unswept = self.opened;
    }

    /// Whether [`Chunks::sweep`] has anything to do.
    pub(super) fn is_unswept(&self) -> bool {
        self.unswept > 0
    }

    /// Unmaps a few stale pages.
    pub(super) fn sweep<W: Window>(&mut self, window: &W) {
        for _ in 0..self.unswept.min(SWEEP_SLOTS) {
            let number = if self.broom < self.opened { self.broom } else { 0 };
            let (Some(slot), Ok(name)) = (self.slots.get_mut(number), u16::try_from(number)) else { return };
            slot.settle(self.epoch);
            if !slot.stale.is_empty() {
                let some = slot.stale.first(SWEEP_PAGES);
                slot.vacate(window, name, &some);
                return;
            }
            self.broom = number + 1;
            self.unswept -= 1;
        }
    }
}
