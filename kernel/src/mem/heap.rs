//! The heap: all RAM that the image and the device tree leave.

use core::fmt;

/// How much of the heap is in use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeapUse {
    /// Bytes in all.
    pub size_bytes: usize,
    /// Bytes in use now.
    pub used_bytes: usize,
    /// The most that was ever in use at once.
    pub peak_bytes: usize,
}

impl fmt::Display for HeapUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes / 1024;
        write!(
            f,
            "{} KiB used, {} KiB at most, of {} KiB",
            kib(self.used_bytes),
            kib(self.peak_bytes),
            kib(self.size_bytes)
        )
    }
}

#[cfg(target_os = "none")]
mod global {
    use super::HeapUse;
    use crate::mem::uni_cell::UniCell;
    use core::alloc::{GlobalAlloc, Layout};
    use core::mem::MaybeUninit;
    use core::ptr::{self, NonNull};
    use linked_list_allocator::Heap;

    struct Counted {
        heap: Heap,
        peak_bytes: usize,
    }

    struct Global(UniCell<Counted>);

    #[global_allocator]
    static HEAP: Global = Global(UniCell::new(Counted { heap: Heap::empty(), peak_bytes: 0 }));

    // SAFETY: blocks come from a `Heap`, which hands out each byte once, with the size and
    // alignment asked for. Neither method unwinds (panic aborts).
    unsafe impl GlobalAlloc for Global {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let block = self.0.with(|counted| {
                let block = counted.heap.allocate_first_fit(layout).ok();
                counted.peak_bytes = counted.peak_bytes.max(counted.heap.used());
                block
            });
            block.flatten().map_or(ptr::null_mut(), NonNull::as_ptr)
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            if let Some(block) = NonNull::new(block) {
                // SAFETY: the caller passes a block that `alloc` returned for this layout.
                self.0.with(|counted| unsafe { counted.heap.deallocate(block, layout) });
            }
        }
    }

    /// Gives the heap its memory. A second call changes nothing.
    pub(crate) fn init(memory: &'static mut [MaybeUninit<u8>]) {
        HEAP.0.with(|counted| {
            if counted.heap.size() == 0 {
                counted.heap.init_from_slice(memory);
            }
        });
    }

    /// The heap's figures.
    #[must_use]
    pub fn heap_use() -> HeapUse {
        let read = |counted: &mut Counted| HeapUse {
            size_bytes: counted.heap.size(),
            used_bytes: counted.heap.used(),
            peak_bytes: counted.peak_bytes,
        };
        HEAP.0.with(read).unwrap_or_default()
    }
}
#[cfg(target_os = "none")]
pub use global::heap_use;
#[cfg(target_os = "none")]
pub(crate) use global::init;

/// On a host the heap is not ours: all zero.
#[cfg(not(target_os = "none"))]
#[must_use]
pub fn heap_use() -> HeapUse {
    HeapUse::default()
}
