//! virtio over MMIO, version 2 (virtio 1.3, section 4.2): pure register logic.

pub mod regs;
pub mod status;
mod transport;

pub use transport::{Effect, Identity, QueueRegs, Transport};

#[cfg(test)]
mod tests;
