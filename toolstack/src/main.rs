//! `pilotfishd`, the dom0 daemon.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    pilotfish_toolstack::main()
}
