//! Our grant table, version 1 (`public/grant_table.h`).
//!
//! A granted page is kept alive by the table until its grant has ended, so that memory that a
//! peer can still write never becomes anything else.

use super::hypervisor::{DomId, GrantRef};
use super::memory;
use crate::mem::shared::{Order, SharedPage, full_barrier};
use crate::restart;
use alloc::vec::Vec;
use core::ops::Range;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::grant_table::{
    GNTTAB_NR_RESERVED_ENTRIES, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_WRITING, GrantEntryV1,
};
use xen_pv_sys::{PAGE_SHIFT, PAGE_SIZE};

const ENTRY_SIZE: usize = size_of::<GrantEntryV1>();
const ENTRIES_PER_FRAME: usize = PAGE_SIZE / ENTRY_SIZE;
/// More than Xen's default limit of 64 frames is not asked for.
const MAX_FRAMES: usize = 64;
/// Attempts at clearing an entry that Xen changes at the same time.
const END_ATTEMPTS: usize = 16;

pub(super) struct GrantTable {
    frames: Vec<SharedPage>,
    /// Per reference: the page that is granted.
    pages: Vec<Option<SharedPage>>,
    free: Vec<u32>,
    /// References that an earlier incarnation granted and that have not been ended yet.
    previous: Vec<u32>,
    ram: Range<u64>,
    /// Maps the frame of that index; a parameter for tests.
    map_frame: fn(u32) -> Result<SharedPage, Errno>,
}

impl GrantTable {
    pub(super) fn new(ram: Range<u64>) -> GrantTable {
        GrantTable {
            frames: Vec::new(),
            pages: Vec::new(),
            free: Vec::new(),
            previous: Vec::new(),
            ram,
            map_frame: memory::grant_frame,
        }
    }

    /// Takes over the frames that an earlier incarnation had.
    ///
    /// # Errors
    /// As for growing.
    pub(super) fn adopt(&mut self, frames: u32) -> Result<(), Errno> {
        (0..frames).try_for_each(|_| self.grow())
    }

    /// Ends what an earlier incarnation granted; returns how many grants a peer keeps in use.
    pub(super) fn end_previous(&mut self) -> usize {
        let previous = core::mem::take(&mut self.previous);
        let kept = previous.into_iter().filter(|&gref| match self.clear(gref) {
            Ok(()) => {
                self.free.push(gref);
                false
            }
            Err(_) => true,
        });
        self.previous = kept.collect();
        self.previous.len()
    }

    /// Address of the page that an earlier incarnation granted as `gref`, while the grant stands.
    pub(super) fn previous_page(&self, gref: GrantRef) -> Option<u64> {
        let gref = self.previous.iter().copied().find(|&previous| previous == gref.0)?;
        let (frame, offset) = self.entry(gref).ok()?;
        let number = frame.load::<u32>(offset + 4, Order::Relaxed).ok()?;
        Some(u64::from(number) << PAGE_SHIFT)
    }

    fn grow(&mut self) -> Result<(), Errno> {
        if self.frames.len() >= MAX_FRAMES {
            return Err(Errno::ENOSPC);
        }
        let first = self.pages.len();
        let index = u32::try_from(self.frames.len()).map_err(|_| Errno::ENOSPC)?;
        let reserve = |list: Result<(), _>| list.map_err(|_| Errno::ENOMEM);
        reserve(self.frames.try_reserve(1))?;
        reserve(self.pages.try_reserve_exact(ENTRIES_PER_FRAME))?;
        reserve(self.free.try_reserve_exact(ENTRIES_PER_FRAME))?;
        reserve(self.previous.try_reserve_exact(ENTRIES_PER_FRAME))?;
        self.frames.push((self.map_frame)(index).map_err(|_| Errno::ENOSPC)?);
        restart::keep_grant_frames((index + 1).max(restart::grant_frames()));
        self.pages.resize(first + ENTRIES_PER_FRAME, None);
        self.sort_entries(first)
    }

    /// Puts the entries from `first` on to those that are free or those of an earlier incarnation.
    fn sort_entries(&mut self, first: usize) -> Result<(), Errno> {
        let new = (first..self.pages.len()).filter_map(|gref| u32::try_from(gref).ok());
        // The lowest reference is taken first.
        for gref in new.filter(|&gref| gref >= GNTTAB_NR_RESERVED_ENTRIES).rev() {
            let (frame, offset) = self.entry(gref)?;
            match frame.load::<u16>(offset, Order::AcqRel) {
                Ok(0) => self.free.push(gref),
                _ => self.previous.push(gref),
            }
        }
        Ok(())
    }

