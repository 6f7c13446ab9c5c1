//! A queue, as an incarnation leaves it to the next: the requests that are under way.

use super::fault::QueueFault;
use super::heads::{HEAD_WORDS, HeadSet};
use super::layout::{Layout, UsedElem};
use crate::guest_mem::GuestMemory;
use crate::journal::{JournalError, Words};
use kernel::{Order, SharedPage};
use zerocopy::{FromZeros, IntoBytes};

/// Word of the next entry of the available ring.
const NEXT_AVAIL: usize = 0;
/// First word of the heads under way, a bit each.
const HEADS: usize = 1;

/// What a queue's journal holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QueueState {
    /// Next entry of the available ring to take.
    pub next_avail: u16,
    /// Heads that were taken and, as far as the journal knows, not returned.
    pub heads: HeadSet,
}

impl QueueState {
    /// Removes the heads that the used ring shows as returned. The rest has to be done again.
    /// Returns `used.idx`.
    ///
    /// # Errors
    /// [`QueueFault`] if that and the used ring, which the driver may have written to, do not
    /// agree.
    pub(super) fn settle(&mut self, layout: &Layout, mem: &dyn GuestMemory) -> Result<u16, QueueFault> {
        let taken = u16::try_from(self.heads.iter().count()).unwrap_or(u16::MAX);
        let used_idx = mem.load_u16(layout.used_idx(), Order::AcqRel)?;
        // The journal is written after used.idx: some of the heads may be done already, and
        // those are the last that the used ring names.
        let done = used_idx.wrapping_sub(self.next_avail.wrapping_sub(taken));
        if taken > layout.size() || done > taken {
            return Err(QueueFault::UsedChanged);
        }
        for back in 1..=done {
            let mut elem = UsedElem::new_zeroed();
            mem.read(layout.used_ring(used_idx.wrapping_sub(back)), elem.as_mut_bytes())?;
            let head = u16::try_from(elem.id.get()).map_err(|_| QueueFault::UsedChanged)?;
            if !self.heads.remove(head) {
                return Err(QueueFault::UsedChanged);
            }
        }
        // A head outside of the table is no chain of this queue.
        if self.heads.iter().any(|head| head >= layout.size()) {
            return Err(QueueFault::UsedChanged);
        }
        Ok(used_idx)
    }
}

/// The journal of one queue.
#[derive(Clone, Debug)]
pub struct QueueJournal(Words);

impl QueueJournal {
    /// Bytes that it takes of its page.
    pub const BYTES: usize = Words::bytes(HEADS + HEAD_WORDS);

    /// In `page`, which outlives a restart, from byte `base` on.
    #[must_use]
    pub const fn new(page: SharedPage, base: usize) -> QueueJournal {
        QueueJournal(Words::new(page, base))
    }

    /// The queue starts: nothing is under way.
    pub(super) fn start(&self) {
        self.0.update(|words| {
            words.set(NEXT_AVAIL, 0);
            (0..HEAD_WORDS).for_each(|index| words.set(HEADS.saturating_add(index), 0));
        });
    }

    /// `head` was taken, and `next_avail` is the next entry of the available ring. Added to
    /// what stands here: heads that were used stay until the driver can see it.
    pub(super) fn taken(&self, head: u16, next_avail: u16) {
        let at = HEADS.saturating_add(usize::from(head / 64).min(HEAD_WORDS.saturating_sub(1)));
        let word = self.0.get(at) | 1u64.wrapping_shl(u32::from(head % 64));
        self.0.update(|words| {
            words.set(at, word);
            words.set(NEXT_AVAIL, u64::from(next_avail));
        });
    }

    /// The driver can see what was used: `heads` are under way still, all below `size`.
    pub(super) fn used(&self, heads: &HeadSet, size: u16) {
        self.0.update(|words| {
            for (index, &word) in heads.0.iter().enumerate().take(usize::from(size).div_ceil(64)) {
                let at = HEADS.saturating_add(index);
                // Most words stay as they are, and a load is cheaper than an ordered store.
                if self.0.get(at) != word {
                    words.set(at, word);
                }
            }
        });
    }

    /// What was under way.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn load(&self) -> Result<QueueState, JournalError> {
        self.0.check()?;
        let next_avail = u16::try_from(self.0.get(NEXT_AVAIL)).map_err(|_| JournalError::Corrupt)?;
        let mut heads = HeadSet::default();
        for (index, word) in heads.0.iter_mut().enumerate() {
            *word = self.0.get(HEADS.saturating_add(index));
        }
        Ok(QueueState { next_avail, heads })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_read_as_it_was_written() {
        let queue = QueueJournal::new(SharedPage::alloc().expect("host memory"), 192);
        queue.start();
        assert_eq!(queue.load(), Ok(QueueState::default()));
        queue.taken(2 * 64 + 4, 1);
        assert_eq!(queue.load().map(|state| (state.next_avail, state.heads.0[2])), Ok((1, 0x10)));
        queue.used(&HeadSet::default(), 256);
        assert_eq!(queue.load(), Ok(QueueState { next_avail: 1, heads: HeadSet::default() }));
    }
}
