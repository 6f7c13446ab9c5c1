//! What outlives a restart in place: enough to go on where the incarnation before stopped.
//!
//! The journal lies in pages that the kernel keeps over a restart
//! (`kernel::restart::journal_page`). This module stores checked bytes and knows nothing of
//! what they mean; that is with their owners, each of whom has its state beside it:
//! [`crate::ioreq::ServerJournal`] in one page, and in one more for each device
//! [`crate::blk::DeviceJournal`], with [`crate::mmio::TransportState`] and a
//! [`crate::virtq::QueueJournal`] for each queue. They write down what has taken effect, in this
//! order:
//!
//! - a register access: effect, journal, answer. Its slot is executed again if it was not
//!   answered; twice is the same as once.
//! - a request: taken from the available ring, journal, work. A head stands in the journal
//!   until the driver can see that it was used: `used.idx`, then journal. What lies between
//!   the two is told from `used.idx` itself. So a head that stands in the journal and was not
//!   used is done again from the start; its descriptors are the driver's and as they were.
//!
//! Behind both lies what a storage engine has to know ([`ENGINE_AT`]).
//!
//! A panic comes between two statements of ours, not between two plain stores in a row; all
//! the same each record says whether it is whole. A journal is read as suspiciously as a
//! guest's memory: the bug that ended an incarnation may have written anywhere. What is written
//! seldom has a checksum ([`Record`]); the queues' words, written for each request, have to agree
//! with themselves and with the used ring ([`Words`]).

mod record;
mod words;

pub use record::Record;
pub use words::{Update, Words};

use core::fmt;
use kernel::{Order, SharedPage, Word};

/// Where in a device's page its storage engine's record begins, if it has one.
pub const ENGINE_AT: usize = 3072;

/// Why a journal cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JournalError {
    /// Nothing was written there, or by another version.
    Unknown,
    /// The incarnation before ended in the middle of an update.
    Torn,
    /// Its checksum is wrong.
    Checksum,
    /// It holds what nobody writes.
    Corrupt,
    /// It is about another guest or another disk than there is now.
    Changed,
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JournalError::Unknown => "the journal is empty or of another version",
            JournalError::Torn => "the journal was being written",
            JournalError::Checksum => "the journal's checksum is wrong",
            JournalError::Corrupt => "the journal is corrupt",
            JournalError::Changed => "the guest or the disk is another than the journal's",
        })
    }
}

impl core::error::Error for JournalError {}

// Constant or checked, aligned offsets inside the page: neither fails.
fn load<W: Word + Default>(page: &SharedPage, offset: usize) -> W {
    page.load(offset, Order::AcqRel).unwrap_or_default()
}

fn store<W: Word>(page: &SharedPage, offset: usize, value: W) {
    let stored = page.store(offset, value, Order::AcqRel);
    debug_assert!(stored.is_ok());
}
