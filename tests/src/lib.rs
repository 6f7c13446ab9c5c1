//! The QEMU harness: real Xen, real dom0, real guests, one verdict per scenario.
//!
//! A machine is booted once per Xen version and CPU model and runs many scenarios, each a
//! shell script of `tests/qemu/` started through dom0's agent. A scenario that takes dom0 or
//! Xen down has failed; the machine is booted again and the others go on.
//!
//! - [`scenario`]: what a scenario is, and the machines that one may run on.
//! - [`manifest`]: which scenarios there are, what rule each states, where each runs.
//! - [`attacks`]: the suites of attacks, and the table of what came of them.
//! - [`flask`]: the policy of the machines that have one.
//! - [`runner`]: boots machines and runs what the manifest asks for.
//! - [`progress`]: what a scenario does right now, as one line.
//! - [`report`]: verdict lines, a log file per scenario, `tests.json`.
//! - [`privileges`]: what Xen answers to each hypercall, as the scenario `hostile-walk` is to find it.
//! - [`power`]: what writes in the guest and checks in dom0 for the power failure scenarios.
#![forbid(unsafe_code)]

#[cfg(feature = "harness")]
pub mod attacks;
#[cfg(feature = "harness")]
pub mod flask;
#[cfg(feature = "harness")]
pub mod manifest;
pub mod power;
pub mod privileges;
#[cfg(feature = "harness")]
pub mod progress;
#[cfg(feature = "harness")]
pub mod report;
#[cfg(feature = "harness")]
pub mod runner;
#[cfg(feature = "harness")]
pub mod scenario;
