//! Pages that the toolstack prepared for this domain: console and xenstore rings.

use super::shared::SharedPage;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use xen_pv_sys::PAGE_SHIFT;
use xen_pv_sys::arch_arm::GUEST_MAGIC_BASE;
use xen_pv_sys::errno::Errno;

/// Pages that libxl allocates (`NR_MAGIC_PAGES`, tools/libs/guest/xg_dom_arm.c).
const MAGIC_PAGES: u64 = 4;

/// The magic page at `gfn`.
///
/// # Errors
/// `EFAULT` if it is none.
pub(crate) fn page(gfn: u64) -> Result<SharedPage, Errno> {
    let first = GUEST_MAGIC_BASE >> PAGE_SHIFT;
    if !(first..first + MAGIC_PAGES).contains(&gfn) || cfg!(not(target_os = "none")) {
        return Err(Errno::EFAULT);
    }
    let address = usize::try_from(gfn << PAGE_SHIFT).map_err(|_| Errno::EFAULT)?;
    let base = NonNull::new(with_exposed_provenance_mut(address)).ok_or(Errno::EFAULT)?;
    // SAFETY: checked above to be a magic page; the toolstack put RAM there before the domain
    // started, `start` mapped the block, nothing unmaps it, and only `SharedPage`s go there.
    Ok(unsafe { SharedPage::from_mapped(base) })
}
