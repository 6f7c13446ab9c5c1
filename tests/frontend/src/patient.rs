//! A guest whose first disk may fail, and whose second one may not: for a hostile storage backend behind the
//! first.
//!
//! It writes and reads both in turn until it is destroyed. Each request of the first one has to come back, as
//! a success or as an error; the second one must go on as if nothing were the matter.

use crate::firmware::{FRAMINGS, Live};
use crate::registers::map;
use crate::say::{say, sleep};
use crate::virtio::Device;
use alloc::format;
use alloc::string::String;
use core::ops::Range;
use kernel::{Hypervisor, Xen};

/// Sectors of one turn on each disk.
const SECTORS: u64 = 16;
/// Between two lines.
const LINE_NS: u64 = 500_000_000;
/// Between two turns.
const PAUSE_NS: u64 = 5_000_000;

/// Goes on until it is destroyed, or the second disk fails.
pub fn run(xen: &Xen, windows: &[Range<u64>]) -> Result<(), String> {
    let [far, near] = windows else { return Err(format!("{} disks in place of two", windows.len())) };
    let (far, near) = (map(far)?, map(near)?);
    let (far, near) = (Device::new(xen, &far)?, Device::new(xen, &near)?);
    let mut honest = Live::start(&near, &FRAMINGS[1])?;
    let mut patient = Live::start(&far, &FRAMINGS[1])?;
    let sectors = near.capacity();
    let (mut turns, mut good, mut errors) = (0_u64, 0_u64, 0_u64);
    let (mut next_line_ns, mut slowest_ns) = (0, 0);
    loop {
        let from = turns.wrapping_mul(SECTORS) % sectors;
        let end = from.saturating_add(SECTORS).min(sectors);
        let began_ns = xen.now_ns();
        honest.write_and_verify(&(from..end), "near").map_err(|why| format!("the second disk: {why}"))?;
        slowest_ns = xen.now_ns().saturating_sub(began_ns).max(slowest_ns);
        match patient.write_and_verify(&(0..SECTORS), "far") {
            Ok(_) => good = good.wrapping_add(1),
            // One that is not answered would be found by the next, which expects its own answer.
            Err(why) if why.contains("never answered") => return Err(format!("the first disk: {why}")),
            Err(_) => errors = errors.wrapping_add(1),
        }
        turns = turns.wrapping_add(1);
        if xen.now_ns() > next_line_ns {
            say(
                xen,
                "turns",
                format_args!("{turns} good={good} errors={errors} slowest_ms={}", slowest_ns / 1_000_000),
            );
            next_line_ns = xen.now_ns().saturating_add(LINE_NS);
        }
        sleep(xen, PAUSE_NS);
    }
}
