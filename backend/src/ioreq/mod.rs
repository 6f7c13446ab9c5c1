//! The ioreq server: guest accesses that Xen hands to us, one slot for each vCPU.

mod event;
mod server;
mod slot;
mod state;

pub use event::{Malformed, RawSlot, Request};
pub use server::{Rescue, Server, StartError, Teardown};
pub use slot::{MAX_VCPUS, Slot};
pub use state::{ServerJournal, ServerState};
