//! What the other end may hold in a volatile cache, and what of it no flush reaches any more.

use crate::storage::Operation;

/// Counts of writes.
#[derive(Default)]
pub(in crate::storage) struct Cache {
    /// Writes and discards completed so far.
    completed: u64,
    /// How many of them a flush has made durable.
    durable: u64,
    /// Some were lost with their cache: the next flush has to fail.
    lost: bool,
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

    /// A request has been done; `covers`: for a flush, what was completed when it was submitted.
    pub(in crate::storage) fn note(&mut self, operation: Operation, covers: u64) {
        match operation {
            Operation::Read { .. } => {}
            Operation::Write { .. } | Operation::WriteZeroes { .. } | Operation::Discard { .. } => {
                self.completed = self.completed.saturating_add(1);
            }
            Operation::Flush => self.durable = self.durable.max(covers),
        }
    }

    /// A piece of a write has been done, before its request: a flush that is submitted now covers it.
    #[cfg(feature = "nbd")]
    pub(in crate::storage) fn note_piece(&mut self) {
        self.completed = self.completed.saturating_add(1);
    }

    /// Whether something was completed since the last flush.
    pub(in crate::storage) fn is_dirty(&self) -> bool {
        self.completed > self.durable
    }

    /// Nothing makes durable what was completed so far. `told`: a flush that is held tells the guest.
    pub(in crate::storage) fn lose(&mut self, told: bool) {
        self.lost = !told;
        // It is told once: later flushes answer for later writes.
        self.durable = self.completed;
    }

    /// Whether a flush has to fail; one does.
    pub(in crate::storage) fn take_lost(&mut self) -> bool {
        core::mem::take(&mut self.lost)
    }
}
