//! How many requests go one way at once.
//!
//! Each event (an interrupt and its two register accesses, a notification, an event for the
//! backend) costs several times what a request does, so with many requests under way a batch
//! shares one. How large it is follows from what the driver keeps outstanding: it never waits
//! for more than there can be, and with few outstanding it is 1. What is held back is bounded
//! in time ([`super::nap`]).

/// The largest batch.
const BATCH_MAX: u32 = 32;
/// Outstanding requests below which nothing is held back.
const DEEP: u32 = 4;
/// Mean data of a request from which on a batch is only half of what is outstanding: the other
/// half keeps the backend busy while the data of this one is copied.
const LARGE_BYTES: u64 = 32 << 10;
/// And from which on each goes alone: an event is little beside so much data.
const HUGE_BYTES: u64 = 256 << 10;
/// Rests with requests in between after which the depth is believed to be one less, unless it is
/// seen again.
const FORGET: u32 = 8;
/// A batch is waited for no longer than this.
const WAIT_MAX_NS: u64 = 10_000_000;
/// And with less outstanding than so many, no longer than this.
const SMALL_DEPTH: u32 = 6;
const SMALL_WAIT_MAX_NS: u64 = 2_000_000;

/// What the driver keeps outstanding, as far as seen lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    depth: u32,
    rests: u32,
    /// A request was taken since the last rest.
    active: bool,
    mean_bytes: u64,
}

impl Batch {
    /// So many requests are outstanding now.
    pub(super) fn note_depth(&mut self, outstanding: u32) {
        self.depth = self.depth.max(outstanding);
    }

    /// A request with so much data was taken.
    pub(super) fn note_request(&mut self, data_bytes: u64) {
        self.active = true;
        self.mean_bytes = (self.mean_bytes.saturating_mul(7).saturating_add(data_bytes)) / 8;
    }

    /// The stub is about to rest. Between two requests of this driver it may rest often, for
    /// other disks.
    pub(super) fn note_rest(&mut self) {
        if !core::mem::take(&mut self.active) {
            return;
        }
        self.rests = self.rests.wrapping_add(1);
        if self.rests.is_multiple_of(FORGET) {
            self.depth = self.depth.saturating_sub(1);
        }
    }

    /// Time was up before a batch was complete: the driver keeps less outstanding, or things go
    /// slowly for once. In the latter case the true depth is soon seen again.
    pub(super) fn note_late(&mut self) {
        self.depth = self.depth.saturating_sub(self.depth.div_ceil(4));
    }

    /// Time was up and the driver had brought nothing at all: what it had to do is done.
    pub(super) fn note_nothing(&mut self) {
        self.depth = 0;
    }

    /// How long a batch may be waited for.
    pub(super) const fn wait_max_ns(&self) -> u64 {
        if self.depth < SMALL_DEPTH { SMALL_WAIT_MAX_NS } else { WAIT_MAX_NS }
    }

    /// Requests in a batch, at least 1.
    pub(super) fn size(&self) -> u32 {
        match self.depth {
            0..DEEP => 1,
            _ if self.mean_bytes >= HUGE_BYTES => 1,
            depth if self.mean_bytes >= LARGE_BYTES => (depth / 2).min(BATCH_MAX / 2),
            depth => depth.min(BATCH_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_requests_are_not_held_back() {
        let mut batch = Batch::default();
        assert_eq!(batch.size(), 1);
        batch.note_depth(DEEP - 1);
        assert_eq!(batch.size(), 1);
        batch.note_depth(DEEP);
        assert_eq!(batch.size(), DEEP);
    }

    #[test]
    fn many_make_a_bounded_batch_large_ones_half_of_it_and_huge_ones_none() {
        let mut batch = Batch::default();
        batch.note_depth(8);
        assert_eq!(batch.size(), 8);
        (0..32).for_each(|_| batch.note_request(64 << 10));
        assert_eq!(batch.size(), 4);
        batch.note_depth(u32::MAX);
        assert_eq!(batch.size(), BATCH_MAX / 2);
        (0..32).for_each(|_| batch.note_request(1 << 20));
        assert_eq!(batch.size(), 1);
        (0..99).for_each(|_| batch.note_request(512));
        assert_eq!(batch.size(), BATCH_MAX);
    }

    #[test]
    fn the_depth_is_forgotten_slowly() {
        let mut batch = Batch::default();
        batch.note_depth(16);
        let rest = |batch: &mut Batch, count: u32, request: bool| {
            for _ in 0..count {
                if request {
                    batch.note_request(512);
                }
                batch.note_rest();
            }
        };
        rest(&mut batch, FORGET * 4, true);
        assert_eq!(batch.size(), 12);
        rest(&mut batch, FORGET * 99, false);
        assert_eq!(batch.size(), 12, "others had requests, this disk had none");
        rest(&mut batch, FORGET * 99, true);
        assert_eq!(batch.size(), 1);
    }

    #[test]
    fn a_batch_that_does_not_come_is_soon_not_waited_for() {
        let mut batch = Batch::default();
        batch.note_depth(16);
        (0..7).for_each(|_| batch.note_late());
        assert_eq!(batch.size(), 1);
        (0..9).for_each(|_| batch.note_late());
        assert_eq!(batch.size(), 1);
        batch.note_depth(16);
        assert_eq!((batch.size(), batch.wait_max_ns()), (16, WAIT_MAX_NS));
        batch.note_nothing();
        assert_eq!((batch.size(), batch.wait_max_ns()), (1, SMALL_WAIT_MAX_NS));
    }
}
