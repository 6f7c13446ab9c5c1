//! How many requests go one way at once.
//!
//! Each event (an interrupt and its two register accesses, a notification, an event for the
//! backend) costs several times what a request does, so with many requests under way a batch
//! shares one. How large it is follows from what the driver keeps outstanding: it never waits
//! for more than there can be, and with few outstanding it is 1. What is held back is bounded
//! in time by the stub's nap ([`crate::pace`]).

/// The largest batch.
const BATCH_MAX: u32 = 32;
/// Outstanding requests below which nothing is held back.
const DEEP: u32 = 4;
/// Mean data of a request from which on a batch is only half of what is outstanding: the other
/// half keeps the backend busy while the data of this one is copied.
const LARGE_BYTES: u64 = 32 << 10;
/// And from which on each goes alone: an event is little beside so much data.
const HUGE_BYTES: u64 = 256 << 10;
/// Rests after which the depth is believed to be one less, unless it is seen again.
const FORGET: u32 = 8;

/// What the driver keeps outstanding, as far as seen lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    depth: u32,
    rests: u32,
    mean_bytes: u64,
}

impl Batch {
    /// So many requests are outstanding now.
    pub(super) fn note_depth(&mut self, outstanding: u32) {
        self.depth = self.depth.max(outstanding);
    }

    /// A request with so much data was taken.
    pub(super) fn note_request(&mut self, data_bytes: u64) {
        self.mean_bytes = (self.mean_bytes.saturating_mul(7).saturating_add(data_bytes)) / 8;
    }

    /// The stub is about to rest.
    pub(super) fn note_rest(&mut self) {
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
        (0..FORGET * 4).for_each(|_| batch.note_rest());
        assert_eq!(batch.size(), 12);
        (0..FORGET * 99).for_each(|_| batch.note_rest());
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
    }
}
