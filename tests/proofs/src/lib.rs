//! Small worlds, checked in every order.
//!
//! - [`weak`]: memory as the weakest CPU may show it, by [`loom`], under our own drivers and device.
//! - [`weak_xen`]: event channels over it.
//! - [`explore`]: every way through a world that has choices.
//! - [`interleaved`]: others run whenever our code accesses shared memory.
//! - [`machine`]: a whole machine with one PV disk.
//! - [`rings`]: the peers of our rings, as the specifications and Linux have them.
//!
//! Everything here drives the code that the stub's image is made of. What is only a model is the other
//! side: a driver, blkback, xenstored, Xen.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails loudly")]

pub mod explore;
pub mod interleaved;
pub mod machine;
pub mod rings;
pub mod weak;
pub mod weak_xen;
