//! The ioreq server: guest accesses that Xen hands to us, one slot for each vCPU.

mod access;
mod server;
mod slot;

pub use access::{Access, Direction, Malformed, RawSlot, Reply, Request, Width};
pub use server::{MAX_VCPUS, Rescue, Server, StartError, Teardown};
pub use slot::Slot;
