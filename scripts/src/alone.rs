//! What only one run of this program may do at a time.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::{interrupt, ui};

/// Between two looks at a lock that another run has, so that Ctrl-C ends the wait.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Locks that file for as long as what is returned lives, and waits for another run that has it: `what` says what that
/// is busy with.
///
/// # Errors
/// The file cannot be made, or Ctrl-C.
pub fn lock(file: &Path, what: &str) -> Result<File> {
    let lock = File::create(file).with_context(|| format!("cannot make {}", file.display()))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        ui::step(format!("waiting for another xtask to finish {what}"), |_| {
            while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                interrupt::check()?;
                std::thread::sleep(LOOK_EVERY);
            }
            Ok(())
        })?;
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lock");
        let first = lock(&file, "a test").unwrap();
        let path = file.clone();
        let second = std::thread::spawn(move || lock(&path, "a test").map(drop));
        std::thread::sleep(LOOK_EVERY * 2);
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap().unwrap();
    }
}
