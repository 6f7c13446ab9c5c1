//! `cargo xtask demo`: the main job, shown and measured.

use anyhow::Result;

use crate::system::Options;

/// Runs the demonstration; true when everything held.
///
/// # Errors
/// When set-up, build or boot fail.
pub fn run(_options: &Options) -> Result<bool> {
    anyhow::bail!("not yet")
}
