//! Where guest frames appear: the seam to whoever maps them.

use super::pages::PageSet;
use core::ptr::NonNull;
use xen_pv_sys::errno::Errno;

pub(super) const CHUNK_SHIFT: u32 = 21;
pub(super) const CHUNK_SIZE: u64 = 1 << CHUNK_SHIFT;
/// Guest physical addresses end here: what `GUEST_RAM1` of `public/arch-arm.h` ends with.
pub const ADDRESS_LIMIT: u64 = 1 << 40;

/// What one [`Window::map`] achieved.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Pages that now show what was asked for.
    pub pages: PageSet,
    /// The first failure, if any.
    pub failure: Option<Errno>,
}

/// Where guest frames appear: slots of [`CHUNK_PAGES`](super::CHUNK_PAGES) pages each.
///
/// # Safety
/// From when `map` reports a page until the next `unmap` or `map` that covers it, the page at
/// `base(slot) + page * 4096` is valid for reading and writing, by the guest as well.
/// `base` is page-aligned and does not change.
pub unsafe trait Window {
    /// Slots of this window.
    fn slots(&self) -> u16;

    /// First byte of a slot below [`Window::slots`].
    fn base(&self, slot: u16) -> NonNull<u8>;

    /// Slots, the first ones, in which an earlier incarnation may have left anything.
    fn previous_slots(&self) -> u16 {
        0
    }

    /// Tries to map the guest's frame `first_gfn + page` as that page of the slot, for every
    /// page of `wanted`, at none of which anything is mapped.
    fn map(&self, slot: u16, first_gfn: u64, wanted: &PageSet) -> Mapped;

    /// Unmaps pages; of those of an earlier incarnation, some may not be mapped.
    fn unmap(&self, slot: u16, pages: &PageSet);
}
