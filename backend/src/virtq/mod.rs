//! The device's half of a split virtqueue (virtio 1.3, section 2.7).
//!
//! [`Layout`] says where the rings lie, [`Queue`] takes chains out and gives them back,
//! [`Chain`] and [`SegmentPool`] hold a chain's buffers without allocating, [`ChainView`] reaches
//! them, `notify` decides when either side must be told, [`QueueJournal`] keeps over a restart what is under way.

pub mod chain;
mod fault;
mod heads;
mod journal;
pub mod layout;
mod notify;
pub mod queue;
mod view;

pub use chain::{Chain, Segment, SegmentPool};
pub use fault::QueueFault;
pub use heads::{HEAD_WORDS, HeadSet};
pub use journal::{QueueJournal, QueueState};
pub use layout::{Layout, QUEUE_SIZE_MAX};
pub use queue::Queue;
pub use view::ChainView;

#[cfg(test)]
mod tests;
