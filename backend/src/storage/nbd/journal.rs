//! What of a disk outlives a restart in place: what the guest was told of it, and what became of its writes.

use crate::journal::{ENGINE_AT, JournalError, Record};
use crate::storage::{Discard, Geometry};
use kernel::SharedPage;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "PFN", and the version of all that follows.
const MAGIC: u64 = 0x0001_4e46_5000;

/// What becomes of writes that are completed and not flushed, if the stub restarts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unflushed {
    /// There are none.
    None,
    /// The server of the present connection has them.
    AtServer,
    /// Some are lost, or are kept by this incarnation alone: a flush has to tell.
    Lost,
}

impl Unflushed {
    const ALL: [Unflushed; 3] = [Unflushed::None, Unflushed::AtServer, Unflushed::Lost];
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct State {
    capacity_sectors: u64,
    block_size_bytes: u32,
    physical_block_size_bytes: u32,
    transfer_bytes: u32,
    max_write_zeroes_sectors: u32,
    discard_granularity_bytes: u32,
    discard_max_sectors: u32,
    read_only: u32,
    flush: u32,
    discard: u32,
    /// A place in [`Unflushed::ALL`].
    unflushed: u32,
}

/// The record of one disk, behind its device's in the same page.
#[derive(Debug)]
pub struct NbdJournal {
    record: Record<State, ENGINE_AT>,
    /// What stands there.
    saved: Option<State>,
}

impl NbdJournal {
    /// In a page that outlives a restart.
    #[must_use]
    pub fn new(page: SharedPage) -> NbdJournal {
        NbdJournal { record: Record::new(page, MAGIC), saved: None }
    }

    /// Writes it down, if it has changed.
    pub(super) fn save(&mut self, geometry: &Geometry, unflushed: Unflushed) {
        let discard = geometry.discard;
        let state = State {
            capacity_sectors: geometry.capacity_sectors,
            block_size_bytes: geometry.block_size_bytes,
            physical_block_size_bytes: geometry.physical_block_size_bytes,
            transfer_bytes: geometry.transfer_bytes,
            max_write_zeroes_sectors: geometry.max_write_zeroes_sectors,
            discard_granularity_bytes: discard.map_or(0, |discard| discard.granularity_bytes),
            discard_max_sectors: discard.map_or(0, |discard| discard.max_sectors),
            read_only: geometry.read_only.into(),
            flush: geometry.flush.into(),
            discard: discard.is_some().into(),
            unflushed: number(unflushed),
        };
        if self.saved != Some(state) {
            self.record.save(&state);
            self.saved = Some(state);
        }
    }

    /// Whether it says that a flush has to tell of lost writes.
    pub(super) fn says_lost(&self) -> bool {
        self.saved.is_some_and(|state| state.unflushed == number(Unflushed::Lost))
    }

    /// What the previous incarnation wrote.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(super) fn load(&mut self) -> Result<(Geometry, Unflushed), JournalError> {
        let state = self.record.load()?;
        let place = usize::try_from(state.unflushed).unwrap_or(usize::MAX);
        let unflushed = *Unflushed::ALL.get(place).ok_or(JournalError::Corrupt)?;
        self.saved = Some(state);
        let discard = (state.discard != 0).then_some(Discard {
            granularity_bytes: state.discard_granularity_bytes,
            max_sectors: state.discard_max_sectors,
            secure: false,
        });
        let geometry = Geometry {
            capacity_sectors: state.capacity_sectors,
            block_size_bytes: state.block_size_bytes,
            physical_block_size_bytes: state.physical_block_size_bytes,
            transfer_bytes: state.transfer_bytes,
            read_only: state.read_only != 0,
            flush: state.flush != 0,
            discard,
            max_write_zeroes_sectors: state.max_write_zeroes_sectors,
        };
        Ok((geometry, unflushed))
    }
}

fn number(unflushed: Unflushed) -> u32 {
    match unflushed {
        Unflushed::None => 0,
        Unflushed::AtServer => 1,
        Unflushed::Lost => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let page = SharedPage::alloc().expect("host memory");
        assert_eq!(NbdJournal::new(page.clone()).load(), Err(JournalError::Unknown));
        let discard = Discard { granularity_bytes: 4096, max_sectors: 9, secure: false };
        let geometry = Geometry {
            capacity_sectors: 1 << 40,
            block_size_bytes: 512,
            physical_block_size_bytes: 4096,
            transfer_bytes: 1 << 17,
            read_only: true,
            flush: true,
            discard: Some(discard),
            max_write_zeroes_sectors: 7,
        };
        let other = Geometry { read_only: false, flush: false, discard: None, ..geometry };
        for geometry in [geometry, other] {
            for unflushed in Unflushed::ALL {
                let mut journal = NbdJournal::new(page.clone());
                journal.save(&geometry, unflushed);
                assert_eq!(journal.says_lost(), unflushed == Unflushed::Lost);
                let mut next = NbdJournal::new(page.clone());
                assert_eq!(next.load(), Ok((geometry, unflushed)));
                assert_eq!(next.says_lost(), unflushed == Unflushed::Lost);
            }
        }
        let at = ENGINE_AT + Record::<State, ENGINE_AT>::BYTES - 4;
        page.store(at, 3u32, kernel::Order::AcqRel).expect("inside");
        assert_eq!(NbdJournal::new(page).load(), Err(JournalError::Checksum));
    }
}
