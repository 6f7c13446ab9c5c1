//! The engines a stub can have, in one type.

#[cfg(feature = "nbd")]
use super::NbdDisk;
use super::{Geometry, Io, Outcome, PvDisk, RamDisk, Storage, Submitted, Ticket};
use alloc::boxed::Box;
use kernel::{Hypervisor, Port};

/// One of the engines.
pub enum AnyStorage<H: Hypervisor> {
    /// A PV disk of another domain.
    Pv(Box<PvDisk<H>>),
    /// Memory of the stub.
    Ram(RamDisk),
    /// An export of an NBD server.
    #[cfg(feature = "nbd")]
    Nbd(Box<NbdDisk<H>>),
}

impl<H: Hypervisor> AnyStorage<H> {
    /// The PV disk, if it is one.
    #[must_use]
    pub fn pv(&self) -> Option<&PvDisk<H>> {
        match self {
            AnyStorage::Pv(disk) => Some(disk),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn pv_mut(&mut self) -> Option<&mut PvDisk<H>> {
        match self {
            AnyStorage::Pv(disk) => Some(disk),
            _ => None,
        }
    }

    /// The export, if it is one.
    #[cfg(feature = "nbd")]
    pub fn nbd_mut(&mut self) -> Option<&mut NbdDisk<H>> {
        match self {
            AnyStorage::Nbd(disk) => Some(disk),
            _ => None,
        }
    }
}

macro_rules! each {
    ($self:expr, $engine:ident => $call:expr) => {
        match $self {
            AnyStorage::Pv($engine) => $call,
            AnyStorage::Ram($engine) => $call,
            #[cfg(feature = "nbd")]
            AnyStorage::Nbd($engine) => $call,
        }
    };
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

    fn enable_events(&mut self, completions: u32) -> bool {
        each!(self, engine => engine.enable_events(completions))
    }
}
