//! The end of a stub.

use anyhow::Result;

use super::record;
use super::sweep::sweep;
use super::waiting;
use crate::disk::answer;
use crate::env::Env;

/// Ends service for `guest`: no stub, disks closed, nothing recorded.
///
/// # Errors
/// The stub could not be destroyed; then libxl is not told, and it can be tried again.
pub fn stop(env: &Env<'_>, guest: u16) -> Result<()> {
    let place = waiting::place_of(env.store, env.host, guest)?;
    record::stopping(env.store, guest)?;
    sweep(env, guest)?;
    // Only now: were libxl told first, a rebooting guest could have its new stub while the old one
    // still writes.
    answer::closed(env.store, place)?;
    record::remove(env.store, guest)
}
