//! `cargo xtask`: everything a developer runs on this project, as a library so that
//! the test harness in `tests/` and the benchmark in `tests/bench/` can use the same pieces.
//!
//! - [`setup`]: packages, Rust targets, Xen, dom0 and guest userland, all cached.
//! - [`build`]: the stub image, the hostile images and the dom0 daemon.
//! - [`manual`]: manual page and shell completions of the daemon.
//! - [`initramfs`]: cpio archives; the variable part of dom0 and guest.
//! - [`qemu`]: one emulated machine with its serial console, never outliving us.
//! - [`agent`]: the conversation with dom0's agent over that console.
//! - [`attack`]: options of the suites of attacks.
//! - [`lint`]: rules that no compiler checks: no circles, nothing long.
//! - [`tcb`]: what has to be trusted, counted.
//! - [`system`]: all of the above put together: "boot me Xen 4.20 and run a scenario".
#![forbid(unsafe_code)]

pub mod agent;
mod alone;
pub mod attack;
pub mod build;
pub mod check;
pub mod clean;
pub mod cli;
pub mod demo;
pub mod elf;
pub mod initramfs;
pub mod interrupt;
pub mod lint;
pub mod manual;
pub mod paths;
pub mod process;
pub mod protocol;
pub mod qemu;
pub mod setup;
pub mod shell;
pub mod system;
pub mod tcb;
pub mod terminal;
pub mod toolchain;
pub mod ui;
pub mod workspace;
