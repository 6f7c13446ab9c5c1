//! Bugs on demand, for tests of what happens after one. Without the feature
//! `failpoints`, which no shipped image has, there is nothing here.

/// Places where a test may want the stub to panic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failpoint {
    /// An access has taken effect, is not journalled yet, and has no answer.
    Access,
    /// An access has been journalled and has no answer.
    Answer,
    /// A chain has been taken from its queue.
    Taken,
    /// A request is over; the driver cannot see it yet.
    Finished,
    /// The driver can see it; the journal does not say so yet.
    Published,
}

#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn hit(_point: Failpoint) {}

#[cfg(feature = "failpoints")]
pub(crate) use on_demand::hit;
#[cfg(feature = "failpoints")]
pub use on_demand::set_failpoint;

#[cfg(feature = "failpoints")]
#[expect(clippy::panic, reason = "that is what it is for")]
mod on_demand {
    use super::Failpoint;
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// How often a point is passed before the bug, one for each; 0: never.
    static LEFT: [AtomicU32; 5] = [const { AtomicU32::new(0) }; 5];

    fn left(point: Failpoint) -> Option<&'static AtomicU32> {
        LEFT.get(point as usize)
    }

    /// Panics at the `passes`-th time that `point` is passed from now on.
    pub fn set_failpoint(point: Failpoint, passes: u32) {
        if let Some(left) = left(point) {
            left.store(passes, Relaxed);
        }
    }

    pub(crate) fn hit(point: Failpoint) {
        let Some(left) = left(point) else { return };
        match left.load(Relaxed) {
            0 => {}
            1 => {
                left.store(0, Relaxed);
                panic!("a bug on demand: {point:?}");
            }
            passes => left.store(passes.saturating_sub(1), Relaxed),
        }
    }
}
