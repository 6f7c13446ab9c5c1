//! A device's page: its registers, and the requests that each queue has under way.

use super::{Unusable, checksum, load, store};
use crate::virtq::QUEUE_SIZE_MAX;
use kernel::SharedPage;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// "PFD", and the version of all that follows.
const MAGIC: u64 = 0x0001_4446_5000;
/// Queues of a record.
pub(crate) const QUEUES: usize = 8;
/// Bytes of configuration space.
pub(crate) const CONFIG_BYTES: usize = 72;
/// Words of the set of heads under way.
pub(crate) const WORDS: usize = QUEUE_SIZE_MAX as usize / 64;

const MAGIC_AT: usize = 0;
/// u32, odd while the set-up is being written.
const SEQUENCE_AT: usize = 8;
const CHECKSUM_AT: usize = 16;
const SET_UP_AT: usize = 24;
const QUEUES_AT: usize = 1024;
const QUEUE_BYTES: usize = 192;
// Of a queue's record: u32 sequence, odd while it is being written; u32 next entry of the
// available ring; the heads under way, a bit each.
const QUEUE_SEQUENCE: usize = 0;
const QUEUE_NEXT_AVAIL: usize = 4;
const QUEUE_HEADS: usize = 8;

const _: () = assert!(SET_UP_AT + size_of::<SetUp>() <= QUEUES_AT);
const _: () = assert!(QUEUE_HEADS + WORDS * 8 <= QUEUE_BYTES);
const _: () = assert!(QUEUES_AT + QUEUES * QUEUE_BYTES <= 4096);

/// A queue's set-up registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct QueueSetUp {
    /// `QueueSize`.
    pub size: u32,
    /// `QueueReady`.
    pub ready: u32,
    /// `QueueDesc`.
    pub desc: u64,
    /// `QueueDriver`.
    pub driver: u64,
    /// `QueueDevice`.
    pub device: u64,
}

/// What the driver and the device have agreed on. `InterruptStatus` is not part of it: after
/// a restart the driver is interrupted for every reason there is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SetUp {
    /// Features that were offered.
    pub features: u64,
    /// `DriverFeatures`.
    pub driver_features: u64,
    /// `Status`.
    pub status: u32,
    /// `DeviceFeaturesSel`.
    pub device_features_sel: u32,
    /// `DriverFeaturesSel`.
    pub driver_features_sel: u32,
    /// A feature beyond bit 63 was asked for.
    pub foreign_features: u32,
    /// `QueueSel`.
    pub queue_sel: u32,
    /// `ConfigGeneration`.
    pub config_generation: u32,
    /// The driver may not know the configuration as it is.
    pub config_news: u32,
    /// A write is flushed before it is answered.
    pub write_through: u32,
    /// Queues that the device has.
    pub queue_count: u64,
    /// The queues' registers.
    pub queues: [QueueSetUp; QUEUES],
    /// The configuration space.
    pub config: [u8; CONFIG_BYTES],
}

/// The journal of one device.
#[derive(Clone, Debug)]
pub struct DeviceJournal {
    page: SharedPage,
}

impl DeviceJournal {
    /// In a page that outlives a restart.
    #[must_use]
    pub fn new(page: SharedPage) -> DeviceJournal {
        DeviceJournal { page }
    }

    /// Writes the set-up down.
    pub fn save(&self, set_up: &SetUp) {
        let sequence: u32 = load(&self.page, SEQUENCE_AT);
        store(&self.page, SEQUENCE_AT, sequence | 1);
        store(&self.page, CHECKSUM_AT, checksum(set_up.as_bytes()));
        let written = self.page.write(SET_UP_AT, set_up.as_bytes());
        debug_assert!(written.is_ok());
        store(&self.page, MAGIC_AT, MAGIC);
        store(&self.page, SEQUENCE_AT, (sequence | 1).wrapping_add(1));
    }

    /// Reads the set-up.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn load(&self) -> Result<SetUp, Unusable> {
        if load::<u64>(&self.page, MAGIC_AT) != MAGIC {
            return Err(Unusable::Unknown);
        }
        if load::<u32>(&self.page, SEQUENCE_AT) & 1 != 0 {
            return Err(Unusable::Torn);
        }
        let mut set_up = SetUp::new_zeroed();
        self.page.read(SET_UP_AT, set_up.as_mut_bytes()).map_err(|_| Unusable::Nonsense)?;
        if load::<u64>(&self.page, CHECKSUM_AT) != checksum(set_up.as_bytes()) {
            return Err(Unusable::Checksum);
        }
        Ok(set_up)
    }

    /// The record of queue `index`.
    #[must_use]
    pub fn queue(&self, index: usize) -> Option<QueueJournal> {
        (index < QUEUES).then(|| QueueJournal {
            page: self.page.clone(),
            base: QUEUES_AT.saturating_add(index.saturating_mul(QUEUE_BYTES)),
        })
    }
}

