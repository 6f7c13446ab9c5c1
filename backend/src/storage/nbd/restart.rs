//! The disk after a restart in place of its stub: as after a lost connection, with the journal for a memory.
//!
//! The requests are the device's to do again. Of writes that were completed and not flushed the data was kept by the
//! previous incarnation, and is gone. But a server that did not restart meanwhile has them, as it had answered them:
//! so a flush is the first that it is asked for, before any request. Writes may be lost, and the guest's next flush
//! fails once, if
//!
//! - they were being done again, or waited for a connection, when the stub panicked;
//! - an attempt to connect fails, the export is another, or the connection ends before that flush is answered: the
//!   server may have been restarted;
//! - that flush fails;
//! - the server does not say that a flush covers other connections (`NBD_FLAG_CAN_MULTI_CONN`).
//!
//! What cannot be known: whether a server was restarted, and lost its cache, between the panic and the next
//! connection. The protocol has nothing by which to tell (docs/decisions/0013).

use super::journal::Unflushed;
use super::link::Link;
use super::{NbdDisk, NbdJournal, NbdOptions};
use crate::journal::JournalError;
use kernel::Hypervisor;
use net::Network;

/// Whether the guest can see all that it was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Settled {
    No,
    Yes,
}

impl<H: Hypervisor> NbdDisk<H> {
    /// Has the disk, which is new, write down what must outlive a restart.
    #[must_use]
    pub fn with_journal(mut self, journal: NbdJournal) -> NbdDisk<H> {
        self.journal = Some(journal);
        self.save(Settled::Yes);
        self
    }

    /// A disk that goes on where the previous incarnation's stopped. It has no connection yet.
    ///
    /// # Errors
    /// [`JournalError`] if the journal is not one of such a disk.
    pub fn resume(
        network: &Network<H>,
        mut options: NbdOptions,
        mut journal: NbdJournal,
    ) -> Result<NbdDisk<H>, JournalError> {
        let (geometry, unflushed) = journal.load()?;
        let secrets = options.secrets.take();
        let link = Link::new(network, options.server, options.export.clone(), secrets);
        let mut disk = NbdDisk::new(link, &options, geometry);
        disk.journal = Some(journal);
        if unflushed != Unflushed::None {
            // Of how many, nobody has to know.
            disk.cache.note_written();
            disk.inherited = true;
        }
        if unflushed == Unflushed::Lost {
            disk.lose_cache();
        }
        Ok(disk)
    }

    /// Asks for the flush that comes first.
    pub(super) fn flush_inherited(&mut self) {
        if self.inherited && self.link.is_up() && self.own_flush.is_none() {
            self.submit_own_flush();
            self.network().send_frames();
        }
    }

    /// The server that had writes of the previous incarnation may have been restarted.
    pub(super) fn disinherit(&mut self) {
        if self.inherited {
            self.lose_cache();
        }
    }

    /// Writes down what has changed. That a flush has to tell stands there until the guest can see that one did.
    pub(super) fn save(&mut self, settled: Settled) {
        let unflushed = if self.cache.is_lost() {
            Unflushed::Lost
        } else if !self.geometry.flush || !self.cache.is_dirty() {
            Unflushed::None
        } else if self.inherited || self.is_serving() {
            Unflushed::AtServer
        } else {
            Unflushed::Lost
        };
        let Some(journal) = &mut self.journal else { return };
        if settled == Settled::Yes || unflushed == Unflushed::Lost || !journal.says_lost() {
            journal.save(&self.geometry, unflushed);
        }
    }
}
