//! The ioreq server's page: which it is, and the ports of the guest's vCPUs.

use super::{Unusable, checksum, load, store};
use crate::ioreq::MAX_VCPUS;
use alloc::vec::Vec;
use kernel::{DomId, IoservId, Port, SharedPage};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// "PFS", and the version of all that follows.
const MAGIC: u64 = 0x0001_5346_5000;
const PORTS: usize = MAX_VCPUS as usize;

const MAGIC_AT: usize = 0;
const CHECKSUM_AT: usize = 8;
const RECORD_AT: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Record {
    target: u32,
    id: u32,
    vcpus: u32,
    ports: [u32; PORTS],
}

/// An enabled ioreq server, as a former life left it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerState {
    /// The guest.
    pub target: DomId,
    /// The server.
    pub id: IoservId,
    /// Our port for each vCPU.
    pub ports: Vec<Port>,
}

/// The journal of the ioreq server.
#[derive(Clone, Debug)]
pub struct ServerJournal {
    page: SharedPage,
}

impl ServerJournal {
    /// In a page that outlives a restart.
    #[must_use]
    pub fn new(page: SharedPage) -> ServerJournal {
        ServerJournal { page }
    }

    /// Writes down a server that has just been enabled.
    pub fn save(&self, state: &ServerState) {
        let mut record = Record::new_zeroed();
        record.target = u32::from(state.target.0);
        record.id = u32::from(state.id.0);
        record.vcpus = u32::try_from(state.ports.len()).unwrap_or(u32::MAX);
        for (to, from) in record.ports.iter_mut().zip(&state.ports) {
            *to = from.0;
        }
        let written = self.page.write(RECORD_AT, record.as_bytes());
        debug_assert!(written.is_ok());
        store(&self.page, CHECKSUM_AT, checksum(record.as_bytes()));
        store(&self.page, MAGIC_AT, MAGIC);
    }

    /// Reads what [`ServerJournal::save`] wrote.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn load(&self) -> Result<ServerState, Unusable> {
        if load::<u64>(&self.page, MAGIC_AT) != MAGIC {
            return Err(Unusable::Unknown);
        }
        let mut record = Record::new_zeroed();
        self.page.read(RECORD_AT, record.as_mut_bytes()).map_err(|_| Unusable::Nonsense)?;
        if load::<u64>(&self.page, CHECKSUM_AT) != checksum(record.as_bytes()) {
            return Err(Unusable::Checksum);
        }
        let narrow = |number: u32| u16::try_from(number).map_err(|_| Unusable::Nonsense);
        let vcpus = usize::try_from(record.vcpus).unwrap_or(usize::MAX);
        let ports = record.ports.get(..vcpus).ok_or(Unusable::Nonsense)?;
        Ok(ServerState {
            target: DomId(narrow(record.target)?),
            id: IoservId(narrow(record.id)?),
            ports: ports.iter().copied().map(Port).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_as_it_was_written_or_not_at_all() {
        let page = SharedPage::alloc().expect("host memory");
        let journal = ServerJournal::new(page.clone());
        assert_eq!(journal.load(), Err(Unusable::Unknown));
        let state = ServerState { target: DomId(7), id: IoservId(1), ports: [3, 4].map(Port).into() };
        journal.save(&state);
        assert_eq!(journal.load(), Ok(state));
        store(&page, RECORD_AT + 8, 200u32);
        assert_eq!(journal.load(), Err(Unusable::Checksum));
    }
}
