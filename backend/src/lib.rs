//! The device: what a guest reaches of the stub.
//!
//! `docs/architecture.md` has the map of a request's journey, with the file of each step.
//!
//! A notification is answered before its queue runs: no guest vCPU ever waits for a disk.
//! Ownership of the [`storage::Ticket`] carries the request in flight, through errors too. A
//! dropped [`ioreq::Slot`] answers as an absent device would: no path strands a vCPU.
//!
//! [`stub::Stub`] composes it all.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod blk;
mod coalesce;
pub mod event_loop;
pub mod failpoint;
pub mod guest_mem;
pub mod ioreq;
mod irq;
pub mod journal;
mod limit;
pub mod mmio;
pub mod stats;
pub mod storage;
pub mod stub;
#[cfg(any(test, feature = "testkit"))]
#[cfg_attr(
    not(test),
    expect(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test kit fails loudly"
    )
)]
pub mod testkit;
pub mod virtq;

pub use guest_mem::{GuestAddr, GuestMemory, GuestRange, MemFault};
pub use irq::IrqLine;
pub use stub::Stub;
