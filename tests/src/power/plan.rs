//! What each record holds. It follows from the record's name, for the writer and the checker
//! alike.

use super::Version;
use super::stamp::mix;

/// Writers on the raw disk, each on slots of its own.
pub const RAW_WRITERS: u32 = 8;
/// Slots of a writer on the raw disk.
pub const RAW_SLOTS: u32 = 24;
/// Sectors of a slot: the longest write.
pub const SLOT_SECTORS: u32 = 128;
/// Sectors that the raw disk must have.
pub const RAW_SECTORS: u32 = RAW_WRITERS * RAW_SLOTS * SLOT_SECTORS;
/// Writers of files.
pub const FILE_WRITERS: u32 = 4;
/// Files of a writer.
pub const FILE_SLOTS: u32 = 12;

/// Sectors of 4096 bytes: the smallest write.
const BLOCK_SECTORS: u32 = 8;

/// A run of sectors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// The first one.
    pub first: u32,
    /// How many, at least one.
    pub count: u32,
}

struct Draw(u64);

impl Draw {
    fn new(writer: u32, version: Version) -> Self {
        Self(mix(u64::from(writer) ^ mix((u64::from(version.epoch) << 32) | u64::from(version.seq))))
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = mix(self.0);
        u32::try_from(self.0 % u64::from(bound)).unwrap_or(0)
    }
}

/// What a writer of the raw disk writes before its flush: one to four extents of 4 to 64 KiB.
#[must_use]
pub fn record(writer: u32, version: Version) -> Vec<Extent> {
    let mut draw = Draw::new(writer, version);
    let blocks = SLOT_SECTORS / BLOCK_SECTORS;
    let extents = 1 + draw.below(4);
    (0..extents)
        .map(|_| {
            let slot = writer * RAW_SLOTS + draw.below(RAW_SLOTS);
            let skip = draw.below(blocks);
            let count = 1 + draw.below(blocks - skip);
            Extent { first: slot * SLOT_SECTORS + skip * BLOCK_SECTORS, count: count * BLOCK_SECTORS }
        })
        .collect()
}

/// Which of its files a writer replaces by a record, and the new one's length in sectors.
#[must_use]
pub fn file(writer: u32, version: Version) -> (u32, u32) {
    let mut draw = Draw::new(writer, version);
    (draw.below(FILE_SLOTS), 1 + draw.below(SLOT_SECTORS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_keep_to_their_own_slots() {
        let slots = RAW_SLOTS * SLOT_SECTORS;
        for seq in 1..200 {
            for writer in 0..RAW_WRITERS {
                let record = record(writer, Version { epoch: 2, seq });
                assert!((1..=4).contains(&record.len()));
                for Extent { first, count } in record {
                    assert!((BLOCK_SECTORS..=SLOT_SECTORS).contains(&count));
                    assert!(first >= writer * slots && first + count <= (writer + 1) * slots);
                    assert_eq!(first / SLOT_SECTORS, (first + count - 1) / SLOT_SECTORS);
                }
            }
        }
    }
}
