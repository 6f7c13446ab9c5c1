//! Which chunk of the guest lies in which slot of the window.

use super::{ADDRESS_LIMIT, CHUNK_PAGES, CHUNK_SHIFT, PageSet, Window};
use crate::Errno;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Chunks that one leaf of the index covers: 1 GiB.
const LEAF_CHUNKS: usize = 512;
const LEAVES: usize = (ADDRESS_LIMIT >> CHUNK_SHIFT) as usize / LEAF_CHUNKS;
/// Of a leaf's entry: the chunk is in no slot.
const NO_SLOT: u16 = u16::MAX;

/// Pages that are mapped of a chunk at first if it displaces another.
const GROUP_PAGES: usize = 4;

type Leaf = Box<[u16; LEAF_CHUNKS]>;

#[derive(Clone, Copy)]
struct Slot {
    /// The chunk that is here; `None` if nothing is mapped.
    chunk: Option<u64>,
    pages: PageSet,
    /// When it was last used, by the caller's clock.
    used: u64,
}

pub(super) struct Chunks {
    slots: Vec<Slot>,
    /// Slots below this one have been used: their p2m table exists.
    opened: usize,
    /// By chunk: its slot. Leaves exist for the GiBs in which something was mapped.
    index: Vec<Option<Leaf>>,
    /// The caller's clock at the last [`Chunks::fetch`].
    clock: u64,
    /// Look-ups that led to a hypercall.
    misses: u64,
}

impl Chunks {
    pub(super) fn new(slots: u16) -> Chunks {
        let empty = Slot { chunk: None, pages: PageSet::EMPTY, used: 0 };
        let mut index = Vec::new();
        index.resize_with(LEAVES, || None);
        // Slots are numbered from 0, so the largest number is never one: see `NO_SLOT`.
        Chunks { slots: alloc::vec![empty; usize::from(slots)], opened: 0, index, clock: 0, misses: 0 }
    }

    /// Whether `page` of the chunk in `slot` is mapped.
    fn has(&self, slot: u16, page: usize) -> bool {
        self.slots.get(usize::from(slot)).is_some_and(|slot| slot.pages.contains(page))
    }

    /// Whether `page` of `chunk` is mapped.
    pub(super) fn is_mapped(&self, chunk: u64, page: usize) -> bool {
        self.find(chunk).is_some_and(|slot| self.has(slot, page))
    }

    /// Whether every page of the chunk in `slot` is mapped.
    pub(super) fn is_whole(&self, slot: u16) -> bool {
        self.slots.get(usize::from(slot)).is_some_and(|slot| slot.pages == PageSet::ALL)
    }

