//! What the other end may hold in a volatile cache, and what of it no flush reaches any more.

/// Counts of writes. What is one write is the engine's choice: a request, or a piece of one.
#[derive(Default)]
pub(in crate::storage) struct Cache {
    /// Writes and discards completed so far.
    completed: u64,
    /// How many of them a flush has made durable.
    durable: u64,
    /// Of so many some were lost with their cache: a flush that covers them has to fail.
    lost: Option<u64>,
}

impl Cache {
    /// What a flush that is submitted now makes durable.
    pub(in crate::storage) fn completed(&self) -> u64 {
        self.completed
    }

    /// How many of them a flush has made durable.
    #[cfg(feature = "nbd")]
    pub(in crate::storage) fn durable(&self) -> u64 {
        self.durable
    }

    /// A write has been done: a flush that is submitted now covers it.
    pub(in crate::storage) fn note_written(&mut self) {
        self.completed = self.completed.saturating_add(1);
    }

    /// A flush has been done; `covers`: what was completed when it was submitted.
    pub(in crate::storage) fn note_flushed(&mut self, covers: u64) {
        self.durable = self.durable.max(covers);
    }

    /// Whether something was completed since the last flush.
    pub(in crate::storage) fn is_dirty(&self) -> bool {
        self.completed > self.durable
    }

    /// Nothing makes durable what was completed so far.
    pub(in crate::storage) fn lose(&mut self) {
        self.lost = Some(self.completed);
        // It is told once: later flushes answer for later writes.
        self.durable = self.completed;
    }

    /// The guest learns that a flush failed which covers so many.
    pub(in crate::storage) fn note_told(&mut self, covers: u64) {
        self.lost = self.lost.filter(|&lost| covers < lost);
    }

    /// Whether a flush has to tell the guest.
    #[cfg(feature = "nbd")]
    pub(in crate::storage) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether a flush that comes now has to fail; one does.
    pub(in crate::storage) fn take_lost(&mut self) -> bool {
        self.lost.take().is_some()
    }
}
