//! What the stub has beneath it: on the target the kernel, in tests a host's memory and the fake
//! Xen. Both have the same names, so nothing in this crate is generic, and all of it is compiled
//! here.

#[cfg(test)]
mod host;
#[cfg(not(test))]
mod target;

#[cfg(test)]
pub use host::*;
#[cfg(not(test))]
pub use target::*;
