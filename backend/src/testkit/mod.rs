//! A guest for host tests: memory, a driver that obeys the specification, and means to
//! misbehave.

mod driver;
mod memory;

pub use driver::{Answer, BlkRequest, Bus, Driver, Framing, STATUS_UNTOUCHED, Segments};
pub use memory::{HostileMemory, TestMemory};
