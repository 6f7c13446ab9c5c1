//! For tests only, each part behind its own feature. No shipped image has any of it.

#[cfg(all(feature = "guest", target_os = "none"))]
pub mod balloon;
#[cfg(feature = "guest")]
pub mod event_memory;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
#[cfg(feature = "hostile")]
pub mod hostile;
#[cfg(feature = "hostile")]
pub mod misuse;
#[cfg(all(feature = "guest", target_os = "none"))]
pub mod other_cpu;
#[cfg(all(feature = "guest", target_os = "none"))]
pub mod registers;
#[cfg(feature = "hostile")]
pub mod walk;
