//! A device's page of the journal: its registers, and the requests that each queue has under way.

use crate::journal::{ENGINE_AT, JournalError, Record};
use crate::mmio::{STATE_QUEUES, TransportState};
use crate::virtq::QueueJournal;
use kernel::SharedPage;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "PFD", and the version of all that follows.
const MAGIC: u64 = 0x0002_4446_5000;
/// Where the queues' journals begin, and how far they are apart.
const QUEUES_AT: usize = 1024;
const QUEUE_BYTES: usize = 192;

const _: () = assert!(Record::<DeviceState>::BYTES <= QUEUES_AT);
const _: () = assert!(QueueJournal::BYTES <= QUEUE_BYTES && QUEUE_BYTES.is_multiple_of(8));
const _: () = assert!(QUEUES_AT + STATE_QUEUES * QUEUE_BYTES <= ENGINE_AT);

/// What a device has to know after a restart, apart from its requests.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DeviceState {
    /// Its registers.
    pub transport: TransportState,
    /// A write is flushed before it is answered.
    pub write_through: u64,
}

/// The journal of one device.
#[derive(Clone, Debug)]
pub struct DeviceJournal {
    page: SharedPage,
    state: Record<DeviceState>,
}

impl DeviceJournal {
    /// In a page that outlives a restart.
    #[must_use]
    pub fn new(page: SharedPage) -> DeviceJournal {
        DeviceJournal { state: Record::new(page.clone(), MAGIC), page }
    }

    /// Writes the state down.
    pub(super) fn save(&self, state: &DeviceState) {
        self.state.save(state);
    }

    /// Reads the state.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(super) fn load(&self) -> Result<DeviceState, JournalError> {
        self.state.load()
    }

    /// The journal of queue `index`.
    #[must_use]
    pub(super) fn queue(&self, index: usize) -> Option<QueueJournal> {
        let base = QUEUES_AT.saturating_add(index.saturating_mul(QUEUE_BYTES));
        (index < STATE_QUEUES).then(|| QueueJournal::new(self.page.clone(), base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;
    use kernel::Order;
    use zerocopy::FromZeros;

    fn journal() -> (SharedPage, DeviceJournal) {
        let page = SharedPage::alloc().expect("host memory");
        (page.clone(), DeviceJournal::new(page))
    }

    fn state(queue_sel: u32) -> DeviceState {
        let transport = TransportState {
            features: 7,
            status: 0xf,
            queue_count: 2,
            queue_sel,
            ..TransportState::new_zeroed()
        };
        DeviceState { transport, write_through: 1 }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let (_, journal) = journal();
        assert_eq!(journal.load(), Err(JournalError::Unknown));
        journal.save(&state(0));
        journal.save(&state(3));
        assert_eq!(journal.load(), Ok(state(3)));
    }

    #[test]
    fn every_changed_bit_of_a_state_is_noticed() {
        let (page, journal) = journal();
        journal.save(&state(0));
        let first =
            Record::<DeviceState>::BYTES - size_of::<DeviceState>() + offset_of!(DeviceState, transport);
        for at in first..Record::<DeviceState>::BYTES {
            for bit in 0..8 {
                let byte: u8 = page.load(at, Order::AcqRel).expect("inside");
                page.store(at, byte ^ (1 << bit), Order::AcqRel).expect("inside");
                assert_eq!(journal.load(), Err(JournalError::Checksum), "byte {at}, bit {bit}");
                page.store(at, byte, Order::AcqRel).expect("inside");
            }
        }
    }

    #[test]
    fn a_half_written_queue_is_torn() {
        let (page, journal) = journal();
        journal.save(&state(0));
        let queue = journal.queue(1).expect("one of eight");
        assert!(queue.load().is_ok());
        page.store(QUEUES_AT + QUEUE_BYTES, 1u32, Order::AcqRel).expect("inside");
        assert_eq!(queue.load(), Err(JournalError::Torn));
        assert!(journal.load().is_ok(), "the other records are not concerned");
        assert!(journal.queue(0).expect("one of eight").load().is_ok());
        assert!(journal.queue(8).is_none());
    }
}
