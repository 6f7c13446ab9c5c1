//! dom0's side of the benchmark: CPU time of each domain in the spans that are measured.
//!
//! - `meter [unpause] TTY NAME=DOMID... [TTY NAME=DOMID...]`: spans that guests mark on their
//!   consoles, see [`watch`].
//! - `meter crowd ROUNDS SECONDS COUNTS GUEST:STUB...`: spans of many guests at once, see [`crowd`].
//!
//! It runs through the whole measurement, so that no process starts within a span.
#![forbid(unsafe_code)]

mod crowd;
mod mark;
mod stats;
mod watch;

use anyhow::Result;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("crowd") => crowd::run(arguments.get(1..).unwrap_or_default()),
        Some("unpause") => {
            arguments.remove(0);
            watch::run(&arguments, true)
        }
        _ => watch::run(&arguments, false),
    }
}
