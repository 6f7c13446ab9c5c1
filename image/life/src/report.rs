//! What the daemon learns from us: a few nodes below our own `data/pilotfish`.
//!
//! Reports are best effort: a stub that serves must not end because nobody listens.

use alloc::string::ToString;
use drivers::xenstore::Xenstore;
use kernel::{BootInfo, Xen, restart};
use log::warn;

/// Longest reason given for a failure, in bytes.
const REASON_BYTES: usize = 200;

/// The guest may run: its accesses are answered from now on.
pub fn serving(xs: &mut Xenstore<Xen>, boot: &BootInfo) {
    let ready_us = boot.uptime_us();
    let heap = kernel::heap_use();
    for (key, number) in [
        ("ready_us", ready_us),
        ("memory_kib", (boot.ram.end - boot.ram.start) / 1024),
        ("heap_peak_kib", heap.peak_bytes as u64 / 1024),
    ] {
        write(xs, key, &number.to_string());
    }
    // Last: the daemon acts on it.
    write(xs, "state", "serving");
    log::info!("serving {ready_us} us after the first instruction; {heap}");
}

/// We are here again after a panic, and why it came.
pub fn restarted(xs: &mut Xenstore<Xen>) {
    write(xs, "last_panic", &restart::last_panic());
    // Last: the daemon looks at it.
    write(xs, "restarts", &u64::from(restart::life()).to_string());
}

/// We cannot serve, and why.
pub fn failed(xs: &mut Xenstore<Xen>, why: &str) {
    // The longest prefix of whole characters.
    let end = (0..=REASON_BYTES.min(why.len())).rev().find(|&end| why.is_char_boundary(end)).unwrap_or(0);
    write(xs, "error", why.get(..end).unwrap_or_default());
    write(xs, "state", "failed");
}

fn write(xs: &mut Xenstore<Xen>, key: &str, value: &str) {
    let path = alloc::format!("data/pilotfish/{key}");
    if let Err(error) = xs.write(&path, value.as_bytes()) {
        warn!("cannot report {key}={value}: {error}");
    }
}
