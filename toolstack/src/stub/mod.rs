//! The stub domain of a guest, from its making to its end.
//!
//! [`plan`] lays out what to make, [`launch`] makes it and waits until it serves, and [`stop`]
//! removes it. [`record`] and [`identity`] let a restarted daemon find what there is.

pub mod identity;
pub mod launch;
pub mod plan;
pub mod record;
pub mod stop;
#[cfg(test)]
mod tests;
