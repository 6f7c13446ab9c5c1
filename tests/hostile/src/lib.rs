//! Hostile stubs: images that misuse what a stub is given, to see what Xen makes of it; and a hostile
//! storage backend and a hostile netback, to see what a stub makes of them.
//!
//! Each is a domain with a guest as its target, launched by a scenario's script in the place
//! of the honest stub. What it sees, it prints on its console as `PF key=value`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use core::fmt::Display;

use kernel::{BootInfo, Delay, DelayNs, DomId, Errno, Hypervisor};

pub mod back_end;
pub mod blkback;
pub mod netback;
pub mod nodes;
pub mod server;
pub mod stub;

/// Prints a value for the scenario's script.
pub fn report(key: impl Display, value: impl Display) {
    log::info!("PF {key}={value}");
}

/// How long xenconsoled gets for a line. All the answers of a probe are more than the
/// console's ring holds, and the kernel drops what does not fit.
const LINE_MS: u32 = 50;

/// Prints what came of an attempt: `ok`, or the name of the error.
pub fn attempt<H: Hypervisor, T>(xen: &H, what: impl Display, whose: &str, result: Result<T, Errno>) {
    match result {
        Ok(_) => log::info!("PF {what}_{whose}=ok"),
        Err(errno) => log::info!("PF {what}_{whose}={errno:?}"),
    }
    Delay::new(xen).delay_ms(LINE_MS);
}

/// A number on the command line, e.g. `target=5`.
#[must_use]
pub fn number(boot: &BootInfo, key: &str) -> Option<u16> {
    boot.option(key)?.parse().ok()
}

/// A frame number on the command line.
#[must_use]
pub fn frame(boot: &BootInfo, key: &str) -> Option<u64> {
    boot.option(key)?.parse().ok()
}

/// The domain that a word of the command line names.
#[must_use]
pub fn domain(boot: &BootInfo, key: &str) -> Option<DomId> {
    number(boot, key).map(DomId)
}

/// Sleeps until the toolstack destroys this domain.
pub fn idle<H: Hypervisor>(xen: &H) -> ! {
    loop {
        Delay::new(xen).delay_ms(1000);
    }
}
