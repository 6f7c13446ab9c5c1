//! An engine's access to the data of the guest's requests.

use super::Ticket;
use crate::guest_mem::{GuestMemory, MemFault};
use crate::virtq::{ChainView, SegmentPool};
use core::fmt;
use core::ops::Range;
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

    /// Copies the bytes `part` of a write's data into `pages`.
    ///
    /// # Errors
    /// [`DataError`]; some of the data may have been copied then.
    pub fn gather<'p>(
        &self,
        ticket: &Ticket,
        part: Range<u64>,
        pages: impl Iterator<Item = &'p SharedPage>,
    ) -> Result<(), DataError> {
        Ok(self.view(ticket)?.readable(ticket.data.part(part)).read_pages(pages)?)
    }

    /// Copies `pages` into the bytes `part` of a read's data.
    ///
    /// # Errors
    /// [`DataError`]; some of the data may have been copied then.
    pub fn scatter<'p>(
        &self,
        ticket: &Ticket,
        part: Range<u64>,
        pages: impl Iterator<Item = &'p SharedPage>,
    ) -> Result<(), DataError> {
        Ok(self.view(ticket)?.writable(ticket.data.part(part)).write_pages(pages)?)
    }

    /// Copies a write's data, from `skip_bytes` on, into `dst`.
    ///
    /// # Errors
    /// [`DataError`]; some of the data may have been copied then.
    pub fn gather_bytes(&self, ticket: &Ticket, skip_bytes: u64, dst: &mut [u8]) -> Result<(), DataError> {
        self.view(ticket)?.readable(ticket.data.part(skip_bytes..u64::MAX)).read(dst)?;
        Ok(())
    }

    /// Copies `src` into a read's data, from `skip_bytes` on.
    ///
    /// # Errors
    /// [`DataError`]; some of the data may have been copied then.
    pub fn scatter_bytes(&self, ticket: &Ticket, skip_bytes: u64, src: &[u8]) -> Result<(), DataError> {
        self.view(ticket)?.writable(ticket.data.part(skip_bytes..u64::MAX)).write(src)?;
        Ok(())
    }

    /// The request's chain, while the guest still waits for it.
    fn view<'a>(&'a self, ticket: &'a Ticket) -> Result<ChainView<'a>, DataError> {
        let view = self.is_live(ticket).then(|| ChainView::new(&ticket.chain, self.pool, self.mem));
        view.ok_or(DataError::Orphan)
    }
}
