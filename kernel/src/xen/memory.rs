//! Our physical address space beyond RAM: what Xen maps there on our request.
//!
//! All of it comes from ranges that the device tree calls unused, handed out from below: first one
//! block for single pages (shared_info, ioreq pages), then foreign windows. Nothing is ever
//! given back, so that the p2m tables, which Xen does not free, stay bounded.

use super::hypercalls;
use super::hypervisor::{DomId, IoservId};
use crate::arch::{self, BLOCK_SIZE};
use crate::mem::foreign::{CHUNK_PAGES, Mapped, PageSet, Window};
use crate::mem::shared::SharedPage;
use crate::restart;
use alloc::boxed::Box;
use core::cell::{Cell, RefCell};
use core::ops::Range;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use xen_pv_sys::arch_arm::GUEST_GNTTAB_BASE;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::memory::{
    AcquireResource, AddToPhysmap, AddToPhysmapBatch, RemoveFromPhysmap, XENMAPSPACE_GMFN_FOREIGN,
    XENMAPSPACE_GRANT_TABLE, XENMAPSPACE_SHARED_INFO, XENMEM_ACQUIRE_RESOURCE, XENMEM_ADD_TO_PHYSMAP,
    XENMEM_ADD_TO_PHYSMAP_BATCH, XENMEM_REMOVE_FROM_PHYSMAP, XENMEM_RESOURCE_IOREQ_SERVER,
    XENMEM_RESOURCE_IOREQ_SERVER_FRAME_IOREQ_0,
};
use xen_pv_sys::xen::{DOMID_SELF, HYPERVISOR_MEMORY_OP};
use xen_pv_sys::{PAGE_SHIFT, PAGE_SIZE};

/// Ranges of addresses aligned to 2 MiB at both ends, which nothing uses: Xen gives one above each
/// bank of RAM. Those that do not exist are empty.
pub type Unused = [Range<u64>; 2];

/// Hands out unused addresses.
pub(super) struct Physmap {
    /// Not handed out yet.
    unused: RefCell<Unused>,
    /// Gfn of the next single page, in the first block.
    next_page: Cell<u64>,
    /// End of that block, as a gfn.
    pages_end: u64,
}

/// Takes `count` blocks of 2 MiB from the first range that has as many, else what the largest has,
/// and maps them in stage 1.
fn take_blocks(unused: &mut Unused, count: u64) -> Result<Range<u64>, Errno> {
    let blocks = |range: &Range<u64>| range.end.saturating_sub(range.start) / BLOCK_SIZE;
    // Of equals the last is taken.
    let range = unused.iter_mut().rev().max_by_key(|range| blocks(range).min(count));
    let range = range.filter(|range| blocks(range) > 0).ok_or(Errno::ENOSPC)?;
    let taken = range.start..range.start + count.min(blocks(range)) * BLOCK_SIZE;
    // After a restart the MMU maps them already; each range is handed out once in an incarnation.
    arch::map_missing(taken.clone()).map_err(|_| Errno::ENOSPC)?;
    range.start = taken.end;
    Ok(taken)
}

/// The page that Xen has put at `gfn`.
///
/// # Safety
/// Xen has mapped a page there, `gfn` is in a block mapped by the MMU, and the page stays.
unsafe fn page_at(gfn: u64) -> Result<SharedPage, Errno> {
    let address = usize::try_from(gfn << PAGE_SHIFT).map_err(|_| Errno::EFAULT)?;
    let base = NonNull::new(with_exposed_provenance_mut(address)).ok_or(Errno::EFAULT)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { SharedPage::from_mapped(base) })
}

/// XENMEM_add_to_physmap.
///
/// # Safety
/// `gfn` is neither RAM nor anything else that Rust knows of.
unsafe fn add_to_physmap(space: u16, idx: u64, gfn: u64) -> Result<(), Errno> {
    let mut arg = AddToPhysmap { domid: DOMID_SELF, size: 0, space: u32::from(space), idx, gpfn: gfn };
    // SAFETY: the structure belongs to the command; the mapping is the caller's promise.
    unsafe { hypercalls::with_arg(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, &mut arg) }.map(|_| ())
}

