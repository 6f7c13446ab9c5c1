//! The incarnation after a panic: the image starts again in place, in the same domain.
//!
//! A stub that dies cannot be replaced (docs/decisions/0008): its ioreq server would stay, and
//! with it every vCPU that waits in it. But a stub that only met a bug of its own still has
//! all that Xen gave it: domid, rights over its guest, ioreq server, event channels. So the
//! panic path may start the image again in the place of ending the domain. Code and constants
//! are read-only and so intact; `.bss` and `.data` are made as at boot; the stack is empty.
//!
//! What outlives it lies in `.bss.kept`: the page tables, a few numbers here, and the
//! `journal_page`s, in which the device model writes down what it would need to go on.
//!
//! Others may still write to memory of the previous incarnation: blkback to granted
//! pages, Xen to the run state. So the heap has two halves, and each incarnation takes the one
//! that the previous one did not have. One may be followed by another once nobody has anything
//! of the one before it: `Xen::allow_restart` makes sure of that.
//!
//! With the option `restarts=0`, or without it, none of this happens.

#[cfg(not(target_os = "none"))]
use crate::mem::shared::SharedPage;
use core::ops::Range;

/// The most that `restarts=` may say.
pub const RESTARTS_MAX: u32 = 8;
/// Restarts are counted over this time: a bug that comes more often than allowed is not to
/// be lived with.
pub const WINDOW_NS: u64 = 600_000_000_000;
/// Pages that outlive a restart.
pub const JOURNAL_PAGES: usize = 12;
/// Bytes kept of what a panic said.
#[cfg(target_os = "none")]
const REASON_BYTES: usize = 200;

#[cfg(target_os = "none")]
pub(crate) use real::{
    Refused, allow_restart, grant_frames, keep_grant_frames, keep_slot, prepare, previous_page,
    previous_slots, set_previous_heap, start,
};
#[cfg(target_os = "none")]
pub use real::{incarnation, journal_page, last_panic};

/// Whether this is an incarnation after a panic.
#[cfg(target_os = "none")]
pub(crate) fn is_restarted() -> bool {
    incarnation() > 0
}

/// On a host there is no panic path.
#[cfg(not(target_os = "none"))]
pub(crate) const fn allow_restart() -> bool {
    false
}

/// On a host nothing ever restarts.
#[cfg(not(target_os = "none"))]
pub(crate) const fn is_restarted() -> bool {
    false
}

/// On a host there is no grant table to inherit.
#[cfg(not(target_os = "none"))]
pub(crate) const fn grant_frames() -> u32 {
    0
}

/// On a host there is no previous incarnation.
#[cfg(not(target_os = "none"))]
pub(crate) const fn previous_page(_address: u64) -> Option<SharedPage> {
    None
}

/// On a host nothing is kept.
#[cfg(not(target_os = "none"))]
pub(crate) const fn keep_grant_frames(_frames: u32) {}

/// On a host nothing was mapped before.
#[cfg(not(target_os = "none"))]
pub(crate) const fn previous_slots() -> u16 {
    0
}

/// On a host nothing is kept.
#[cfg(not(target_os = "none"))]
pub(crate) const fn keep_slot(_slot: u16) {}

/// The half of the heap's place that belongs to incarnation number `incarnation`.
#[cfg_attr(not(any(target_os = "none", test)), expect(dead_code, reason = "only the stub has a heap"))]
pub(crate) fn half(place: &Range<u64>, incarnation: u32) -> Range<u64> {
    const PAGE: u64 = 4096;
    let middle = (place.start + place.end.saturating_sub(place.start) / 2) / PAGE * PAGE;
    let middle = middle.max(place.start);
    if incarnation.is_multiple_of(2) { place.start..middle } else { middle..place.end }
}

/// Whether one more restart at `now_ns` is within `limit` for each [`WINDOW_NS`]; `earlier_ns`
/// is when the restart `limit` restarts before this one was, if there was one.
#[cfg_attr(not(any(target_os = "none", test)), expect(dead_code, reason = "only the stub panics so"))]
fn may_restart(limit: u32, now_ns: u64, earlier_ns: Option<u64>) -> bool {
    limit > 0 && earlier_ns.is_none_or(|earlier_ns| now_ns.saturating_sub(earlier_ns) > WINDOW_NS)
}

#[cfg(target_os = "none")]
mod real {
    use super::{JOURNAL_PAGES, REASON_BYTES, RESTARTS_MAX, may_restart};
    use crate::mem::shared::SharedPage;
    use crate::{arch, time};
    use alloc::string::String;
    use alloc::vec::Vec;
    use core::cell::UnsafeCell;
    use core::fmt::{self, Write};
    use core::ops::Range;
    use core::ptr::{NonNull, with_exposed_provenance_mut};
    use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

