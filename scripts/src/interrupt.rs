//! Ctrl-C and termination: every child process group we started is ended, once.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::terminal;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// How long an interrupted command may take to tidy up before it is ended.
const GRACE: Duration = Duration::from_secs(4);

/// Exit status of an interrupted command, as shells have it (128 + SIGINT).
pub const EXIT_STATUS: u8 = 130;

/// Installs the handler for SIGINT, SIGTERM and SIGHUP.
///
/// # Errors
/// When a handler is installed already.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Ordering::SeqCst);
        signal_all(Signal::TERM);
        thread::spawn(|| {
            thread::sleep(GRACE);
            signal_all(Signal::KILL);
            terminal::restore();
            std::process::exit(i32::from(EXIT_STATUS));
        });
    })?;
    Ok(())
}

fn signal_all(signal: Signal) {
    let groups = GROUPS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for group in groups.iter().filter_map(|&raw| Pid::from_raw(raw)) {
        // A group that has just ended is no error.
        let _ = kill_process_group(group, signal);
    }
}

/// Whether an interrupt has arrived.
#[must_use]
pub fn seen() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Returns an error once an interrupt has arrived.
///
/// # Errors
/// "interrupted", when it has.
pub fn check() -> Result<()> {
    if seen() {
        bail!("interrupted");
    }
    Ok(())
}

/// A child's process group, ended by an interrupt while this value lives.
#[derive(Debug)]
pub struct Group(i32);

impl Group {
    /// Registers the process group that `child` leads.
    #[must_use]
    pub fn of(child: &std::process::Child) -> Self {
        let pid = i32::try_from(child.id()).unwrap_or(0);
        GROUPS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(pid);
        let group = Self(pid);
        if seen() {
            group.signal(Signal::KILL);
        }
        group
    }

    /// The process that leads it.
    #[must_use]
    pub fn leader(&self) -> u32 {
        self.0.unsigned_abs()
    }

    /// Sends `signal` to every process of the group.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.0) {
            // A group that has just ended is no error.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        GROUPS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.0);
    }
}
