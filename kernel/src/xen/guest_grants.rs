//! The target's grants, as the real Xen maps and copies them (`public/grant_table.h`).

use super::hypervisor::DomId;
use super::memory::Physmap;
use crate::arch;
use crate::mem::foreign::{CHUNK_PAGES, PageSet};
use crate::mem::granted::{GrantStatus, GuestGrants, RingPage};
use core::cell::RefCell;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::grant_table::{
    GNTMAP_HOST_MAP, GNTST_GENERAL_ERROR, GNTST_OKAY, GNTTABOP_COPY, GNTTABOP_MAP_GRANT_REF,
    GNTTABOP_UNMAP_GRANT_REF, GnttabCopy, GnttabMapGrantRef, GnttabUnmapGrantRef,
};
use xen_pv_sys::xen::HYPERVISOR_GRANT_TABLE_OP;

/// The grants of one domain. Pages of its rings are mapped in one block of our unused addresses: 512 pages,
/// more than the rings of all disks have.
pub(super) struct XenGrants {
    target: DomId,
    /// First address of the block.
    base: u64,
    free: RefCell<PageSet>,
}

const FAILED: GrantStatus = GrantStatus(GNTST_GENERAL_ERROR);

/// A grant table operation on one structure.
///
/// # Safety
/// `T` is the structure of `command`, and what the command does to mappings concerns a page of the
/// block at which nothing is used.
unsafe fn grant_op<T>(command: u64, arg: &mut T) -> Result<(), Errno> {
    let address = (&raw mut *arg).addr() as u64;
    // SAFETY: the address is that of one live structure; the rest is the caller's promise.
    Errno::check(unsafe { arch::hypercall(HYPERVISOR_GRANT_TABLE_OP, [command, address, 1, 0, 0]) })
        .map(|_| ())
}

fn check(status: i16) -> Result<(), GrantStatus> {
    if status == GNTST_OKAY { Ok(()) } else { Err(GrantStatus(status)) }
}

impl XenGrants {
    pub(super) fn new(physmap: &Physmap, target: DomId) -> Result<XenGrants, Errno> {
        Ok(XenGrants { target, base: physmap.block()?, free: RefCell::new(PageSet::ALL) })
    }

    fn address(&self, slot: usize) -> u64 {
        self.base + (slot * PAGE_SIZE) as u64
    }
}

// SAFETY: a page is reported as mapped only after Xen said so for an address of the block, which the MMU
// maps and which nobody else uses; the slot is not free until Xen has unmapped it. Copies go to the
// operations' own ends only.
unsafe impl GuestGrants for XenGrants {
    fn map(&self, gref: u32) -> Result<RingPage, GrantStatus> {
        let mut free = self.free.borrow_mut();
        let slot = free.iter().next().ok_or(FAILED)?;
        let host_addr = self.address(slot);
        let mut arg = GnttabMapGrantRef {
            host_addr,
            flags: GNTMAP_HOST_MAP,
            gref,
            dom: self.target.0,
            status: GNTST_GENERAL_ERROR,
            ..GnttabMapGrantRef::default()
        };
        // SAFETY: the structure belongs to the command; nothing is mapped at a free slot.
        unsafe { grant_op(GNTTABOP_MAP_GRANT_REF, &mut arg) }.map_err(|_| FAILED)?;
        check(arg.status)?;
        *free = free.without(&PageSet::one(slot));
        let address = usize::try_from(host_addr).map_err(|_| FAILED)?;
        let base = NonNull::new(with_exposed_provenance_mut(address)).ok_or(FAILED)?;
        Ok(RingPage { base, handle: arg.handle })
    }

    fn unmap(&self, page: RingPage) -> Result<(), GrantStatus> {
        let host_addr = page.base.as_ptr().addr() as u64;
        let mut arg = GnttabUnmapGrantRef {
            host_addr,
            handle: page.handle,
            status: GNTST_GENERAL_ERROR,
            ..GnttabUnmapGrantRef::default()
        };
        // SAFETY: the structure belongs to the command; the caller does not use the page any more.
        unsafe { grant_op(GNTTABOP_UNMAP_GRANT_REF, &mut arg) }.map_err(|_| FAILED)?;
        check(arg.status)?;
        let slot = usize::try_from(host_addr.wrapping_sub(self.base)).map_err(|_| FAILED)? / PAGE_SIZE;
        self.free.borrow_mut().insert(slot);
        Ok(())
    }

    fn domain(&self) -> u16 {
        self.target.0
    }

    unsafe fn copy(&self, operations: &mut [GnttabCopy]) {
        let address = operations.as_mut_ptr().expose_provenance() as u64;
        // SAFETY: Xen reads and writes as many structures as there are; the memory of ours that they name is
        // the caller's promise, and the guest's is nobody's that Rust knows of.
        let result = unsafe {
            let count = operations.len() as u64;
            arch::hypercall(HYPERVISOR_GRANT_TABLE_OP, [GNTTABOP_COPY, address, count, 0, 0])
        };
        if let Err(errno) = Errno::check(result) {
            // What was not reached has kept the error that it was given.
            log::error!("grant copy: {errno}");
        }
    }
}

const _: () = assert!((CHUNK_PAGES * PAGE_SIZE) as u64 == arch::BLOCK_SIZE);
