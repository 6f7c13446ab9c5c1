//! What the driver keeps outstanding, and so how many requests make a batch.

/// The largest batch, in requests.
pub(super) const BATCH_MAX: u32 = 32;
/// Outstanding requests below which nothing is held back: the driver may wait for each of them.
pub(super) const DEEP: u32 = 4;
/// Mean data of a request from which on a batch is only half of what is outstanding: the other half
/// keeps the storage backend busy while the data of this one is copied.
const LARGE_BYTES: u64 = 32 << 10;
/// And from which on each goes alone: an event is little beside so much data.
const HUGE_BYTES: u64 = 256 << 10;
/// Idle times with requests in between after which the depth is believed to be one less, unless
/// it is seen again.
const FORGET: u32 = 8;
/// A batch is waited for no longer than this.
pub(super) const WAIT_MAX_NS: u64 = 10_000_000;
/// Outstanding requests below which the bound is shorter: few come back soon, or not at all.
const SMALL_DEPTH: u32 = 6;
pub(super) const SMALL_WAIT_MAX_NS: u64 = 2_000_000;

/// The driver's queue depth, as far as seen lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Depth {
    requests: u32,
    idle_times: u32,
    /// A request was taken since the last idle time.
    active: bool,
    mean_bytes: u64,
}

impl Depth {
    /// That many requests are outstanding now.
    pub(super) fn on_outstanding(&mut self, requests: u32) {
        self.requests = self.requests.max(requests);
    }

    /// A request with that much data was taken.
    pub(super) fn on_request(&mut self, data_bytes: u64) {
        self.active = true;
        self.mean_bytes = (self.mean_bytes.saturating_mul(7).saturating_add(data_bytes)) / 8;
    }

    /// The stub is about to sleep.
    pub(super) fn on_idle(&mut self) {
        // Between two requests of this driver the stub may sleep often, for other disks: such
        // times say nothing of it.
        if !core::mem::take(&mut self.active) {
            return;
        }
        self.idle_times = self.idle_times.wrapping_add(1);
        if self.idle_times.is_multiple_of(FORGET) {
            self.requests = self.requests.saturating_sub(1);
        }
    }

    /// Time was up before a batch was complete: the driver keeps less outstanding, or the disk is
    /// slow for once. In the latter case the true depth is soon seen again.
    pub(super) fn on_timeout(&mut self) {
        self.requests = self.requests.saturating_sub(self.requests.div_ceil(4));
    }

    /// Time was up and the driver had brought nothing at all: its work is done.
    pub(super) fn on_starved(&mut self) {
        self.requests = 0;
    }

    /// How long a batch may be waited for.
    pub(super) const fn wait_max_ns(&self) -> u64 {
        if self.requests < SMALL_DEPTH { SMALL_WAIT_MAX_NS } else { WAIT_MAX_NS }
    }

    /// Requests in a batch, at least 1.
    pub(super) fn batch_size(&self) -> u32 {
        match self.requests {
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
        let mut depth = Depth::default();
        assert_eq!(depth.batch_size(), 1);
        depth.on_outstanding(DEEP - 1);
        assert_eq!(depth.batch_size(), 1);
        depth.on_outstanding(DEEP);
        assert_eq!(depth.batch_size(), DEEP);
    }

    #[test]
    fn many_make_a_bounded_batch_large_ones_half_of_it_and_huge_ones_none() {
        let mut depth = Depth::default();
        depth.on_outstanding(8);
        assert_eq!(depth.batch_size(), 8);
        (0..32).for_each(|_| depth.on_request(64 << 10));
        assert_eq!(depth.batch_size(), 4);
        depth.on_outstanding(u32::MAX);
        assert_eq!(depth.batch_size(), BATCH_MAX / 2);
        (0..32).for_each(|_| depth.on_request(1 << 20));
        assert_eq!(depth.batch_size(), 1);
        (0..99).for_each(|_| depth.on_request(512));
        assert_eq!(depth.batch_size(), BATCH_MAX);
    }

    #[test]
    fn the_depth_is_forgotten_slowly() {
        let mut depth = Depth::default();
        depth.on_outstanding(16);
        let idle = |depth: &mut Depth, count: u32, request: bool| {
            for _ in 0..count {
                if request {
                    depth.on_request(512);
                }
                depth.on_idle();
            }
        };
        idle(&mut depth, FORGET * 4, true);
        assert_eq!(depth.batch_size(), 12);
        idle(&mut depth, FORGET * 99, false);
        assert_eq!(depth.batch_size(), 12, "others had requests, this disk had none");
        idle(&mut depth, FORGET * 99, true);
        assert_eq!(depth.batch_size(), 1);
    }

    #[test]
    fn a_batch_that_does_not_come_is_soon_not_waited_for() {
        let mut depth = Depth::default();
        depth.on_outstanding(16);
        (0..7).for_each(|_| depth.on_timeout());
        assert_eq!(depth.batch_size(), 1);
        (0..9).for_each(|_| depth.on_timeout());
        assert_eq!(depth.batch_size(), 1);
        depth.on_outstanding(16);
        assert_eq!((depth.batch_size(), depth.wait_max_ns()), (16, WAIT_MAX_NS));
        depth.on_starved();
        assert_eq!((depth.batch_size(), depth.wait_max_ns()), (1, SMALL_WAIT_MAX_NS));
    }
}
