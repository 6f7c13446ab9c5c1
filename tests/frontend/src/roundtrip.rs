//! Bare round trips: how long a read of a register takes that a stub answers.
//!
//! `hot`: reads without a pause, in batches, the time of one read by batch. `cold`: single reads,
//! each after a sleep in which a stub may have given its CPU away. Told over and over, in
//! nanoseconds, until the domain is destroyed: dom0 pauses it when it measures another.

use crate::registers::map;
use crate::say::{say, sleep};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use core::ops::Range;
use kernel::testing::registers::Registers;
use kernel::{Hypervisor, Xen};

/// `MagicValue`: the reply is a constant.
const MAGIC_VALUE: usize = 0;
/// Reads timed as one.
const BATCH: u64 = 100;
/// Batches for one line.
const BATCHES: usize = 25;
/// Single reads for one line.
const SINGLE: usize = 25;
/// Longer than any stub polls for more work.
const PAUSE_NS: u64 = 5_000_000;

/// Measures without end.
pub fn run(xen: &Xen, window: &Range<u64>) -> Result<(), String> {
    let registers = map(window)?;
    let mut line = 0_u32;
    loop {
        let hot = Times::take(BATCHES, || timed(xen, &registers, BATCH));
        let cold = Times::take(SINGLE, || {
            sleep(xen, PAUSE_NS);
            timed(xen, &registers, 1)
        });
        line = line.wrapping_add(1);
        say(xen, "roundtrip", format!("line={line} {} {}", hot.told("hot"), cold.told("cold")));
    }
}

/// Nanoseconds of one of `count` reads.
fn timed(xen: &Xen, registers: &Registers, count: u64) -> u64 {
    let from = xen.now_ns();
    for _ in 0..count {
        black_box(registers.read(MAGIC_VALUE));
    }
    xen.now_ns().saturating_sub(from) / count
}

/// Sorted times.
struct Times(Vec<u64>);

impl Times {
    fn take(count: usize, time: impl FnMut() -> u64) -> Times {
        let mut times: Vec<u64> = core::iter::repeat_with(time).take(count).collect();
        times.sort_unstable();
        Times(times)
    }

    fn told(&self, name: &str) -> String {
        let at = |index: usize| self.0.get(index).copied().unwrap_or(0);
        let (median, last) = (at(self.0.len() / 2), at(self.0.len().saturating_sub(1)));
        format!("{name}_median_ns={median} {name}_min_ns={} {name}_max_ns={last}", at(0))
    }
}
