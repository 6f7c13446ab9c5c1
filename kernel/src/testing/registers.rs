//! Registers of this domain's own virtio-mmio devices, for test guests (feature `guest`).
//!
//! A stub has no such device: it is one.

use crate::arch::{self, BLOCK_SIZE, MapError};
use core::ptr::{NonNull, with_exposed_provenance_mut};
use xen_pv_sys::arch_arm::{GUEST_VIRTIO_MMIO_BASE, GUEST_VIRTIO_MMIO_SIZE};

/// The window of one device.
#[derive(Debug)]
pub struct Registers {
    base: NonNull<u32>,
    len: usize,
}

impl Registers {
    /// Maps the `len` bytes at `base`, which lie where Xen gives guests virtio-mmio devices.
    #[must_use]
    pub fn map(base: u64, len: usize) -> Option<Registers> {
        let offset = base.checked_sub(GUEST_VIRTIO_MMIO_BASE)?;
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        if end > GUEST_VIRTIO_MMIO_SIZE || !base.is_multiple_of(8) {
            return None;
        }
        // Nothing else maps this block: taken means that another device's window is in it.
        match arch::map_registers(GUEST_VIRTIO_MMIO_BASE / BLOCK_SIZE * BLOCK_SIZE) {
            Ok(()) | Err(MapError::Taken(_)) => {}
            Err(_) => return None,
        }
        let base = NonNull::new(with_exposed_provenance_mut(usize::try_from(base).ok()?))?;
        Some(Registers { base, len })
    }

    /// Where the window begins, for a driver with accessors of its own.
    #[must_use]
    pub fn base(&self) -> NonNull<u32> {
        self.base
    }

    /// Bytes of the window.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.len
    }

    fn at(&self, offset: usize) -> Option<*mut u32> {
        let inside = offset.is_multiple_of(4) && offset.checked_add(4)? <= self.len;
        inside.then(|| self.base.as_ptr().wrapping_byte_add(offset))
    }

    /// Reads the register at `offset`; all ones outside the window.
    #[must_use]
    pub fn read(&self, offset: usize) -> u32 {
        // SAFETY: aligned and inside the window, which `map` mapped; it holds no Rust object.
        self.at(offset).map_or(u32::MAX, |at| unsafe { arch::read_register(at) })
    }

    /// Writes the register at `offset`; nothing outside the window.
    pub fn write(&self, offset: usize, value: u32) {
        if let Some(at) = self.at(offset) {
            // SAFETY: as above.
            unsafe { arch::write_register(at, value) };
        }
    }
}