/// Maps one frame of another domain at `gfn`.
///
/// # Safety
/// As for [`add_to_physmap`].
#[cfg(feature = "hostile")]
pub(crate) unsafe fn add_foreign(domain: DomId, foreign_gfn: u64, gfn: u64) -> Result<(), Errno> {
    let mut error = -1i32;
    let mut arg = AddToPhysmapBatch {
        domid: DOMID_SELF,
        space: XENMAPSPACE_GMFN_FOREIGN,
        size: 1,
        foreign_domid: domain.0,
        idxs: (&raw const foreign_gfn).addr() as u64,
        gpfns: (&raw const gfn).addr() as u64,
        errs: (&raw mut error).expose_provenance() as u64,
    };
    // SAFETY: the structure belongs to the command; the arrays are of one entry and alive here; the mapping is
    // the caller's promise.
    unsafe { hypercalls::with_arg(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP_BATCH, &mut arg) }?;
    // SAFETY: a local that Xen has written to through its address.
    Errno::check(i64::from(unsafe { (&raw const error).read_volatile() })).map(|_| ())
}

/// Unmaps what an earlier incarnation had at `gfn`, if anything: Xen maps a page of its own (the shared
/// page, the grant table) at one place only.
fn forget(gfn: u64) {
    let mut arg = RemoveFromPhysmap { domid: DOMID_SELF, pad: [0; 3], gpfn: gfn };
    // SAFETY: the structure belongs to the command; all callers, in this file, pass a frame
    // that is not RAM, at which this incarnation has nothing (yet, or any more).
    let _nothing_there =
        unsafe { hypercalls::with_arg(HYPERVISOR_MEMORY_OP, XENMEM_REMOVE_FROM_PHYSMAP, &mut arg) };
}

/// Frame `index` of our grant table, at its place in the grant region.
///
/// # Errors
/// What Xen answers, for instance when the table may not grow so far.
pub(super) fn grant_frame(index: u32) -> Result<SharedPage, Errno> {
    let gfn = (GUEST_GNTTAB_BASE >> PAGE_SHIFT) + u64::from(index);
    if restart::is_restarted() {
        forget(gfn);
    }
    // SAFETY: the grant region holds nothing else; `start` mapped all of it.
    unsafe {
        add_to_physmap(XENMAPSPACE_GRANT_TABLE, u64::from(index), gfn)?;
        page_at(gfn)
    }
}

impl Physmap {
    pub(super) fn new(mut unused: Unused) -> Result<Physmap, Errno> {
        let pages = take_blocks(&mut unused, 1)?;
        Ok(Physmap {
            unused: RefCell::new(unused),
            next_page: Cell::new(pages.start >> PAGE_SHIFT),
            pages_end: pages.end >> PAGE_SHIFT,
        })
    }

    /// Has `map` put a page at an unused frame, which stays taken if that succeeds.
    fn page_by(&self, map: impl FnOnce(u64) -> Result<(), Errno>) -> Result<SharedPage, Errno> {
        let gfn = self.next_page.get();
        if gfn >= self.pages_end {
            return Err(Errno::ENOSPC);
        }
        if restart::is_restarted() {
            forget(gfn);
        }
        map(gfn)?;
        self.next_page.set(gfn + 1);
        // SAFETY: all callers, in this file, pass a `map` that has Xen put a page there; each
        // frame is used once, lies in a block that `new` mapped, and is never unmapped.
        unsafe { page_at(gfn) }
    }

    /// A block of 2 MiB of unused frames, mapped in stage 1: its first address.
    ///
    /// # Errors
    /// `ENOSPC` if there is none left.
    pub(super) fn block(&self) -> Result<u64, Errno> {
        take_blocks(&mut self.unused.borrow_mut(), 1).map(|block| block.start)
    }

    /// Maps the page that we share with Xen. Works once.
    pub(super) fn shared_info(&self) -> Result<SharedPage, Errno> {
        // SAFETY: the frame is unused so far, see `page_by`.
        self.page_by(|gfn| unsafe { add_to_physmap(XENMAPSPACE_SHARED_INFO, 0, gfn) })
    }

