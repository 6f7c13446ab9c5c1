//! What the stub says: the console's ring, `log` on top of it, and the last words of a panic.

#[cfg(any(target_os = "none", test))]
pub(crate) mod console;
#[cfg(any(target_os = "none", test))]
pub(crate) mod logger;
pub(crate) mod panic;
