//! The host's heap, counted and looked at: how much a test's structures need, and what they leave behind.

extern crate std;

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

std::thread_local! {
    /// Bytes in use, of what this thread allocated and freed, and the most since it was asked.
    static USE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
    /// What this thread's freed blocks are searched for, and in how many it was.
    static SOUGHT: Cell<(&'static [&'static [u8]], usize)> = const { Cell::new((&[], 0)) };
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

    /// From now on each block that this thread frees is searched for any of these byte strings.
    pub fn seek_in_freed(what: &'static [&'static [u8]]) {
        SOUGHT.set((what, 0));
    }

    /// How many blocks had one of them when they were freed; the search is over.
    #[must_use]
    pub fn found_in_freed() -> usize {
        SOUGHT.replace((&[], 0)).1
    }

    /// The bytes of a block that is about to be freed.
    fn look(block: &[u8]) {
        let _ = SOUGHT.try_with(|sought| {
            let (what, found) = sought.get();
            let has = |part: &&[u8]| block.windows(part.len().max(1)).any(|window| window == *part);
            if what.iter().any(has) {
                sought.set((what, found.wrapping_add(1)));
            }
        });
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
        // Zeroed, as `dealloc` may look at all of it.
        // SAFETY: the caller keeps to `GlobalAlloc`'s rules.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CountedHeap::count(layout.size().cast_signed().wrapping_neg());
        if SOUGHT.try_with(|sought| !sought.get().0.is_empty()).unwrap_or_default() {
            // SAFETY: the block has that length, had bytes from its allocation on, and nobody uses it any more.
            CountedHeap::look(unsafe { core::slice::from_raw_parts(block, layout.size()) });
        }
        // SAFETY: the block is one that `alloc` above got for this layout.
        unsafe { System.dealloc(block, layout) }
    }
}
