//! dom0's side of the benchmark: CPU time of each domain in the spans that are measured.
//!
//! - `meter [unpause] TTY NAME=DOMID... [TTY NAME=DOMID...]`: spans that guests mark on their
//!   consoles, see [`watch`].
//! - `meter many-guests ROUNDS SECONDS COUNTS GUEST:STUB...`: spans of many guests at once, see [`many_guests`].
//!
//! It runs through the whole measurement, so that no process starts within a span.
#![forbid(unsafe_code)]

mod many_guests;
mod mark;
mod stats;
mod watch;

use anyhow::Result;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("many-guests") => many_guests::run(arguments.get(1..).unwrap_or_default()),
        Some("unpause") => {
            arguments.remove(0);
            watch::run(&arguments, true)
        }
        _ => watch::run(&arguments, false),
    }
}
