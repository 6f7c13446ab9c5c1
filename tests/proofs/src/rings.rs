//! The peers of our rings, as the specifications and Linux have them.

pub mod blkback;
pub mod driver;
pub mod vcpu;
pub mod xenstored;