    /// The frame and the byte offset in it of `gref`'s entry.
    fn entry(&self, gref: u32) -> Result<(&SharedPage, usize), Errno> {
        let index = gref as usize;
        let frame = self.frames.get(index / ENTRIES_PER_FRAME).ok_or(Errno::EINVAL)?;
        Ok((frame, index % ENTRIES_PER_FRAME * ENTRY_SIZE))
    }

    pub(super) fn access(
        &mut self,
        remote: DomId,
        page: &SharedPage,
        read_only: bool,
    ) -> Result<GrantRef, Errno> {
        // Pages that are not our own RAM cannot be granted on.
        if !self.ram.contains(&page.addr()) {
            return Err(Errno::EINVAL);
        }
        // The MMU maps RAM below 512 GiB only: the number fits.
        let frame_number =
            u32::try_from((page.addr() >> PAGE_SHIFT) & 0xffff_ffff).map_err(|_| Errno::EINVAL)?;
        if self.free.is_empty() {
            self.grow()?;
        }
        let gref = self.free.pop().ok_or(Errno::ENOSPC)?;
        let (frame, offset) = self.entry(gref)?;
        let flags = GTF_PERMIT_ACCESS | if read_only { GTF_READONLY } else { 0 };
        // Flags last: they make the rest valid.
        let stored = frame
            .store(offset + 4, frame_number, Order::Relaxed)
            .and_then(|()| frame.store(offset + 2, remote.0, Order::Relaxed))
            .and_then(|()| frame.store(offset, flags, Order::AcqRel));
        stored.map_err(|_| Errno::EINVAL)?;
        if let Some(slot) = self.pages.get_mut(gref as usize) {
            *slot = Some(page.clone());
        }
        Ok(GrantRef(gref))
    }

    /// Returns the page, to be dropped by the caller.
    pub(super) fn end(&mut self, gref: GrantRef) -> Result<SharedPage, Errno> {
        let held = self.pages.get(gref.0 as usize).ok_or(Errno::EINVAL)?;
        if held.is_none() {
            return Err(Errno::EINVAL);
        }
        self.clear(gref.0)?;
        self.free.push(gref.0);
        self.pages.get_mut(gref.0 as usize).and_then(Option::take).ok_or(Errno::EINVAL)
    }

    /// Writes the flags of an entry whose page is held, without a look at whether the peer uses it.
    #[cfg(feature = "hostile")]
    pub(super) fn store_flags(&self, gref: GrantRef, flags: u16) -> Result<(), Errno> {
        self.pages.get(gref.0 as usize).and_then(Option::as_ref).ok_or(Errno::EINVAL)?;
        let (frame, offset) = self.entry(gref.0)?;
        frame.store(offset, flags, Order::AcqRel).map_err(|_| Errno::EINVAL)
    }

