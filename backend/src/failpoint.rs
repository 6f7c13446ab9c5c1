//! Bugs on demand, for tests of what happens after one. Without the feature
//! `crash-on-demand`, which no shipped image has, there is nothing here.

/// Places where a test may want the stub to panic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Point {
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

#[cfg(not(feature = "crash-on-demand"))]
#[inline]
pub(crate) fn point(_point: Point) {}

#[cfg(feature = "crash-on-demand")]
pub use on_demand::arm;
#[cfg(feature = "crash-on-demand")]
pub(crate) use on_demand::point;

#[cfg(feature = "crash-on-demand")]
#[expect(clippy::panic, reason = "that is what it is for")]
mod on_demand {
    use super::Point;
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// How often a point is passed before the bug, one for each; 0: never.
    static LEFT: [AtomicU32; 5] = [const { AtomicU32::new(0) }; 5];

    fn left(point: Point) -> Option<&'static AtomicU32> {
        LEFT.get(point as usize)
    }

    /// Panics at the `passes`-th time that `point` is passed from now on.
    pub fn arm(point: Point, passes: u32) {
        if let Some(left) = left(point) {
            left.store(passes, Relaxed);
        }
    }

    pub(crate) fn point(point: Point) {
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