    /// Zero at boot, like all of `.bss.kept`. Atomics, so that a panic during an update leaves
    /// no borrow behind.
    struct Kept {
        dtb: AtomicU64,
        entry_counter: AtomicU64,
        /// Restarts so far.
        incarnation: AtomicU32,
        limit: AtomicU32,
        /// A panic now leads to a restart.
        allowed: AtomicBool,
        /// When the restarts were, the one that made incarnation `n` at `(n - 1) % RESTARTS_MAX`.
        restarted_ns: [AtomicU64; RESTARTS_MAX as usize],
        /// Frames of our grant table that are mapped.
        grant_frames: AtomicU32,
        /// Slots of the window onto the guest's memory in which something was ever mapped.
        window_slots: AtomicU32,
        reason: [AtomicU8; REASON_BYTES],
        reason_len: AtomicU32,
    }

    #[unsafe(link_section = ".bss.kept.numbers")]
    static KEPT: Kept = Kept {
        dtb: AtomicU64::new(0),
        entry_counter: AtomicU64::new(0),
        incarnation: AtomicU32::new(0),
        limit: AtomicU32::new(0),
        allowed: AtomicBool::new(false),
        restarted_ns: [const { AtomicU64::new(0) }; RESTARTS_MAX as usize],
        grant_frames: AtomicU32::new(0),
        window_slots: AtomicU32::new(0),
        reason: [const { AtomicU8::new(0) }; REASON_BYTES],
        reason_len: AtomicU32::new(0),
    };

    #[repr(C, align(4096))]
    struct Pages(UnsafeCell<[[u8; 4096]; JOURNAL_PAGES]>);

    // SAFETY: reached only through the `SharedPage`s of `journal_page`, by loads, stores and
    // copies; and there is one vCPU.
    unsafe impl Sync for Pages {}

    #[unsafe(link_section = ".bss.kept.journal")]
    static JOURNAL: Pages = Pages(UnsafeCell::new([[0; 4096]; JOURNAL_PAGES]));

    /// Notes at the begin of an incarnation where it began and how many may follow.
    pub(crate) fn start(dtb: u64, entry_counter: u64, limit: u32) {
        KEPT.allowed.store(false, Relaxed);
        KEPT.dtb.store(dtb, Relaxed);
        KEPT.entry_counter.store(entry_counter, Relaxed);
        KEPT.limit.store(limit.min(RESTARTS_MAX), Relaxed);
    }

    /// Where the previous incarnation had its heap. Not kept: each incarnation sets it again.
    static PREVIOUS_HEAP: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

    /// Notes where the previous incarnation had its heap, if there was one.
    pub(crate) fn set_previous_heap(range: &Range<u64>) {
        PREVIOUS_HEAP[0].store(range.start, Relaxed);
        PREVIOUS_HEAP[1].store(range.end, Relaxed);
    }

    /// The page at `address`, if it lies in the previous incarnation's heap.
    pub(crate) fn previous_page(address: u64) -> Option<SharedPage> {
        let [start, end] = [PREVIOUS_HEAP[0].load(Relaxed), PREVIOUS_HEAP[1].load(Relaxed)];
        if !address.is_multiple_of(4096) || address < start || address.saturating_add(4096) > end {
            return None;
        }
        let base = NonNull::new(with_exposed_provenance_mut(usize::try_from(address).ok()?))?;
        // SAFETY: page-aligned RAM, mapped as data at all times, of the half that this incarnation's heap
        // leaves alone; all that is reached there is reached through `SharedPage`s made here.
        Some(unsafe { SharedPage::from_mapped(base) })
    }

    /// How many times this stub was restarted.
    #[must_use]
    pub fn incarnation() -> u32 {
        KEPT.incarnation.load(Relaxed)
    }

    /// From now on a panic leads to a restart, if the limit allows it. Says whether it does
    /// at all. Nothing of the previous incarnation may be in use by anyone: only
    /// `Xen::allow_restart`, which makes sure of that, calls it.
    pub(crate) fn allow_restart() -> bool {
        let possible = KEPT.limit.load(Relaxed) > 0;
        KEPT.allowed.store(possible, Relaxed);
        possible
    }

    /// Page `index` of the memory that outlives a restart; zero at boot.
    #[must_use]
    pub fn journal_page(index: usize) -> Option<SharedPage> {
        if index >= JOURNAL_PAGES {
            return None;
        }
        let first = NonNull::new(JOURNAL.0.get())?.cast::<u8>();
        // SAFETY: the page lies in the static, page-aligned, mapped as data at all times, and is
        // reached only through `SharedPage`s made here.
        Some(unsafe { SharedPage::from_mapped(first.add(index * 4096)) })
    }

    /// What the panic said that ended the previous incarnation, in one line.
    #[must_use]
    pub fn last_panic() -> String {
        let len = KEPT.reason_len.load(Relaxed) as usize;
        let bytes: Vec<u8> = KEPT.reason.iter().take(len).map(|byte| byte.load(Relaxed)).collect();
        let plain = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { ' ' };
        bytes.iter().map(plain).collect()
    }

