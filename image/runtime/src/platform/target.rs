//! The kernel of this domain.

use alloc::rc::Rc;
use backend::guest_mem::{AnyMemory, RingKeeper};
use kernel::{DomId, Errno, GrantRef, Port, SharedPage, XenWindow};

pub use kernel::foreign::MapUse;
pub use kernel::granted::GrantUse;
pub use kernel::restart::{incarnation, journal_page, last_panic};
pub use kernel::{Xen, on_panic};

/// The guest's memory: all of it, or what it grants.
pub type Memory = AnyMemory<XenWindow>;

/// The guest's memory, through a window of this many chunks of 2 MiB.
pub fn map_guest(xen: &Xen, target: DomId, chunks: u16) -> Result<Memory, Errno> {
    xen.foreign_map(target, chunks).map(AnyMemory::Mapped)
}

/// What the guest grants of its memory, and who keeps its rings.
pub fn grant_guest(xen: &Xen, target: DomId) -> Result<(Memory, Rc<dyn RingKeeper>), Errno> {
    let grants = Rc::new(xen.grant_map(target)?);
    Ok((AnyMemory::Granted(grants.clone()), grants))
}

/// How often a chunk was not mapped that was wanted, and what is mapped.
pub fn map_use(memory: &Memory) -> (u64, MapUse) {
    match memory {
        AnyMemory::Mapped(map) => (map.misses(), map.usage()),
        AnyMemory::Granted(_) => (0, MapUse::default()),
    }
}

/// What was done by grants.
pub fn grant_use(memory: &Memory) -> Option<GrantUse> {
    match memory {
        AnyMemory::Mapped(_) => None,
        AnyMemory::Granted(map) => Some(map.usage()),
    }
}

/// See [`Xen::previous_page`].
pub fn previous_page(xen: &Xen, gref: GrantRef) -> Option<SharedPage> {
    xen.previous_page(gref)
}

/// See [`Xen::close_previous_ports`].
pub fn close_previous_ports(xen: &Xen, kept: &[Port]) {
    xen.close_previous_ports(kept);
}

/// See [`Xen::allow_restart`].
pub fn allow_restart(xen: &Xen) -> Result<bool, usize> {
    xen.allow_restart()
}
