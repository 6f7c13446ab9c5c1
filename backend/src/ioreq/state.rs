//! The server, as an incarnation leaves it to the next: which it is, and the ports of the guest's
//! vCPUs.

use super::slot::MAX_VCPUS;
use crate::journal::{JournalError, Record};
use alloc::vec::Vec;
use kernel::{DomId, IoservId, Port, SharedPage};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// "PFS", and the version of all that follows.
const MAGIC: u64 = 0x0002_5346_5000;
const PORTS: usize = MAX_VCPUS as usize;

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Stored {
    target: u32,
    id: u32,
    vcpus: u32,
    ports: [u32; PORTS],
}

/// An enabled ioreq server.
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
#[derive(Clone)]
pub struct ServerJournal(Record<Stored>);

impl ServerJournal {
    /// In a page that outlives a restart.
    #[must_use]
    pub const fn new(page: SharedPage) -> ServerJournal {
        ServerJournal(Record::new(page, MAGIC))
    }

    /// Writes down a server that has just been enabled.
    pub fn save(&self, state: &ServerState) {
        let mut stored = Stored::new_zeroed();
        stored.target = u32::from(state.target.0);
        stored.id = u32::from(state.id.0);
        stored.vcpus = u32::try_from(state.ports.len()).unwrap_or(u32::MAX);
        for (to, from) in stored.ports.iter_mut().zip(&state.ports) {
            *to = from.0;
        }
        self.0.save(&stored);
    }

    /// Reads what [`ServerJournal::save`] wrote.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn load(&self) -> Result<ServerState, JournalError> {
        let stored = self.0.load()?;
        let narrow = |number: u32| u16::try_from(number).map_err(|_| JournalError::Corrupt);
        let vcpus = usize::try_from(stored.vcpus).unwrap_or(usize::MAX);
        let ports = stored.ports.get(..vcpus).ok_or(JournalError::Corrupt)?;
        Ok(ServerState {
            target: DomId(narrow(stored.target)?),
            id: IoservId(narrow(stored.id)?),
            ports: ports.iter().copied().map(Port).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;
    use kernel::Order;

    #[test]
    fn a_server_is_read_as_it_was_written_or_not_at_all() {
        let page = SharedPage::alloc().expect("host memory");
        let journal = ServerJournal::new(page.clone());
        assert_eq!(journal.load(), Err(JournalError::Unknown));
        let state = ServerState { target: DomId(7), id: IoservId(1), ports: [3, 4].map(Port).into() };
        journal.save(&state);
        assert_eq!(journal.load(), Ok(state));
        let vcpus_at = Record::<Stored>::BYTES - size_of::<Stored>() + offset_of!(Stored, vcpus);
        page.store(vcpus_at, 200u32, Order::AcqRel).expect("inside");
        assert_eq!(journal.load(), Err(JournalError::Checksum));
    }

    #[test]
    fn numbers_that_no_server_has_are_refused() {
        let page = SharedPage::alloc().expect("host memory");
        let journal = ServerJournal::new(page.clone());
        let spoil: [fn(&mut Stored); 3] =
            [|stored| stored.vcpus = 113, |stored| stored.target = 0x1_0007, |stored| stored.id = 0x1_0000];
        for spoil in spoil {
            let mut stored = Stored::new_zeroed();
            stored.vcpus = 112;
            Record::<_, 0>::new(page.clone(), MAGIC).save(&stored);
            assert!(journal.load().is_ok());
            spoil(&mut stored);
            Record::<_, 0>::new(page.clone(), MAGIC).save(&stored);
            assert_eq!(journal.load(), Err(JournalError::Corrupt));
        }
    }
}
