//! The stub domain of a guest, from its making to its end.
//!
//! [`plan`] lays out what to make, with the [`network`] interface that NBD disks need. [`launch`] makes it and
//! waits until it serves. [`health`] knows how it does, [`policy`] what happens to a guest whose stub died, and [`stop`] removes it.
//! [`privilege`] gives it its rights over its guest, and [`tls`] the keys of its disks.
//! [`record`] and [`identity`] let a restarted daemon find what there is, and [`sweep`] removes what
//! others left. [`waiting`] knows of stubs that were made before their guests, [`granting`] whether such a guest can
//! use them.

pub mod granting;
pub mod health;
pub mod identity;
pub mod launch;
pub mod network;
pub mod plan;
pub mod policy;
pub mod privilege;
pub mod record;
pub mod seed;
pub mod stop;
pub mod sweep;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod waiting;
pub mod xl_config;
