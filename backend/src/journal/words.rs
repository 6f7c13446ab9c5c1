//! Words that are written one at a time, as often as for each request: too often for a checksum.

use super::{JournalError, load, store};
use kernel::SharedPage;

/// u32, odd while a word is being written.
const SEQUENCE_AT: usize = 0;
const FIRST_AT: usize = 8;

/// Some words of a page that outlives a restart.
#[derive(Clone, Debug)]
pub struct Words {
    page: SharedPage,
    base: usize,
}

impl Words {
    /// Bytes that `count` words take of their page.
    #[must_use]
    pub const fn bytes(count: usize) -> usize {
        FIRST_AT.saturating_add(count.saturating_mul(8))
    }

    /// The words in `page` from byte `base` on, a multiple of 8. The caller sees to it that there
    /// is room.
    #[must_use]
    pub const fn new(page: SharedPage, base: usize) -> Words {
        Words { page, base }
    }

    /// The word `index`.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        load(&self.page, self.at(index))
    }

    /// Has `change` write words, between two changes of the sequence number.
    #[inline]
    pub fn update(&self, change: impl FnOnce(Update<'_>)) {
        let at = self.base.saturating_add(SEQUENCE_AT);
        let sequence: u32 = load(&self.page, at);
        store(&self.page, at, sequence | 1);
        change(Update(self));
        store(&self.page, at, (sequence | 1).wrapping_add(1));
    }

    /// Whether the last update came to its end.
    ///
    /// # Errors
    /// [`JournalError::Torn`] if not.
    pub fn check(&self) -> Result<(), JournalError> {
        let sequence: u32 = load(&self.page, self.base.saturating_add(SEQUENCE_AT));
        if sequence & 1 == 0 { Ok(()) } else { Err(JournalError::Torn) }
    }

    fn at(&self, index: usize) -> usize {
        self.base.saturating_add(FIRST_AT).saturating_add(index.saturating_mul(8))
    }
}

/// The right to write words: there is an update under way.
#[derive(Debug)]
pub struct Update<'a>(&'a Words);

impl Update<'_> {
    /// Sets the word `index`.
    #[inline]
    pub fn set(&self, index: usize, word: u64) {
        store(&self.0.page, self.0.at(index), word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_did_not_end_is_noticed() {
        let page = SharedPage::alloc().expect("host memory");
        let words = Words::new(page.clone(), 64);
        words.update(|update| {
            update.set(2, 7);
            assert_eq!(words.check(), Err(JournalError::Torn), "as after a panic here");
        });
        assert_eq!((words.check(), words.get(2), words.get(1)), (Ok(()), 7, 0));
        store(&page, 64, 1u32);
        assert_eq!(words.check(), Err(JournalError::Torn));
    }
}
