//! The words that the stub shares with its guest, with blkback, with Xen and with xenstored, in every
//! order that the memory model allows.
//!
//! Each rule has a second test, in which our side lacks what the rule needs: that one must fail.

#[path = "orderings/blkif.rs"]
mod blkif;
#[path = "orderings/ioreq.rs"]
mod ioreq;
#[path = "orderings/virtqueue.rs"]
mod virtqueue;
#[path = "orderings/xenstore.rs"]
mod xenstore;
