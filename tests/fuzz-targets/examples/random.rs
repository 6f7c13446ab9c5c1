//! Random inputs for one fuzz target, without libFuzzer: `random TARGET SECONDS [SEED]`.
//!
//! No coverage guides it, so it finds less for each execution; but it needs no nightly
//! Rust and costs no instrumentation.

use std::time::{Duration, Instant};

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let Some(target) = fuzz_targets::target(&name) else {
        eprintln!(
            "usage: random TARGET SECONDS [SEED]; targets: {:?}",
            fuzz_targets::TARGETS.map(|(name, _)| name)
        );
        std::process::exit(2);
    };
    let seconds = args.next().and_then(|text| text.parse().ok()).unwrap_or(10);
    let seed: u64 = args.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = Random(seed | 1);
    let (start, limit) = (Instant::now(), Duration::from_secs(seconds));
    let mut data = Vec::new();
    let (mut executions, mut deep) = (0u64, 0u64);
    while !executions.is_multiple_of(256) || start.elapsed() < limit {
        let len = usize::try_from(random.next() % 512).unwrap_or(0);
        data.clear();
        while data.len() < len {
            let word = random.next();
            // Small numbers are more often valid, so they reach deeper.
            let mask = if word >> 63 == 0 { 0x0f0f_0f0f_0f0f_0f0f } else { u64::MAX };
            data.extend((word & mask).to_le_bytes());
        }
        let Ok(reached) = std::panic::catch_unwind(|| target(&data)) else {
            println!("{name}: execution {executions} of seed {seed} failed: {data:?}");
            std::process::exit(1);
        };
        deep += u64::from(reached);
        executions += 1;
    }
    let took = start.elapsed().as_secs();
    println!("{name}: {executions} executions in {took} s, {deep} of them deep, seed {seed}, no failure");
}
