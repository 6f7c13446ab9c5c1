//! Bugs on demand: what a test writes to `data/pilotfish/crash` happens. Only with the feature
//! `failpoints`, which no shipped image has.
//!
//! `access N`, `answer N`, `taken N`, `finished N`, `published N`: panics the N-th time that
//! the place is passed ([`backend::failpoint::Failpoint`]). `panic`, `alloc`, `stack`: at once.

use crate::platform::Xen;
use alloc::string::String;
use alloc::vec::Vec;
use backend::failpoint::{Failpoint, set_failpoint};
use core::hint::black_box;
use drivers::xenstore::{WatchEvent, Xenstore};
use log::warn;

const NODE: &str = "data/pilotfish/crash";
const TOKEN: &str = "crash";

/// Waits for what the test wants.
pub fn watch(xs: &mut Xenstore<Xen>) {
    // After a restart it is there already.
    let _ = xs.watch(NODE, TOKEN);
}

/// Does it, once.
pub fn on_event(xs: &mut Xenstore<Xen>, event: &WatchEvent) {
    if event.token != TOKEN {
        return;
    }
    let Ok(wanted) = xs.read_string(NODE) else { return };
    // Not again in the next incarnation.
    if let Err(error) = xs.rm(NODE) {
        warn!("{NODE}: {error}");
        return;
    }
    warn!("bug on demand: {wanted}");
    set(&wanted);
}

fn set(wanted: &str) {
    let (what, passes) = wanted.split_once(' ').unwrap_or((wanted, "1"));
    let point = match what {
        "access" => Failpoint::Access,
        "answer" => Failpoint::Answer,
        "taken" => Failpoint::Taken,
        "finished" => Failpoint::Finished,
        "published" => Failpoint::Published,
        "alloc" => return drop(black_box(Vec::<u8>::with_capacity(1 << 40))),
        "stack" => {
            black_box(deeper(1));
            return;
        }
        _ => panic!("a bug on demand: {}", String::from(what)),
    };
    set_failpoint(point, passes.parse().unwrap_or(1));
}

/// Overflows the stack.
#[inline(never)]
#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    room[(depth % 64) as usize] + deeper(black_box(depth + 1))
}
