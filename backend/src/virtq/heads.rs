//! Heads of chains that are under way.

use super::layout::QUEUE_SIZE_MAX;

/// Words of a set.
pub const HEAD_WORDS: usize = QUEUE_SIZE_MAX as usize / 64;

/// A set of heads, a bit each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeadSet(pub(super) [u64; HEAD_WORDS]);

impl HeadSet {
    /// Adds `head`; false if it is there already, or beyond all queues.
    #[inline]
    pub fn insert(&mut self, head: u16) -> bool {
        match self.bit(head) {
            Some((word, bit)) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Takes `head` out; false if it is not there.
    #[inline]
    pub fn remove(&mut self, head: u16) -> bool {
        match self.bit(head) {
            Some((word, bit)) if *word & bit != 0 => {
                *word &= !bit;
                true
            }
            _ => false,
        }
    }

    /// The heads, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (0..QUEUE_SIZE_MAX).filter(|&head| self.contains(head))
    }

    fn contains(&self, head: u16) -> bool {
        let word = self.0.get(usize::from(head / 64)).copied().unwrap_or(0);
        word.wrapping_shr(u32::from(head % 64)) & 1 != 0
    }

    #[inline]
    fn bit(&mut self, head: u16) -> Option<(&mut u64, u64)> {
        let word = self.0.get_mut(usize::from(head / 64))?;
        Some((word, 1u64.wrapping_shl(u32::from(head % 64))))
    }
}