    /// The chunk in `slot` was used at `clock`.
    pub(super) fn touch(&mut self, slot: u16, clock: u64) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.used = clock;
        }
    }

    pub(super) fn misses(&self) -> u64 {
        self.misses
    }

    fn find(&self, chunk: u64) -> Option<u16> {
        let chunk = usize::try_from(chunk).ok()?;
        let leaf = self.index.get(chunk / LEAF_CHUNKS)?.as_ref()?;
        leaf.get(chunk % LEAF_CHUNKS).copied().filter(|&slot| slot != NO_SLOT)
    }

    /// Enters `slot` for `chunk`, or [`NO_SLOT`].
    fn enter(&mut self, chunk: u64, slot: u16) {
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

    /// The slot in which `page` of `chunk` is mapped, mapping it if need be; used at `clock`.
    ///
    /// # Errors
    /// Why Xen did not map that page. Everything else is then as before.
    pub(super) fn fetch<W: Window>(
        &mut self,
        window: &W,
        chunk: u64,
        page: usize,
        clock: u64,
    ) -> Result<u16, Errno> {
        self.clock = clock;
        let slot = match self.find(chunk) {
            Some(slot) if self.has(slot, page) => slot,
            // The chunk is there without this page: it was brought in in part, or the page has
            // become RAM since.
            Some(slot) => {
                self.misses += 1;
                self.extend(window, slot, chunk, page)?;
                slot
            }
            None => self.bring_in(window, chunk, page)?,
        };
        self.touch(slot, clock);
        Ok(slot)
    }

    /// Maps `page` of the chunk in `slot`, and as many around it as are mapped already: a chunk
    /// that is used comes with few calls, one that is hardly used with few pages.
    fn extend<W: Window>(&mut self, window: &W, slot: u16, chunk: u64, page: usize) -> Result<(), Errno> {
        let Some(slot_of) = self.slots.get_mut(usize::from(slot)) else { return Err(Errno::EINVAL) };
        let group = slot_of.pages.count().next_power_of_two().clamp(GROUP_PAGES, CHUNK_PAGES);
        let missing = PageSet::around(page, group).without(&slot_of.pages);
        let pages = map_around(window, slot, chunk, page, &missing)?;
        slot_of.pages.insert_all(&pages);
        Ok(())
    }

    /// Maps `chunk` into a slot that is free or was not used for longest.
    fn bring_in<W: Window>(&mut self, window: &W, chunk: u64, page: usize) -> Result<u16, Errno> {
        self.misses += 1;
        match self.victim(self.opened < self.slots.len()) {
            Some(slot) => match self.replace(window, slot, chunk, page) {
                // No memory for a new slot's tables: make do with those that exist.
                Err(Errno::ENOMEM) if slot >= self.opened => {
                    let old = self.victim(false).ok_or(Errno::ENOMEM)?;
                    self.replace(window, old, chunk, page)
                }
                result => result,
            },
            None => Err(Errno::ENOMEM),
        }
    }

    /// The slot to use next: an empty one that was opened before, else a new one if allowed,
    /// else the one not used for longest.
    fn victim(&self, may_open: bool) -> Option<usize> {
        let opened = self.slots.get(..self.opened)?;
        if let Some(empty) = opened.iter().position(|slot| slot.chunk.is_none()) {
            return Some(empty);
        }
        if may_open {
            return Some(self.opened);
        }
        opened.iter().enumerate().min_by_key(|(_, slot)| slot.used).map(|(number, _)| number)
    }

    /// Puts `chunk` into `slot` if its `page` can be mapped.
    fn replace<W: Window>(&mut self, window: &W, slot: usize, chunk: u64, page: usize) -> Result<u16, Errno> {
        let number = u16::try_from(slot).map_err(|_| Errno::EINVAL)?;
        let old = *self.slots.get(slot).ok_or(Errno::EINVAL)?;
        // Where chunks displace each other, most of a chunk would be mapped and unmapped in vain.
        let wanted = if old.chunk.is_some() { PageSet::around(page, GROUP_PAGES) } else { PageSet::ALL };
        let pages = map_around(window, number, chunk, page, &wanted)?;

        // Of the old chunk, what was not replaced must not linger.
        window.unmap(number, &old.pages.without(&pages));
        if let Some(old) = old.chunk {
            self.enter(old, NO_SLOT);
        }
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Slot { chunk: Some(chunk), pages, used: self.clock };
        }
        self.opened = self.opened.max(slot + 1);
        self.enter(chunk, number);
        Ok(number)
    }

    /// Unmaps all.
    pub(super) fn clear<W: Window>(&mut self, window: &W) {
        for slot in 0..self.opened {
            let Some(entry) = self.slots.get_mut(slot) else { break };
            let Slot { chunk, pages, .. } =
                core::mem::replace(entry, Slot { chunk: None, pages: PageSet::EMPTY, used: 0 });
            if let Some(chunk) = chunk {
                self.enter(chunk, NO_SLOT);
            }
            if let Ok(number) = u16::try_from(slot) {
                window.unmap(number, &pages);
            }
        }
    }
}

/// Maps `page` of `chunk`, then the others of `wanted`; what is mapped now of them. The page in
/// question comes first, alone: a false address costs one entry and displaces nothing.
fn map_around<W: Window>(
    window: &W,
    slot: u16,
    chunk: u64,
    page: usize,
    wanted: &PageSet,
) -> Result<PageSet, Errno> {
    let first_gfn = chunk * CHUNK_PAGES as u64;
    let one = PageSet::one(page);
    let probe = window.map(slot, first_gfn, &one);
    if !probe.pages.contains(page) {
        return Err(probe.failure.unwrap_or(Errno::EFAULT));
    }
    let others = wanted.without(&one);
    let mut pages =
        if others.is_empty() { PageSet::EMPTY } else { window.map(slot, first_gfn, &others).pages };
    pages.insert(page);
    Ok(pages)
}
