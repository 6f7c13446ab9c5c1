//! Words to the scenario's script, through the console.

use core::fmt::Display;
use kernel::{Delay, DelayNs, Xen};

/// How long xenconsoled gets for a line: the console drops what does not fit its ring.
const LINE_NS: u64 = 30_000_000;

/// Prints a value for the scenario's script.
pub fn say(xen: &Xen, key: impl Display, value: impl Display) {
    log::info!("PF {key}={value}");
    sleep(xen, LINE_NS);
}

/// Lets the CPU go for that long.
pub fn sleep(xen: &Xen, nanoseconds: u64) {
    Delay::new(xen).delay_us(u32::try_from(nanoseconds / 1000).unwrap_or(u32::MAX));
}
