//! The kernel of this domain.

use kernel::{DomId, Errno, GrantRef, Port, SharedPage};

pub use kernel::foreign::MapUse;
pub use kernel::restart::{incarnation, journal_page, last_panic};
pub use kernel::{Xen, XenForeignMap as Memory, on_panic};

/// The guest's memory, through a window of this many chunks of 2 MiB.
pub fn map_guest(xen: &Xen, target: DomId, chunks: u16) -> Result<Memory, Errno> {
    xen.foreign_map(target, chunks)
}

/// How often a chunk was not mapped that was wanted, and what is mapped.
pub fn map_use(memory: &Memory) -> (u64, MapUse) {
    (memory.misses(), memory.usage())
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
