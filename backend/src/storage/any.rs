//! The engines a stub can have, in one type.

use super::{Geometry, Io, Outcome, PvDisk, RamDisk, Storage, Submitted, Ticket};
use alloc::boxed::Box;
use drivers::xenstore::{StoreError, Xenstore};
use kernel::{Hypervisor, Port};

/// One of the engines.
pub enum AnyStorage<H: Hypervisor> {
    /// A PV disk of another domain.
    Pv(Box<PvDisk<H>>),
    /// Memory of the stub.
    Ram(RamDisk),
}

macro_rules! each {
    ($self:expr, $engine:ident => $call:expr) => {
        match $self {
            AnyStorage::Pv($engine) => $call,
            AnyStorage::Ram($engine) => $call,
        }
    };
}

impl<H: Hypervisor> AnyStorage<H> {
    /// See [`PvDisk::on_watch`].
    ///
    /// # Errors
    /// A failure of xenstore.
    pub fn on_watch(&mut self, xs: &mut Xenstore<H>, path: &str) -> Result<(), StoreError> {
        match self {
            AnyStorage::Pv(disk) => disk.on_watch(xs, path),
            AnyStorage::Ram(_) => Ok(()),
        }
    }

    /// See [`PvDisk::look`].
    ///
    /// # Errors
    /// A failure of xenstore.
    pub fn look(&mut self, xs: &mut Xenstore<H>) -> Result<(), StoreError> {
        match self {
            AnyStorage::Pv(disk) => disk.look(xs),
            AnyStorage::Ram(_) => Ok(()),
        }
    }

    /// See [`PvDisk::tend`].
    pub fn tend(&mut self, xs: &mut Xenstore<H>) -> bool {
        match self {
            AnyStorage::Pv(disk) => disk.tend(xs),
            AnyStorage::Ram(_) => false,
        }
    }

    /// See [`PvDisk::sends`].
    #[must_use]
    pub fn sends(&self) -> u64 {
        match self {
            AnyStorage::Pv(disk) => disk.sends(),
            AnyStorage::Ram(_) => 0,
        }
    }

    /// See [`PvDisk::due_ns`].
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        match self {
            AnyStorage::Pv(disk) => disk.due_ns(),
            AnyStorage::Ram(_) => None,
        }
    }
}

impl<H: Hypervisor> Storage for AnyStorage<H> {
    fn geometry(&self) -> Geometry {
        each!(self, engine => engine.geometry())
    }

    fn port(&self) -> Option<Port> {
        each!(self, engine => engine.port())
    }

    fn submit(&mut self, io: &Io<'_>, ticket: Ticket) -> Submitted {
        each!(self, engine => engine.submit(io, ticket))
    }

    fn kick(&mut self) {
        each!(self, engine => engine.kick());
    }

    fn responses(&self) -> u32 {
        each!(self, engine => engine.responses())
    }

    fn next_completion(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        each!(self, engine => engine.next_completion(io))
    }

    fn arm(&mut self, batch: u32) -> bool {
        each!(self, engine => engine.arm(batch))
    }
}