    /// Maps the synchronous page of an ioreq server.
    pub(super) fn ioreq_page(&self, target: DomId, id: IoservId) -> Result<SharedPage, Errno> {
        let frame = XENMEM_RESOURCE_IOREQ_SERVER_FRAME_IOREQ_0;
        self.resource_page(target, (XENMEM_RESOURCE_IOREQ_SERVER, u32::from(id.0)), frame)
    }

    /// The first page of a domain's grant table.
    #[cfg(feature = "hostile")]
    pub(super) fn grant_table_page(&self, target: DomId) -> Result<SharedPage, Errno> {
        self.resource_page(target, (xen_pv_sys::memory::XENMEM_RESOURCE_GRANT_TABLE, 0), 0)
    }

    fn resource_page(&self, target: DomId, (kind, id): (u16, u32), frame: u64) -> Result<SharedPage, Errno> {
        self.page_by(|gfn| {
            let mut arg = AcquireResource {
                domid: target.0,
                resource_type: kind,
                id,
                nr_frames: 1,
                pad: 0,
                frame,
                frame_list: (&raw const gfn).addr() as u64,
            };
            // SAFETY: the structure belongs to the command; Xen reads one u64 from
            // `frame_list`, alive here, and maps one page at that unused frame.
            unsafe { hypercalls::with_arg(HYPERVISOR_MEMORY_OP, XENMEM_ACQUIRE_RESOURCE, &mut arg) }
                .map(|_| ())
        })
    }

    /// Takes a block of unused frames.
    #[cfg(feature = "hostile")]
    pub(super) fn unused_gfns(&self) -> Result<Range<u64>, Errno> {
        let block = take_blocks(&mut self.unused.borrow_mut(), 1)?;
        Ok(block.start >> PAGE_SHIFT..block.end >> PAGE_SHIFT)
    }

    /// Maps one frame of another domain, for good.
    #[cfg(feature = "hostile")]
    pub(super) fn foreign_page(&self, domain: DomId, foreign_gfn: u64) -> Result<SharedPage, Errno> {
        // SAFETY: the frame is unused so far, see `page_by`.
        self.page_by(|gfn| unsafe { add_foreign(domain, foreign_gfn, gfn) })
    }
}

/// Arguments of one batch: too large for the stack.
struct Batch {
    sources: [u64; CHUNK_PAGES],
    destinations: [u64; CHUNK_PAGES],
    errors: [i32; CHUNK_PAGES],
}

/// A range of our unused addresses through which the target's RAM is seen.
pub struct XenWindow {
    target: DomId,
    base: u64,
    slots: u16,
    batch: RefCell<Box<Batch>>,
}

impl XenWindow {
    pub(super) fn new(physmap: &Physmap, target: DomId, slots: u16) -> Result<XenWindow, Errno> {
        let place = take_blocks(&mut physmap.unused.borrow_mut(), u64::from(slots))?;
        let found = u16::try_from((place.end - place.start) / BLOCK_SIZE).map_err(|_| Errno::ENOSPC)?;
        if found < slots {
            log::warn!("addresses for {found} of {slots} chunks of the guest's memory");
        }
        let batch =
            Batch { sources: [0; CHUNK_PAGES], destinations: [0; CHUNK_PAGES], errors: [0; CHUNK_PAGES] };
        Ok(XenWindow { target, base: place.start, slots: found, batch: RefCell::new(Box::new(batch)) })
    }

    fn gfn(&self, slot: u16, page: usize) -> u64 {
        ((self.base + u64::from(slot) * BLOCK_SIZE) >> PAGE_SHIFT) + page as u64
    }
}

// SAFETY: a page is reported as mapped only after Xen said so for its frame; it stays mapped,
// with a reference on it, until `unmap`, or until another `map` replaces it. Base and slots
// never change, and lie in blocks that the MMU maps.
unsafe impl Window for XenWindow {
    fn slots(&self) -> u16 {
        self.slots
    }

