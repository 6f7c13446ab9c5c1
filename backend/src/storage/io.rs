//! An engine's access to the data of the guest's requests.

use super::Ticket;
use crate::guest_mem::{GuestMemory, MemFault};
use crate::virtq::SegmentPool;
use core::fmt;
use kernel::SharedPage;

/// Why a request's data cannot be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DataError {
    /// The guest has no memory there.
    Memory(MemFault),
    /// The guest reset the request's queue: its buffers belong to the driver again.
    Orphan,
}

impl From<MemFault> for DataError {
    fn from(fault: MemFault) -> DataError {
        DataError::Memory(fault)
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataError::Memory(fault) => fault.fmt(f),
            DataError::Orphan => f.write_str("the request's queue was reset"),
        }
    }
}

impl core::error::Error for DataError {}

/// Reaches the guest's data of a request, for an engine.
pub struct Io<'a> {
    pub(crate) mem: &'a dyn GuestMemory,
    pub(crate) pool: &'a SegmentPool,
    /// The current epoch of each queue; a ticket of an older one is an orphan.
    pub(crate) epochs: &'a [u32],
}

impl Io<'_> {
    /// Whether the guest still waits for the request: its queue was not reset. The data of
    /// an orphan must not be touched; the methods here see to that.
    #[must_use]
    pub fn is_live(&self, ticket: &Ticket) -> bool {
        self.epochs.get(usize::from(ticket.queue)) == Some(&ticket.epoch)
    }

    /// Copies `len_bytes` of a write's data, from `skip_bytes` on, into `pages`.
    ///
    /// # Errors
    /// [`DataError`]; some of the data may have been copied then.
    pub fn gather<'p>(
        &self,
        ticket: &Ticket,
        skip_bytes: u64,
        len_bytes: u64,
        pages: impl Iterator<Item = &'p SharedPage>,
    ) -> Result<(), DataError> {
        self.check_live(ticket)?;
        Ok(ticket.data_out(self.pool, skip_bytes, len_bytes).read_pages(self.mem, pages)?)
    }

    /// Copies `pages` into `len_bytes` of a read's data, from `skip_bytes` on.
    ///
    /// # Errors
    /// [`DataError`]; some of the data may have been copied then.
    pub fn scatter<'p>(
        &self,
        ticket: &Ticket,
        skip_bytes: u64,
        len_bytes: u64,
        pages: impl Iterator<Item = &'p SharedPage>,
    ) -> Result<(), DataError> {
        self.check_live(ticket)?;
        Ok(ticket.data_in(self.pool, skip_bytes, len_bytes).write_pages(self.mem, pages)?)
    }

    /// Copies a write's data, from `skip_bytes` on, into `dst`.
    ///
    /// # Errors
    /// [`DataError`]; some of the data may have been copied then.
    pub fn gather_bytes(&self, ticket: &Ticket, skip_bytes: u64, dst: &mut [u8]) -> Result<(), DataError> {
        self.check_live(ticket)?;
        ticket.data_out(self.pool, skip_bytes, u64::MAX).read(self.mem, dst)?;
        Ok(())
    }

    /// Copies `src` into a read's data, from `skip_bytes` on.
    ///
    /// # Errors
    /// [`DataError`]; some of the data may have been copied then.
    pub fn scatter_bytes(&self, ticket: &Ticket, skip_bytes: u64, src: &[u8]) -> Result<(), DataError> {
        self.check_live(ticket)?;
        ticket.data_in(self.pool, skip_bytes, u64::MAX).write(self.mem, src)?;
        Ok(())
    }

    fn check_live(&self, ticket: &Ticket) -> Result<(), DataError> {
        if self.is_live(ticket) { Ok(()) } else { Err(DataError::Orphan) }
    }
}
