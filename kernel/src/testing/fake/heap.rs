//! The host's heap, counted: how much a test's structures need.

extern crate std;

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

std::thread_local! {
    /// Bytes in use, of what this thread allocated and freed, and the most since it was asked.
    static USE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// A global allocator for test programs: `#[global_allocator] static HEAP: CountedHeap = CountedHeap;`.
/// It counts for each thread by itself, as tests run in threads.
pub struct CountedHeap;

impl CountedHeap {
    /// Bytes that this thread has in use.
    #[must_use]
    pub fn used_bytes() -> isize {
        USE.get().0
    }

    /// The most bytes that it had in use at once since the last call.
    #[must_use]
    pub fn take_peak_bytes() -> isize {
        let (used, peak) = USE.get();
        USE.set((used, used));
        peak
    }

    fn count(bytes: isize) {
        // The thread may be at its end, where nobody measures.
        let _ = USE.try_with(|in_use| {
            let (used, peak) = in_use.get();
            let used = used.wrapping_add(bytes);
            in_use.set((used, peak.max(used)));
        });
    }
}

// SAFETY: every block is the system allocator's, which gets the caller's own arguments. Counting
// allocates nothing: the thread's counter is made at compile time and has no destructor.
unsafe impl GlobalAlloc for CountedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CountedHeap::count(layout.size().cast_signed());
        // SAFETY: the caller keeps to `GlobalAlloc`'s rules.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CountedHeap::count(layout.size().cast_signed().wrapping_neg());
        // SAFETY: the block is one that `alloc` above got for this layout.
        unsafe { System.dealloc(block, layout) }
    }
}
