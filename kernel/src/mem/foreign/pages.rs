//! A set of the pages of one chunk.

/// Pages in a chunk and in a slot.
pub const CHUNK_PAGES: usize = 512;
const WORDS: usize = CHUNK_PAGES / 64;

/// Some of the pages 0 to 511 of a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageSet([u64; WORDS]);

impl PageSet {
    /// No page.
    pub const EMPTY: PageSet = PageSet([0; WORDS]);
    /// Every page.
    pub const ALL: PageSet = PageSet([u64::MAX; WORDS]);

    /// One page.
    #[must_use]
    pub fn one(page: usize) -> PageSet {
        let mut set = PageSet::EMPTY;
        set.insert(page);
        set
    }

    /// The aligned group of `len` pages, a power of two, that `page` is in.
    #[must_use]
    #[inline(never)]
    pub fn around(page: usize, len: usize) -> PageSet {
        let first = page & !len.saturating_sub(1);
        let mut set = PageSet::EMPTY;
        (first..first.saturating_add(len).min(CHUNK_PAGES)).for_each(|page| set.insert(page));
        set
    }

    /// How many pages are in the set.
    #[must_use]
    #[inline(never)]
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Adds every page of `other`.
    pub fn insert_all(&mut self, other: &PageSet) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    /// Whether `page` is in the set.
    #[must_use]
    pub fn contains(&self, page: usize) -> bool {
        self.0.get(page / 64).is_some_and(|word| word >> (page % 64) & 1 != 0)
    }

    /// Adds `page`; one that no chunk has is ignored.
    pub fn insert(&mut self, page: usize) {
        if let Some(word) = self.0.get_mut(page / 64) {
            *word |= 1 << (page % 64);
        }
    }

    /// Whether there is no page in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == PageSet::EMPTY
    }

    /// The pages of this set that are not in `other`.
    #[must_use]
    #[inline(never)]
    pub fn without(&self, other: &PageSet) -> PageSet {
        let mut set = *self;
        for (word, other) in set.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
        set
    }

    /// The pages that are in both sets.
    #[must_use]
    #[inline(never)]
    pub fn common(&self, other: &PageSet) -> PageSet {
        self.without(&self.without(other))
    }

    /// The `count` lowest pages of the set, or all if there are fewer.
    #[must_use]
    #[inline(never)]
    pub fn first(&self, count: usize) -> PageSet {
        let mut set = PageSet::EMPTY;
        self.iter().take(count).for_each(|page| set.insert(page));
        set
    }

    /// The pages in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..CHUNK_PAGES).filter(|&page| self.contains(page))
    }
}
