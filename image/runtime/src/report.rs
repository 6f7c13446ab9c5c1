//! What the daemon learns from us: a few nodes below our own `data/pilotfish`.
//!
//! Reports are best effort: a stub that serves must not end because nobody listens.

use crate::platform::{self, Xen};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use drivers::xenstore::Xenstore;
use kernel::BootInfo;
use log::warn;

/// Longest reason given for a failure, in bytes.
const REASON_BYTES: usize = 200;

/// The guest may run: its accesses are answered from now on.
pub fn serving(xs: &mut Xenstore<Xen>, boot: &BootInfo) {
    let ready_us = boot.uptime_us();
    let heap = kernel::heap_use();
    let figures = [
        ("ready_us", ready_us),
        ("memory_kib", (boot.ram.end - boot.ram.start) / 1024),
        ("heap_peak_kib", heap.peak_bytes as u64 / 1024),
    ];
    write(xs, figures.iter().map(|&(key, number)| (path(key), number.to_string())).collect());
    // Last: the daemon acts on it.
    write(xs, vec![(path("state"), "serving".to_string())]);
    log::info!("serving {ready_us} us after the first instruction; {heap}");
}

/// We are here again after a panic, and why it came.
pub fn restarted(xs: &mut Xenstore<Xen>) {
    write(xs, vec![(path("last_panic"), platform::last_panic())]);
    // Last: the daemon looks at it.
    write(xs, vec![(path("restarts"), u64::from(platform::incarnation()).to_string())]);
}

/// What we are about to wait for, should the daemon's patience end first.
#[cfg(feature = "nbd")]
pub fn waits_for(xs: &mut Xenstore<Xen>, what: &str) {
    write(xs, vec![(path("waits_for"), short(what))]);
}

/// The longest prefix of whole characters that a node gets.
fn short(text: &str) -> String {
    let end = (0..=REASON_BYTES.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_string()
}

/// We cannot serve, and why.
pub fn failed(xs: &mut Xenstore<Xen>, why: &str) {
    write(xs, vec![(path("error"), short(why))]);
    write(xs, vec![(path("state"), "failed".to_string())]);
}

fn path(key: &str) -> String {
    format!("data/pilotfish/{key}")
}

#[inline(never)]
fn write(xs: &mut Xenstore<Xen>, nodes: Vec<(String, String)>) {
    if let Err(error) = xs.write_all(nodes) {
        warn!("cannot report: {error}");
    }
}
