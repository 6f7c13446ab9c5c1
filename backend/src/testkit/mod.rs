//! A guest for host tests: memory, a driver that obeys the specification, and means to
//! misbehave.

mod driver;
mod granted;
mod memory;
mod request;

pub use driver::{Driver, RINGS_BYTES, Segments};
pub use granted::GrantedMemory;
pub use memory::{HostileMemory, Observed, Observer, TestMemory, Touch};
pub use request::{Answer, BlkRequest, Bus, Framing, STATUS_UNTOUCHED};
