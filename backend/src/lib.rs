//! The device: what a guest reaches of the stub.
//!
//! A request's journey, and the file of each step:
//!
//! ```text
//! ioreq/slot.rs      Server::take()            -> Slot             one copy out of the shared page
//! mmio/transport.rs  Transport::access(Access) -> (Reply, Effect)  pure: no memory, no hypercall
//! ioreq/slot.rs      Slot::answer(Reply)                           the guest's vCPU resumes here
//! virtq/queue.rs     Queue::pop(&mem)          -> Result<Option<Chain>, QueueFault>
//! blk/request.rs     Request::parse(Chain)     -> Request, or why not
//! storage/           Storage::submit(Ticket)   -> Done | Pending | Full(Ticket)
//! blk/complete.rs    finish(Ticket, Outcome)                       status byte, push used
//! virtq/notify.rs    Queue::should_signal(&mem)
//! irq.rs             IrqLine::assert()                             one hypercall per batch
//! ```
//!
//! A notification is answered before its queue runs: no guest vCPU ever waits for a disk.
//! Ownership of the [`blk::Ticket`] carries the request in flight, through errors too. A
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

pub mod blk;
pub mod crash;
pub mod guest_mem;
pub mod ioreq;
mod irq;
pub mod journal;
mod limit;
pub mod look;
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
pub mod upkeep;
pub mod virtq;

pub use guest_mem::{GuestAddr, GuestMemory, GuestRange, MemFault};
pub use irq::IrqLine;
pub use stub::Stub;
