//! A small Xen host for tests: xenstore, domains, what libxl does, and stubs of all manners.
//!
//! The world outlives the daemon in it. Each daemon gets handles of its own ([`World::store`],
//! [`World::host`]); [`World::kill_after`] makes one of them die, as by SIGKILL, after a
//! number of changes to the world: from then on everything it tries fails and changes nothing.

mod handle;
mod world;

pub use handle::Handle;
pub use world::{Domain, World};
#[cfg(test)]
pub use world::{Manner, handle_of};