    /// Makes an entry invalid, unless the peer uses it.
    fn clear(&self, gref: u32) -> Result<(), Errno> {
        let (frame, offset) = self.entry(gref)?;
        let mut flags = frame.load::<u16>(offset, Order::AcqRel).map_err(|_| Errno::EINVAL)?;
        for _ in 0..END_ATTEMPTS {
            if flags & (GTF_READING | GTF_WRITING) != 0 {
                return Err(Errno::EBUSY);
            }
            let found = frame.compare_exchange(offset, flags, 0).map_err(|_| Errno::EINVAL)?;
            if found == flags {
                full_barrier();
                return Ok(());
            }
            flags = found;
        }
        Err(Errno::EBUSY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> GrantTable {
        let map_frame = |_| SharedPage::alloc().ok_or(Errno::ENOMEM);
        GrantTable { map_frame, ..GrantTable::new(0..u64::MAX) }
    }

    fn grant(table: &mut GrantTable, page: &SharedPage) -> GrantRef {
        table.access(DomId(3), page, true).expect("room for a grant")
    }

    fn new_page() -> SharedPage {
        SharedPage::alloc().expect("host memory")
    }

    #[test]
    fn a_grant_is_written_whole_and_taken_back() {
        let mut table = table();
        let page = new_page();
        let gref = grant(&mut table, &page);
        assert_eq!(gref, GrantRef(8), "the first eight belong to the toolstack");
        let (frame, offset) = table.entry(gref.0).expect("mapped");
        assert_eq!(frame.load::<u16>(offset, Order::Relaxed), Ok(GTF_PERMIT_ACCESS | GTF_READONLY));
        assert_eq!(frame.load::<u16>(offset + 2, Order::Relaxed), Ok(3));
        assert_eq!(
            frame.load::<u32>(offset + 4, Order::Relaxed).map(u64::from),
            Ok((page.addr() >> 12) & 0xffff_ffff)
        );
        assert!(table.end(gref).is_ok());
        assert_eq!(table.end(gref).err(), Some(Errno::EINVAL));
        assert_eq!(table.end(GrantRef(3)).err(), Some(Errno::EINVAL));
        assert_eq!(table.end(GrantRef(u32::MAX)).err(), Some(Errno::EINVAL));
        assert_eq!(grant(&mut table, &page), gref, "the reference is free again");
    }

    #[test]
    fn a_mapped_grant_stays_busy_and_keeps_its_page() {
        let mut table = table();
        let gref = grant(&mut table, &new_page());
        let (frame, offset) = table.entry(gref.0).expect("mapped");
        let frame = frame.clone();
        let flags = GTF_PERMIT_ACCESS | GTF_WRITING;
        frame.store(offset, flags, Order::Relaxed).expect("inside");
        assert_eq!(table.end(gref).err(), Some(Errno::EBUSY));
        assert!(table.pages[gref.0 as usize].is_some());
        frame.store(offset, GTF_PERMIT_ACCESS, Order::Relaxed).expect("inside");
        assert!(table.end(gref).is_ok());
    }

    #[test]
    fn the_table_grows_by_frames_and_ends() {
        let mut table = table();
        let page = new_page();
        let all = MAX_FRAMES * ENTRIES_PER_FRAME - 8;
        for _ in 0..all {
            grant(&mut table, &page);
        }
        assert_eq!(table.frames.len(), MAX_FRAMES);
        assert_eq!(table.access(DomId(0), &page, false), Err(Errno::ENOSPC));
    }

    #[test]
    fn an_earlier_incarnation_s_grants_are_ended_once_the_peer_lets_go() {
        let mut previous = table();
        let (kept, free) = (grant(&mut previous, &new_page()), grant(&mut previous, &new_page()));
        let (frame, offset) = previous.entry(kept.0).expect("mapped");
        let frame = frame.clone();
        frame.store(offset, GTF_PERMIT_ACCESS | GTF_WRITING, Order::Relaxed).expect("inside");

        // The next incarnation finds the same frame (here, its content).
        let mut table = table();
        table.grow().expect("room");
        let again = table.frames[0].clone();
        frame.copy_to(0, &again, 0, PAGE_SIZE).expect("inside");
        let mut table = GrantTable { frames: Vec::new(), ..GrantTable::new(0..u64::MAX) };
        table.frames.push(again.clone());
        table.pages.resize(ENTRIES_PER_FRAME, None);
        table.sort_entries(0).expect("mapped");
        assert_eq!(table.previous, [free.0, kept.0]);
        assert_eq!(
            table.previous_page(kept),
            previous.pages[kept.0 as usize].as_ref().map(|page| page.addr() & 0xfff_ffff_ffff)
        );
        assert_eq!(table.previous_page(GrantRef(20)), None);
        let page = new_page();
        let new = table.access(DomId(3), &page, false).expect("room");
        assert!(new != kept && new != free, "what stands is not given out");
        assert_eq!(table.end_previous(), 1);
        again.store(offset, GTF_PERMIT_ACCESS, Order::Relaxed).expect("inside");
        assert_eq!(table.end_previous(), 0);
        assert_eq!(again.load::<u16>(offset, Order::Relaxed), Ok(0));
        assert_eq!(table.previous_page(kept), None);
    }

    #[test]
    fn pages_outside_ram_are_not_granted() {
        let mut table = GrantTable { ram: 0..4096, ..table() };
        assert_eq!(table.access(DomId(0), &new_page(), false), Err(Errno::EINVAL));
    }
}
