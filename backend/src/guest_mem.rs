//! The guest's memory as the device sees it: an allegation until an access proves it.
//!
//! [`GuestAddr`] and [`GuestRange`] carry addresses that a guest named. [`GuestMemory`] is
//! what can be done with them: copies and single ordered words, never a reference. The stub
//! implements it over foreign mappings or over grants, tests over a plain buffer.

mod any;
mod foreign;
mod granted;

pub use any::AnyMemory;

use core::fmt;
use kernel::{Order, PageSlice};

/// A guest physical address, or one that stands for a grant, as the guest named it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct GuestAddr(u64);

impl GuestAddr {
    /// Wraps an address that a guest named.
    #[must_use]
    pub const fn new(raw: u64) -> GuestAddr {
        GuestAddr(raw)
    }

    /// The bare number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on.
    ///
    /// # Errors
    /// [`MemFault`] if that wraps.
    pub fn offset(self, bytes: u64) -> Result<GuestAddr, MemFault> {
        self.0.checked_add(bytes).map(GuestAddr).ok_or(MemFault { addr: self })
    }

    /// Whether the address is a multiple of `align_bytes`.
    #[must_use]
    pub const fn is_aligned(self, align_bytes: u64) -> bool {
        self.0.is_multiple_of(align_bytes)
    }
}

impl fmt::Display for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A run of guest memory whose end does not wrap. It need not exist.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GuestRange {
    start: GuestAddr,
    len_bytes: u64,
}

impl GuestRange {
    /// `len_bytes` bytes at `start`.
    ///
    /// # Errors
    /// [`MemFault`] if the end wraps.
    pub fn new(start: GuestAddr, len_bytes: u64) -> Result<GuestRange, MemFault> {
        start.offset(len_bytes)?;
        Ok(GuestRange { start, len_bytes })
    }

    /// First address.
    #[must_use]
    pub const fn start(&self) -> GuestAddr {
        self.start
    }

    /// Bytes in the range.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
}

/// Guest memory that could not be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemFault {
    /// Where the access began, or the page that failed.
    pub addr: GuestAddr,
}

impl fmt::Display for MemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest memory at {} cannot be reached", self.addr)
    }
}

impl core::error::Error for MemFault {}

/// What the device may do with guest memory. The guest can change any byte at any time.
///
/// Every method fails with [`MemFault`] where the guest has no memory; a copy may then have
/// been done in part. Methods take `&self`, so an implementation keeps its map cache behind
/// a cell.
///
/// # Examples
/// ```
/// use backend::guest_mem::{GuestAddr, GuestMemory, MemFault};
/// use backend::testkit::TestMemory;
///
/// let memory = TestMemory::new(4096);
/// let addr = GuestAddr::new(TestMemory::BASE).offset(16)?;
/// memory.write(addr, b"data")?;
/// let mut copy = [0; 4];
/// memory.read(addr, &mut copy)?;
/// assert_eq!(&copy, b"data");
///
/// // An address is what the guest says: it may lie where there is no memory.
/// let nowhere = GuestAddr::new(0);
/// assert_eq!(memory.read(nowhere, &mut copy), Err(MemFault { addr: nowhere }));
/// # Ok::<(), MemFault>(())
/// ```
pub trait GuestMemory {
    /// Copies guest bytes at `addr` into `dst`. Not atomic.
    ///
    /// # Errors
    /// [`MemFault`].
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault>;

    /// Copies `src` into the guest at `addr`. Not atomic.
    ///
    /// # Errors
    /// [`MemFault`].
    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault>;

    /// Loads one little-endian u16 in one go, ordered as asked. `addr` is even.
    ///
    /// # Errors
    /// [`MemFault`], also for an odd address.
    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault>;

    /// Stores one little-endian u16 in one go, ordered as asked. `addr` is even.
    ///
    /// # Errors
    /// [`MemFault`], also for an odd address.
    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault>;

    /// Copies guest bytes at `addr` into a part of a page of ours: with [`GuestMemory::finish_copies`] at
    /// the latest.
    ///
    /// # Errors
    /// [`MemFault`], also if the page's end would be passed.
    fn copy_to_page(&self, addr: GuestAddr, to: PageSlice<'_>) -> Result<(), MemFault>;

    /// Copies a part of a page of ours into the guest at `addr`: with [`GuestMemory::finish_copies`] at
    /// the latest.
    ///
    /// # Errors
    /// [`MemFault`], also if the page's end would be passed.
    fn copy_from_page(&self, addr: GuestAddr, from: PageSlice<'_>) -> Result<(), MemFault>;

    /// Does what is left to be done of the copies between guest and pages, so that several cost one
    /// hypercall. Nothing of them may be used before, and they are over when it fails, too.
    ///
    /// # Errors
    /// [`MemFault`] of the first that failed since the last call.
    fn finish_copies(&self) -> Result<(), MemFault> {
        Ok(())
    }

    /// The memory itself, of which several kinds may be one type: found once, not with each access.
    fn inner(&self) -> &dyn GuestMemory
    where
        Self: Sized,
    {
        self
    }

    /// No mapping from before is used any more: the guest's frames have changed
    /// (`IOREQ_TYPE_INVALIDATE`). A vCPU waits meanwhile.
    fn invalidate(&self) {}

    /// Whether mappings from before an [`GuestMemory::invalidate`] still stand, unused: they keep
    /// pages from their owner.
    fn is_unswept(&self) -> bool
    where
        Self: Sized,
    {
        false
    }

    /// Ends a few of those.
    fn sweep(&self)
    where
        Self: Sized,
    {
    }
}

/// Who keeps the rings of a guest that grants its memory: nothing of it can be reached word by word
/// otherwise.
pub trait RingKeeper: fmt::Debug {
    /// Has these bytes of a ring at hand until [`RingKeeper::release`].
    ///
    /// # Errors
    /// [`MemFault`] of the page that cannot be had; then nothing is kept.
    fn keep(&self, range: GuestRange) -> Result<(), MemFault>;

    /// Lets go of what [`RingKeeper::keep`] had at hand: the guest may take its pages back.
    fn release(&self, range: GuestRange);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_must_not_wrap() {
        let top = GuestAddr::new(u64::MAX - 3);
        assert!(GuestRange::new(top, 3).is_ok());
        assert_eq!(GuestRange::new(top, 4), Err(MemFault { addr: top }));
        assert_eq!(GuestRange::new(top, u64::MAX), Err(MemFault { addr: top }));
        assert!(GuestRange::new(GuestAddr::new(0), u64::MAX).is_ok());
    }
}
