//! virtio-blk (virtio 1.3, section 5.2): requests, configuration, the device itself.

mod cache;
mod complete;
pub mod config;
mod device;
mod events;
mod follow_up;
mod header;
mod inspect;
mod journal;
mod ranges;
mod reject;
mod request;
pub mod rings;
mod serve;

pub use device::{Device, DeviceOptions, MAX_QUEUES};
pub use inspect::Inspection;
pub use journal::{DeviceJournal, DeviceState};

#[cfg(test)]
mod tests;
