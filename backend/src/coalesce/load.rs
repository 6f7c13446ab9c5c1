//! What is at the storage, and of which queues.

use alloc::boxed::Box;
use alloc::vec;

/// Requests at the storage. Those of a queue that was reset are orphans: they have no queue, and
/// still come back.
#[derive(Debug)]
pub(super) struct Load {
    /// Requests at the storage, by queue.
    by_queue: Box<[u32]>,
    /// One bit for each queue that has some. (A loop over all would be as long as the rest of this.)
    at_storage: u32,
    /// One bit for each queue for whose requests the driver was last signalled.
    in_last_batch: u32,
    orphans: u32,
    in_flight: u32,
}

impl Load {
    /// Nothing yet, of any of `queues`, 32 at most.
    pub(super) fn new(queues: u16) -> Load {
        let by_queue = vec![0; usize::from(queues)].into_boxed_slice();
        Load { by_queue, at_storage: 0, in_last_batch: 0, orphans: 0, in_flight: 0 }
    }

    /// The storage took a request of that queue.
    pub(super) fn add(&mut self, queue: usize) {
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(requests) = self.by_queue.get_mut(queue) {
            *requests = requests.saturating_add(1);
            self.at_storage |= bit(queue);
        }
    }

    /// One came back: of that queue, or an orphan.
    pub(super) fn remove(&mut self, queue: Option<usize>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(queue) = queue else {
            self.orphans = self.orphans.saturating_sub(1);
            return;
        };
        if let Some(requests) = self.by_queue.get_mut(queue) {
            *requests = requests.saturating_sub(1);
            if *requests == 0 {
                self.at_storage &= !bit(queue);
            }
        }
    }

    /// Whether the last batch that the driver was signalled had requests of that queue.
    pub(super) fn set_in_last_batch(&mut self, queue: usize, in_last_batch: bool) {
        if in_last_batch {
            self.in_last_batch |= bit(queue);
        } else {
            self.in_last_batch &= !bit(queue);
        }
    }

    /// The queue was reset.
    pub(super) fn make_orphans(&mut self, queue: usize) {
        if let Some(requests) = self.by_queue.get_mut(queue) {
            self.orphans = self.orphans.saturating_add(core::mem::take(requests));
        }
        self.at_storage &= !bit(queue);
        self.in_last_batch &= !bit(queue);
    }

    /// Requests at the storage, orphans included.
    pub(super) const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(super) const fn orphans(&self) -> u32 {
        self.orphans
    }

    /// One bit for each queue that the driver uses these days, so that its part of the next batch is
    /// to be expected.
    const fn active(&self) -> u32 {
        self.at_storage | self.in_last_batch
    }

    pub(super) fn is_active(&self, queue: usize) -> bool {
        self.active() & bit(queue) != 0
    }

    pub(super) const fn active_queues(&self) -> u32 {
        self.active().count_ones()
    }
}

fn bit(queue: usize) -> u32 {
    u32::try_from(queue).ok().and_then(|queue| 1u32.checked_shl(queue)).unwrap_or(0)
}