/// The journal of one queue.
#[derive(Clone, Debug)]
pub struct QueueJournal {
    page: SharedPage,
    base: usize,
}

impl QueueJournal {
    fn at(&self, offset: usize) -> usize {
        self.base.saturating_add(offset)
    }

    fn word(&self, index: usize) -> usize {
        self.at(QUEUE_HEADS.saturating_add(index.saturating_mul(8)))
    }

    /// Runs `change` between two changes of the sequence number.
    fn update(&self, change: impl FnOnce()) {
        let at = self.at(QUEUE_SEQUENCE);
        let sequence: u32 = load(&self.page, at);
        store(&self.page, at, sequence | 1);
        change();
        store(&self.page, at, (sequence | 1).wrapping_add(1));
    }

    /// The queue starts: nothing is under way.
    pub(crate) fn start(&self) {
        self.update(|| {
            store(&self.page, self.at(QUEUE_NEXT_AVAIL), 0u32);
            (0..WORDS).for_each(|index| store(&self.page, self.word(index), 0u64));
        });
    }

    /// `head` was taken, and `next_avail` is the next entry of the available ring. Added to
    /// what stands here: heads that were used stay until the driver can see it.
    pub(crate) fn taken(&self, head: u16, next_avail: u16) {
        let at = self.word(usize::from(head / 64).min(WORDS.saturating_sub(1)));
        let word = load::<u64>(&self.page, at) | 1u64.wrapping_shl(u32::from(head % 64));
        self.update(|| {
            store(&self.page, at, word);
            store(&self.page, self.at(QUEUE_NEXT_AVAIL), u32::from(next_avail));
        });
    }

    /// The driver can see what was used: this is under way still. Only words that may have
    /// changed need to be there.
    pub(crate) fn used(&self, heads: &[u64]) {
        self.update(|| {
            for (index, &word) in heads.iter().enumerate().take(WORDS) {
                // Most words stay as they are, and a load is cheaper than an ordered store.
                if load::<u64>(&self.page, self.word(index)) != word {
                    store(&self.page, self.word(index), word);
                }
            }
        });
    }

    /// What was under way: the next entry of the available ring, and the heads.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(crate) fn load(&self) -> Result<(u16, [u64; WORDS]), Unusable> {
        if load::<u32>(&self.page, self.at(QUEUE_SEQUENCE)) & 1 != 0 {
            return Err(Unusable::Torn);
        }
        let next_avail = load::<u32>(&self.page, self.at(QUEUE_NEXT_AVAIL));
        let mut heads = [0; WORDS];
        for (index, word) in heads.iter_mut().enumerate() {
            *word = load(&self.page, self.word(index));
        }
        Ok((u16::try_from(next_avail).map_err(|_| Unusable::Nonsense)?, heads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (SharedPage, DeviceJournal) {
        let page = SharedPage::alloc().expect("host memory");
        (page.clone(), DeviceJournal::new(page))
    }

    fn set_up() -> SetUp {
        SetUp { features: 7, status: 0xf, queue_count: 2, ..SetUp::new_zeroed() }
    }

    #[test]
    fn a_set_up_is_read_as_it_was_written() {
        let (_, journal) = journal();
        assert_eq!(journal.load(), Err(Unusable::Unknown));
        journal.save(&set_up());
        journal.save(&SetUp { queue_sel: 3, ..set_up() });
        assert_eq!(journal.load(), Ok(SetUp { queue_sel: 3, ..set_up() }));
    }

    #[test]
    fn every_changed_bit_of_a_set_up_is_noticed() {
        let (page, journal) = journal();
        journal.save(&set_up());
        for at in 0..SET_UP_AT + size_of::<SetUp>() {
            for bit in 0..8 {
                let byte: u8 = load(&page, at);
                store(&page, at, byte ^ (1 << bit));
                let read = journal.load();
                // Bits of the sequence number beyond the lowest mean nothing; there is room behind it.
                let counts = !(SEQUENCE_AT..CHECKSUM_AT).contains(&at) || (at == SEQUENCE_AT && bit == 0);
                assert_eq!(read.is_err(), counts, "byte {at}, bit {bit}");
                store(&page, at, byte);
            }
        }
    }

    #[test]
    fn a_half_written_record_is_torn() {
        let (page, journal) = journal();
        journal.save(&set_up());
        let queue = journal.queue(1).expect("one of eight");
        queue.start();
        assert_eq!(queue.load(), Ok((0, [0; WORDS])));
        queue.taken(2 * 64 + 4, 1);
        assert_eq!(queue.load().map(|(next, heads)| (next, heads[2])), Ok((1, 0x10)));
        store(&page, QUEUES_AT + QUEUE_BYTES, 1u32);
        assert_eq!(queue.load(), Err(Unusable::Torn));
        assert!(journal.load().is_ok(), "the other records are not concerned");
        assert!(journal.queue(8).is_none());
    }
}