    pub(crate) fn grant_frames() -> u32 {
        KEPT.grant_frames.load(Relaxed)
    }

    pub(crate) fn keep_grant_frames(frames: u32) {
        KEPT.grant_frames.store(frames, Relaxed);
    }

    /// Slots of the window, the first ones, in which an earlier incarnation may have mapped anything.
    pub(crate) fn previous_slots() -> u16 {
        u16::try_from(KEPT.window_slots.load(Relaxed)).unwrap_or(u16::MAX)
    }

    /// Something is about to be mapped in this slot.
    pub(crate) fn keep_slot(slot: u16) {
        let slots = KEPT.window_slots.load(Relaxed).max(u32::from(slot) + 1);
        KEPT.window_slots.store(slots, Relaxed);
    }

    /// Keeps the first bytes of what is written.
    struct Reason;

    impl Write for Reason {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                let len = KEPT.reason_len.load(Relaxed);
                let Some(place) = KEPT.reason.get(len as usize) else { return Err(fmt::Error) };
                place.store(byte, Relaxed);
                KEPT.reason_len.store(len + 1, Relaxed);
            }
            Ok(())
        }
    }

    /// Why there is no restart.
    pub(crate) enum Refused {
        /// The configuration wants none, or this incarnation has not come far enough.
        NotAllowed,
        /// There were as many as the limit in the last [`WINDOW_NS`](super::WINDOW_NS).
        TooMany {
            /// That limit.
            limit: u32,
        },
    }

    /// A restart that is due. Only [`prepare`] makes one.
    pub(crate) struct Restart {
        number: u32,
    }

    impl Restart {
        /// Its number since boot, from 1.
        pub(crate) fn number(&self) -> u32 {
            self.number
        }

        /// Starts the image again.
        pub(crate) fn run(self) -> ! {
            let (dtb, entry_counter) = (KEPT.dtb.load(Relaxed), KEPT.entry_counter.load(Relaxed));
            // SAFETY: this incarnation ends here. What others may still write to (granted pages, the
            // run state) lies in its half of the heap, which the next incarnation does not use; what
            // Xen has mapped for it is unmapped by the next before it takes those frames
            // (`Physmap`, `foreign::Chunks`, `GrantTable`). That nobody uses the half which the next
            // incarnation takes is what `Xen::allow_restart` saw to before it allowed this, and only
            // what was allowed comes here (`prepare`).
            unsafe { arch::restart(dtb, entry_counter) }
        }
    }

    /// The panic path: notes `why` for the next incarnation, if there may be one.
    ///
    /// # Errors
    /// Why there may not.
    pub(crate) fn prepare(why: fmt::Arguments<'_>) -> Result<Restart, Refused> {
        // First of all: a bug on the way from here ends the domain.
        if !KEPT.allowed.swap(false, Relaxed) {
            return Err(Refused::NotAllowed);
        }
        let (incarnation, limit, now_ns) =
            (KEPT.incarnation.load(Relaxed), KEPT.limit.load(Relaxed), time::now_ns());
        let at = |incarnation: u32| KEPT.restarted_ns.get((incarnation % RESTARTS_MAX) as usize);
        let earlier = incarnation.checked_sub(limit).and_then(at).map(|at_ns| at_ns.load(Relaxed));
        if !may_restart(limit, now_ns, earlier) {
            return Err(Refused::TooMany { limit });
        }
        KEPT.reason_len.store(0, Relaxed);
        // Too long a reason is cut.
        let _ = Reason.write_fmt(why);
        if let Some(at_ns) = at(incarnation) {
            at_ns.store(now_ns, Relaxed);
        }
        let number = incarnation.saturating_add(1);
        KEPT.incarnation.store(number, Relaxed);
        Ok(Restart { number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_incarnations_in_a_row_share_no_page_of_the_heap() {
        let place = 0x4010_3000..0x4100_0000;
        let (even, odd) = (half(&place, 0), half(&place, 1));
        assert_eq!((even.start, odd.end), (place.start, place.end));
        assert_eq!(even.end, odd.start);
        assert!(even.end.is_multiple_of(4096));
        assert_eq!((half(&place, 2), half(&place, 7)), (even, odd));
    }

    #[test]
    fn as_many_restarts_as_allowed_within_the_time() {
        let now_ns = 5 * WINDOW_NS;
        assert!(!may_restart(0, now_ns, None));
        assert!(may_restart(3, now_ns, None), "too few yet");
        assert!(!may_restart(3, now_ns, Some(now_ns - WINDOW_NS)));
        assert!(may_restart(3, now_ns, Some(now_ns - WINDOW_NS - 1)), "long ago");
    }
}