    fn base(&self, slot: u16) -> NonNull<u8> {
        debug_assert!(slot < self.slots);
        let address = self.base + u64::from(slot) * BLOCK_SIZE;
        let address = usize::try_from(address).unwrap_or(0);
        NonNull::new(with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling())
    }

    fn previous_slots(&self) -> u16 {
        restart::previous_slots()
    }

    fn map(&self, slot: u16, first_gfn: u64, wanted: &PageSet) -> Mapped {
        // Before it is so: whatever happens, the next incarnation knows.
        restart::keep_slot(slot);
        let mut batch = self.batch.borrow_mut();
        let Batch { sources, destinations, errors } = &mut **batch;
        let mut count = 0;
        let entries = sources.iter_mut().zip(destinations.iter_mut()).zip(errors.iter_mut());
        for (page, ((source, destination), error)) in wanted.iter().zip(entries) {
            *source = first_gfn + page as u64;
            *destination = self.gfn(slot, page);
            // Should Xen stop early, what it did not reach must read as failed.
            *error = -1;
            count += 1;
        }
        let mut arg = AddToPhysmapBatch {
            domid: DOMID_SELF,
            space: XENMAPSPACE_GMFN_FOREIGN,
            size: count,
            foreign_domid: self.target.0,
            idxs: sources.as_ptr().expose_provenance() as u64,
            gpfns: destinations.as_ptr().expose_provenance() as u64,
            errs: errors.as_mut_ptr().expose_provenance() as u64,
        };
        // SAFETY: the structure belongs to the command; Xen reads `count` entries of the first
        // two arrays and writes as many of the third, all of which have that many and live.
        // The destinations are our window, of which Rust knows only through `SharedPage`-like
        // accesses of `ForeignMap`.
        let result =
            unsafe { hypercalls::with_arg(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP_BATCH, &mut arg) };
        let mut mapped = Mapped { pages: PageSet::EMPTY, failure: result.err() };
        for (page, &error) in wanted.iter().zip(errors.iter()) {
            // Xen may have mapped some pages before the call as a whole failed: they count.
            match Errno::check(i64::from(error)) {
                Ok(_) => mapped.pages.insert(page),
                Err(errno) => mapped.failure = mapped.failure.or(Some(errno)),
            }
        }
        mapped
    }

    fn unmap(&self, slot: u16, pages: &PageSet) {
        for page in pages.iter() {
            let mut arg = RemoveFromPhysmap { domid: DOMID_SELF, pad: [0; 3], gpfn: self.gfn(slot, page) };
            // SAFETY: the structure belongs to the command; the frame is one of our window,
            // which `ForeignMap` no longer reads.
            let removed =
                unsafe { hypercalls::with_arg(HYPERVISOR_MEMORY_OP, XENMEM_REMOVE_FROM_PHYSMAP, &mut arg) };
            // Of what an earlier incarnation had mapped, only the slots are known.
            debug_assert!(matches!(removed, Ok(_) | Err(Errno::ENOENT)));
        }
    }
}

const _: () = assert!((CHUNK_PAGES * PAGE_SIZE) as u64 == BLOCK_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_window_takes_the_range_that_it_fits_into_or_else_the_largest() {
        let ranges = || [GIB..4 * GIB, 8 * GIB..40 * GIB];
        let take = |blocks: u64| take_blocks(&mut ranges(), blocks);
        assert_eq!(take(64), Ok(GIB..GIB + (128 << 20)));
        assert_eq!(take(2048), Ok(8 * GIB..12 * GIB));
        assert_eq!(take(u64::from(u16::MAX)), Ok(8 * GIB..40 * GIB));
        assert_eq!(take_blocks(&mut [GIB..3 * GIB, 0..0], 2048), Ok(GIB..3 * GIB));
        assert_eq!(take_blocks(&mut [0..0, 0..0], 1), Err(Errno::ENOSPC));
        let mut ranges = ranges();
        for _ in 0..2 {
            assert!(take_blocks(&mut ranges, 512).is_ok());
        }
        assert_eq!(ranges, [3 * GIB..4 * GIB, 8 * GIB..40 * GIB]);
    }
}
