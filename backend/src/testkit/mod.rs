//! A guest for host tests: memory, a driver that obeys the specification, and means to
//! misbehave.

mod driver;
mod memory;
mod request;

pub use driver::{Bus, Driver, Segments};
pub use memory::{HostileMemory, TestMemory};
pub use request::{Answer, BlkRequest, Framing, STATUS_UNTOUCHED};
