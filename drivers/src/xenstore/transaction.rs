//! Several requests that take effect together or not at all.

use super::batch::{Answers, Ask};
use super::link::Xenstore;
use super::wire::decimal;
use super::{StoreError, StoreFault};
use alloc::vec::Vec;
use kernel::{Errno, Hypervisor};
use xen_pv_sys::io::xs_wire::{XS_TRANSACTION_END, XS_TRANSACTION_START};

/// How often a transaction is tried while others change the same nodes.
const MAX_TRIES: u32 = 32;

/// An open transaction; see [`Xenstore::transaction`].
pub struct Transaction<'a, H: Hypervisor> {
    store: &'a mut Xenstore<H>,
    tx_id: u32,
}

impl<H: Hypervisor> Transaction<'_, H> {
    /// As [`Xenstore::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.store.read_in(self.tx_id, path)
    }

    /// As [`Xenstore::batch`].
    ///
    /// # Errors
    /// As there.
    pub fn batch(&mut self, asks: &[Ask]) -> Result<Answers, StoreError> {
        self.store.batch_in(self.tx_id, asks)
    }

    /// As [`Xenstore::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.store.write_in(self.tx_id, path, value)
    }

    /// As [`Xenstore::rm`], but a node that does not exist is fine.
    ///
    /// # Errors
    /// As there.
    pub fn rm(&mut self, path: &str) -> Result<(), StoreError> {
        match self.store.rm_in(self.tx_id, path) {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}

impl<H: Hypervisor> Xenstore<H> {
    /// Runs `body` in a transaction and commits it if it succeeds; again from the start if
    /// somebody else changed the same nodes meanwhile.
    ///
    /// # Errors
    /// What `body` returns (the transaction is dropped then), or `EAGAIN` when too many
    /// tries collided.
    pub fn transaction<T>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_, H>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..MAX_TRIES {
            let answer = self.request(XS_TRANSACTION_START, 0, &[b"\0"])?;
            let tx_id = decimal(&answer).and_then(|id| u32::try_from(id).ok());
            let tx_id = tx_id.ok_or_else(|| self.die(StoreFault::Malformed))?;
            let outcome = body(&mut Transaction { store: self, tx_id });
            let verdict: &[u8] = if outcome.is_ok() { b"T\0" } else { b"F\0" };
            let ended = self.request(XS_TRANSACTION_END, tx_id, &[verdict]);
            match (outcome, ended) {
                (Err(error), _) => return Err(error),
                (Ok(value), Ok(_)) => return Ok(value),
                (Ok(_), Err(StoreError::Refused(Errno::EAGAIN))) => {}
                (Ok(_), Err(error)) => return Err(error),
            }
        }
        Err(StoreError::Refused(Errno::EAGAIN))
    }
}
