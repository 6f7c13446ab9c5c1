//! The device's half of a split virtqueue (virtio 1.3, section 2.7).
//!
//! [`Layout`] says where the rings lie, [`Queue`] takes chains out and gives them back,
//! [`Chain`] and [`SegmentPool`] hold a chain's buffers without allocating, `notify` decides
//! when either side must be told.

pub mod chain;
pub mod layout;
mod notify;
pub mod queue;

pub use chain::{Chain, Segment, SegmentPool};
pub use layout::{Layout, QUEUE_SIZE_MAX};
pub use queue::{Queue, QueueFault};

#[cfg(test)]
mod tests;
