//! What is at the storage, and of which queues.

use alloc::boxed::Box;

/// One queue's part.
#[derive(Clone, Copy, Debug, Default)]
struct QueueLoad {
    /// Requests at the storage.
    in_flight: u32,
    /// The driver was last signalled for requests of this queue too.
    in_last_batch: bool,
}

impl QueueLoad {
    const fn is_active(self) -> bool {
        self.in_last_batch || self.in_flight > 0
    }
}

/// Requests at the storage. Those of a queue that was reset are orphans: they have no queue, and
/// still come back.
#[derive(Debug)]
pub(super) struct Load {
    queues: Box<[QueueLoad]>,
    orphans: u32,
    in_flight: u32,
}

impl Load {
    /// Nothing yet, of any of `queues`.
    pub(super) fn new(queues: u16) -> Load {
        let queues = core::iter::repeat_n(QueueLoad::default(), usize::from(queues)).collect();
        Load { queues, orphans: 0, in_flight: 0 }
    }

    /// The storage took a request of that queue.
    pub(super) fn add(&mut self, queue: usize) {
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(load) = self.queues.get_mut(queue) {
            load.in_flight = load.in_flight.saturating_add(1);
        }
    }

    /// One came back: of that queue, or an orphan.
    pub(super) fn remove(&mut self, queue: Option<usize>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match queue.and_then(|queue| self.queues.get_mut(queue)) {
            Some(load) => load.in_flight = load.in_flight.saturating_sub(1),
            None => self.orphans = self.orphans.saturating_sub(1),
        }
    }

    /// Whether the last batch that the driver was signalled had requests of that queue.
    pub(super) fn set_in_last_batch(&mut self, queue: usize, in_last_batch: bool) {
        if let Some(load) = self.queues.get_mut(queue) {
            load.in_last_batch = in_last_batch;
        }
    }

    /// The queue was reset.
    pub(super) fn make_orphans(&mut self, queue: usize) {
        if let Some(load) = self.queues.get_mut(queue) {
            let QueueLoad { in_flight, .. } = core::mem::take(load);
            self.orphans = self.orphans.saturating_add(in_flight);
        }
    }

    /// Requests at the storage, orphans included.
    pub(super) const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(super) const fn orphans(&self) -> u32 {
        self.orphans
    }

    /// Whether the driver uses the queue these days, so that its part of the next batch is to be
    /// expected.
    pub(super) fn is_active(&self, queue: usize) -> bool {
        self.queues.get(queue).is_some_and(|load| load.is_active())
    }

    pub(super) fn active_queues(&self) -> u32 {
        let active = self.queues.iter().filter(|load| load.is_active()).count();
        u32::try_from(active).unwrap_or(u32::MAX)
    }
}
