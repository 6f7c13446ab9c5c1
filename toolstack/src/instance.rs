//! One daemon on a host: two would each remove the stubs that the other is making.
//!
//! The daemon holds a lock (flock) on a file for as long as it lives. The kernel releases it
//! however the daemon ends, and its children do not inherit it: an `xl` that outlives a killed
//! daemon keeps nobody out. The file is the same for every configuration and stays when the
//! daemon has gone; it holds the process id, for people.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::text::short_number;

/// Locked by the daemon.
pub const LOCK_FILE: &str = "/run/pilotfishd.pid";
/// How long another holder is waited for: a predecessor that was killed may still be about to end, and
/// `--check-host` takes the lock for a moment.
const CLAIM_TIMEOUT: Duration = Duration::from_millis(500);
/// How often it is tried during that time.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// The right to be this host's daemon, held until dropped.
#[derive(Debug)]
pub struct Instance {
    _file: File,
}

impl Instance {
    /// Becomes this host's daemon, whose lock is `path`.
    ///
    /// # Errors
    /// Another one runs; or the file cannot be made.
    pub fn claim(path: &Path) -> Result<Instance> {
        let mut options = File::options();
        // Not emptied before it is ours: its holder's number stands there. Whoever may open it may
        // lock it, so nobody else may.
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options
            .open(path)
            .with_context(|| format!("{}: pilotfishd must run as root in dom0", path.display()))?;
        let give_up = Instant::now() + CLAIM_TIMEOUT;
        while !lock(&file, FlockOperation::NonBlockingLockExclusive)? {
            if Instant::now() >= give_up {
                bail!(
                    "another pilotfishd runs already ({}); one serves all guests of a host: end that one first, \
                     e.g. by `systemctl stop pilotfishd`",
                    holder(&file)
                );
            }
            std::thread::sleep(TRY_EVERY);
        }
        let number = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(number.as_bytes()))?;
        Ok(Instance { _file: file })
    }
}

/// Who holds the lock `path`, if somebody does.
///
/// # Errors
/// The file is there and cannot be opened.
pub fn running(path: &Path) -> Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    let free = lock(&file, FlockOperation::NonBlockingLockShared)?;
    Ok((!free).then(|| holder(&file)))
}

/// Takes the lock; returns false if another process has it.
fn lock(file: &File, how: FlockOperation) -> Result<bool> {
    loop {
        match flock(file, how) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e).context("lock"),
        }
    }
}

/// The process that locked `file`, as it says itself.
fn holder(file: &File) -> String {
    let mut text = String::new();
    // Whatever stands there is for people only.
    let _ = file.take(20).read_to_string(&mut text);
    short_number(&text).map_or("of unknown process id".to_owned(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_second_one_is_refused_with_the_firsts_number_until_that_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        assert_eq!(running(&path).unwrap(), None);
        let first = Instance::claim(&path).unwrap();
        let me = format!("process {}", std::process::id());
        let refusal = Instance::claim(&path).unwrap_err().to_string();
        assert!(refusal.contains("runs already") && refusal.contains(&me), "{refusal}");
        assert_eq!(running(&path).unwrap(), Some(me));
        drop(first);
        // A child of another test has the file open until it runs its own program.
        let free = || running(&path).unwrap().is_none();
        assert!((0..50).any(|_| free() || {
            std::thread::sleep(TRY_EVERY);
            false
        }));
        drop(Instance::claim(&path).unwrap());
    }

    #[test]
    fn a_number_longer_or_shorter_than_the_last_ones_is_written_whole_and_no_number_is_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::fs::write(&path, "4194303999999 and more").unwrap();
        let first = Instance::claim(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        std::fs::write(&path, "\u{1b}[31m").unwrap();
        assert_eq!(running(&path).unwrap().unwrap(), "of unknown process id");
        drop(first);
    }

    #[test]
    fn a_child_that_outlives_the_daemon_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let first = Instance::claim(&path).unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        drop(first);
        let second = Instance::claim(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        second.unwrap();
    }

    #[test]
    fn one_that_is_about_to_end_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let first = Instance::claim(&path).unwrap();
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(60));
            drop(first);
        });
        Instance::claim(&path).unwrap();
        ends.join().unwrap();
    }
}
