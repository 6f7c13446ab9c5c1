//! virtio-blk (virtio 1.3, section 5.2): requests, configuration, the device itself.

mod batch;
mod cache;
mod complete;
pub mod config;
mod device;
mod inspect;
mod nap;
mod pace;
mod ranges;
mod request;
mod serve;

pub use device::{Device, DeviceOptions, MAX_QUEUES};
pub use inspect::Inspection;
pub(crate) use request::AT_ONCE_BYTES;
pub use request::{Operation, Ticket};

#[cfg(test)]
mod tests;
