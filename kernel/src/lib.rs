//! The unikernel under the stub: the only crate of the image that may write `unsafe`.
//!
//! Everything above talks to Xen through the typed [`Hypervisor`] trait and touches memory
//! that another domain can change only through [`SharedPage`], [`ForeignMap`] and [`GrantMap`]. All exist
//! on the host as well (feature `fake`), so that drivers and devices are tested without a
//! hypervisor.
//!
//! One vCPU, no interrupts, no threads. `arch/aarch64/entry.rs` has the first instruction,
//! `boot/start.rs` brings up memory, heap, console, log and event channels in that order, then
//! calls the function that the image named with [`main!`]:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! #![forbid(unsafe_code)]
//! kernel::main!(run);
//! fn run(xen: kernel::Xen, boot: &'static kernel::BootInfo) -> kernel::ShutdownReason {
//!     log::info!("command line: {}", boot.cmdline);
//!     kernel::ShutdownReason::Poweroff
//! }
//! ```
//!
//! The image is linked with `pilotfish.ld`, found by name: its build script passes
//! `-Tpilotfish.ld` when the target has no operating system.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod arch;
mod boot;
mod log;
mod mem;
pub mod restart;
pub mod testing;
pub mod time;
mod xen;

pub use crate::log::panic::on_panic;
pub use arch::MapError;
pub use boot::{BootError, BootInfo, MAX_CMDLINE_BYTES};
pub use embedded_hal::delay::DelayNs;
pub use mem::foreign::{self, ForeignFault, ForeignMap};
pub use mem::granted::{self, GrantFault, GrantMap};
pub use mem::heap::{HeapUse, heap_use};
#[cfg(feature = "model")]
pub use mem::model;
pub use mem::shared::{self, Order, OutOfPage, PageSlice, SharedPage, Word, full_barrier};
#[cfg(any(test, feature = "fake"))]
pub use testing::fake;
#[cfg(feature = "hostile")]
pub use testing::{hostile, misuse, walk};
#[cfg(feature = "model")]
pub use xen::event_bits;
pub use xen::hypercalls::{XenVersion, xen_version};
pub use xen::hypervisor::{self, DomId, GrantRef, Hypervisor, IoservId, Port, ShutdownReason};
pub use xen::{Delay, Xen, XenForeignMap, XenWindow};
pub use xen_pv_sys::errno::Errno;

/// Names the image's main function: `fn(Xen, &'static BootInfo) -> ShutdownReason`. The
/// domain ends with what it returns.
#[macro_export]
macro_rules! main {
    ($run:path) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "Rust" fn pilotfish_main(
            xen: $crate::Xen,
            boot: &'static $crate::BootInfo,
        ) -> $crate::ShutdownReason {
            let run: fn($crate::Xen, &'static $crate::BootInfo) -> $crate::ShutdownReason = $run;
            run(xen, boot)
        }
    };
}
