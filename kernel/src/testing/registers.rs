//! Registers of this domain's own virtio-mmio devices, for test guests (feature `guest`).
//!
//! A stub has no such device: it is one.

use crate::arch::{self, BLOCK_SIZE, MapError};
use core::ptr::{NonNull, with_exposed_provenance_mut};
use xen_pv_sys::arch_arm::{GUEST_VIRTIO_MMIO_BASE, GUEST_VIRTIO_MMIO_SIZE};

/// How much an access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Half,
    /// 4 bytes, as all of virtio's registers have.
    Word,
    /// 8 bytes.
    Double,
}

impl Width {
    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        1 << (self as usize)
    }
}

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

    /// The address of a register; nothing outside the window, or where the offset is no multiple of the width.
    pub(super) fn at(&self, offset: usize, width: Width) -> Option<*mut u32> {
        let bytes = width.bytes();
        let inside = offset.is_multiple_of(bytes) && offset.checked_add(bytes)? <= self.len;
        inside.then(|| self.base.as_ptr().wrapping_byte_add(offset))
    }

    /// Reads that much at `offset`; all ones outside the window, or where the offset is no multiple of the
    /// width.
    #[must_use]
    pub fn read_of(&self, width: Width, offset: usize) -> u64 {
        // SAFETY: aligned and inside the window, which `map` mapped; it holds no Rust object.
        self.at(offset, width).map_or(u64::MAX, |at| unsafe {
            match width {
                Width::Byte => u64::from(arch::read_register_8(at.cast())),
                Width::Half => u64::from(arch::read_register_16(at.cast())),
                Width::Word => u64::from(arch::read_register(at)),
                Width::Double => arch::read_register_64(at.cast()),
            }
        })
    }

    /// Writes the low part of `value` that is as wide at `offset`; nothing where [`Registers::read_of`]
    /// reads nothing.
    pub fn write_of(&self, width: Width, offset: usize, value: u64) {
        let Some(at) = self.at(offset, width) else { return };
        let [low, ..] = value.to_le_bytes();
        // SAFETY: as above.
        unsafe {
            match width {
                Width::Byte => arch::write_register_8(at.cast(), low),
                Width::Half => arch::write_register_16(at.cast(), (value & 0xffff) as u16),
                Width::Word => arch::write_register(at, (value & 0xffff_ffff) as u32),
                Width::Double => arch::write_register_64(at.cast(), value),
            }
        }
    }

    /// Reads the register at `offset`; all ones outside the window.
    #[must_use]
    pub fn read(&self, offset: usize) -> u32 {
        // SAFETY: aligned and inside the window, which `map` mapped; it holds no Rust object.
        self.at(offset, Width::Word).map_or(u32::MAX, |at| unsafe { arch::read_register(at) })
    }

    /// Writes the register at `offset`; nothing outside the window.
    pub fn write(&self, offset: usize, value: u32) {
        if let Some(at) = self.at(offset, Width::Word) {
            // SAFETY: as above.
            unsafe { arch::write_register(at, value) };
        }
    }
}
