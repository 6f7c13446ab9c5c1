//! What the `virtio-drivers` crate asks of its host: memory that the device reaches. Here an
//! address is the same for everyone: the MMU maps one to one, and the device sees guest
//! physical addresses.
#![expect(unsafe_code, reason = "the crate's trait is unsafe to implement")]

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ptr::NonNull;
use kernel::testing::registers::Registers;
use virtio_drivers::transport::mmio::{MmioError, MmioTransport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// The heap's memory, as it is.
pub struct Identity;

fn layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok().filter(|layout| layout.size() > 0)
}

// SAFETY: `dma_alloc` hands out zeroed, page-aligned heap blocks that nothing else has until
// `dma_dealloc`. Physical addresses are the virtual ones, as `kernel` maps RAM one to one.
unsafe impl Hal for Identity {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: `layout` yields no layout of size 0.
        let block = layout(pages).and_then(|layout| NonNull::new(unsafe { alloc_zeroed(layout) }));
        // The crate takes a physical address of 0 as a failure.
        block.map_or((0, NonNull::dangling()), |block| (block.addr().get() as u64, block))
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, block: NonNull<u8>, pages: usize) -> i32 {
        let Some(layout) = layout(pages) else { return -1 };
        // SAFETY: the caller passes what `dma_alloc` returned for as many pages.
        unsafe { dealloc(block.as_ptr(), layout) };
        0
    }

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        // For PCI only, of which there is none.
        NonNull::dangling()
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as u64
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// The crate's transport on these registers.
pub fn transport(registers: &Registers) -> Result<MmioTransport<'_>, MmioError> {
    // SAFETY: `Registers` is a mapped window of the length given, aligned to 8 bytes, and never
    // unmapped; whoever has it uses one driver at a time (a second one would only confuse the
    // device, not memory of ours).
    unsafe { MmioTransport::new(registers.base().cast(), registers.size_bytes()) }
}
