//! The unikernel under the stub: the only crate of the image that may write `unsafe`.
//!
//! Everything above talks to Xen through the typed [`Hypervisor`] trait and touches memory
//! that another domain can change only through [`SharedPage`]. Both exist on the host as
//! well (feature `fake`), so that drivers and devices are tested without a hypervisor.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod hypercall;
pub mod shared;

pub use hypercall::{DomId, GrantRef, Hypervisor, IoservId, Port, ShutdownReason};
pub use shared::{Order, OutOfPage, SharedPage};
pub use xen_pv_sys::errno::Errno;
