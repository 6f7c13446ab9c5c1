//! The few hypercalls that the dom0 daemon makes itself, through Linux's `/dev/xen/privcmd`.
//!
//! `xl` can build and destroy a domain, but no command of it sets a domain's target on Arm.
//! This crate does that one domctl, and four more operations that need no toolstack state
//! (state, pause, unpause, crash), which saves a process for each. It lists all domains, those
//! too that have no name in xenstore; it asks Xen what it can do, and FLASK what it allows.
//!
//! All unsafe code of the dom0 side is in `device`: one `ioctl`, and one page of memory
//! that both this process and Xen may access. `call` lays the arguments out in that page.

pub mod call;
mod device;

pub use call::{DomainState, DomainUsage, Error, Privcmd};
