//! What a stub's network may meet, as programs for dom0 of the tests.
//!
//! - [`nbd`]: an NBD server that is not honest.
//! - [`frames`]: a neighbour on the network.
//!
//! A program makes one attack after the other. What it sees, it prints as `PF key=value`, as the hostile images do.
#![forbid(unsafe_code)]

use std::fmt::Display;

pub mod frames;
pub mod nbd;

/// Prints a value for the scenario's script.
pub fn report(key: impl Display, value: impl Display) {
    println!("PF {key}={value}");
}
