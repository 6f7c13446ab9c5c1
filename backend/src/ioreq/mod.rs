//! The ioreq server: guest accesses that Xen hands to us, one slot for each vCPU.

mod event;
mod server;
mod slot;
mod state;

pub use event::{Event, Malformed, RawSlot};
pub use server::{PanicTeardown, Server, StartError, TeardownOutcome};
pub use slot::{MAX_VCPUS, Slot};
pub use state::{ServerJournal, ServerState};
