//! virtio over MMIO, version 2 (virtio 1.3, section 4.2): pure register logic.

mod features;
mod interrupt;
mod queue_regs;
pub mod regs;
mod reminder;
mod state;
pub mod status;
mod transport;

pub use queue_regs::QueueRegs;
pub use state::{QueueRegsState, STATE_CONFIG_BYTES, STATE_QUEUES, TransportState};
pub use transport::{Effect, Identity, Transport};

#[cfg(test)]
mod tests;
