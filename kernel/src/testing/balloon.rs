//! Pages of RAM that a test guest gives back to Xen, and gets anew, as a balloon driver does (feature
//! `guest`).

use crate::arch;
use crate::mem::shared::SharedPage;
use xen_pv_sys::PAGE_SHIFT;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::memory::{MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP};
use xen_pv_sys::xen::{DOMID_SELF, HYPERVISOR_MEMORY_OP};

/// A hole in this domain's RAM. One that is dropped stays a hole.
#[derive(Debug)]
pub struct Hole(SharedPage);

impl Hole {
    /// Gives the page's frame back to Xen. No clone of it may be used until [`Hole::fill`]: the CPU would
    /// trap.
    ///
    /// # Errors
    /// What Xen answers; the page is as before then.
    pub fn make(page: SharedPage) -> Result<Hole, Errno> {
        // SAFETY: the page is nothing but a `SharedPage`. It is never freed while it is a hole, and what
        // touches it traps.
        unsafe { change(XENMEM_DECREASE_RESERVATION, &page) }?;
        // Nothing else of the heap may come to lie there.
        core::mem::forget(page.clone());
        Ok(Hole(page))
    }

    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.0.addr()
    }

    /// Gets a new frame from Xen, zeroed.
    ///
    /// # Errors
    /// What Xen answers; the hole stays then.
    pub fn fill(self) -> Result<SharedPage, Errno> {
        // SAFETY: there is a hole, and nothing uses it.
        unsafe { change(XENMEM_POPULATE_PHYSMAP, &self.0) }?;
        self.0.zero();
        Ok(self.0)
    }
}

/// One of the two operations, for the page's frame.
///
/// # Safety
/// Taking a frame away from memory that Rust uses would break it.
unsafe fn change(operation: u64, page: &SharedPage) -> Result<(), Errno> {
    let mut frame = page.addr() >> PAGE_SHIFT;
    let mut reservation = MemoryReservation {
        extent_start: (&raw mut frame).addr() as u64,
        nr_extents: 1,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    };
    let address = (&raw mut reservation).addr() as u64;
    // SAFETY: Xen reads and writes the structure and the frame's number; for the frame, the caller's promise.
    let done = Errno::check(unsafe { arch::hypercall(HYPERVISOR_MEMORY_OP, [operation, address, 0, 0, 0]) })?;
    // The result is the number of frames.
    if done == 1 { Ok(()) } else { Err(Errno::ENOMEM) }
}
