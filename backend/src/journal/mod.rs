//! What outlives a restart in place: enough to go on where the former life stopped.
//!
//! The journal lies in pages that the kernel keeps over a restart
//! (`kernel::restart::journal_page`): [`ServerJournal`] in one, a [`DeviceJournal`] for each
//! device in one more. The device model writes to it what has taken effect, in this order:
//!
//! - a register access: effect, journal, answer. Its slot is executed again if it was not
//!   answered; twice is the same as once.
//! - a request: taken from the available ring, journal, work. A head stands in the journal
//!   until the driver can see that it was used: `used.idx`, then journal. What lies between
//!   the two is told from `used.idx` itself. So a head that stands in the journal and was not
//!   used is done again from the start; its descriptors are the driver's and as they were.
//!
//! A panic comes between two statements of ours, not between two plain stores in a row; all
//! the same each record says whether it is whole. A journal is read as suspiciously as a
//! guest's memory: the bug that ended a life may have written anywhere. Set-up, written
//! rarely, has a checksum; the queues' records, written for each request, have to agree with
//! themselves and with the used ring.

mod device;
mod server;

pub(crate) use device::{CONFIG_BYTES, QUEUES, WORDS};
pub use device::{DeviceJournal, QueueJournal, QueueSetUp, SetUp};
pub use server::{ServerJournal, ServerState};

use core::fmt;
use kernel::{Order, SharedPage, Word};

/// Why a journal cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// Nothing was written there, or by another version.
    Unknown,
    /// The former life ended amid an update.
    Torn,
    /// Its checksum is wrong.
    Checksum,
    /// It holds what no life writes.
    Nonsense,
    /// It is about another guest or another disk than there is now.
    Changed,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unusable::Unknown => "the journal is empty or of another version",
            Unusable::Torn => "the journal was being written",
            Unusable::Checksum => "the journal's checksum is wrong",
            Unusable::Nonsense => "the journal holds nonsense",
            Unusable::Changed => "the guest or the disk is another than the journal's",
        })
    }
}

impl core::error::Error for Unusable {}

// Constant or checked, aligned offsets inside the page: neither fails.
fn load<W: Word + Default>(page: &SharedPage, offset: usize) -> W {
    page.load(offset, Order::AcqRel).unwrap_or_default()
}

fn store<W: Word>(page: &SharedPage, offset: usize, value: W) {
    let stored = page.store(offset, value, Order::AcqRel);
    debug_assert!(stored.is_ok());
}

/// FNV-1a. It guards against accidents, not against intent: nobody else can write here.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
