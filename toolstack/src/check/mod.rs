//! Whether this host can serve guests: what `pilotfishd --check-host` prints, and what the daemon
//! logs when it starts.
//!
//! [`facts`] looks, and changes nothing; [`judge`] decides what that means, without looking.

mod facts;
mod judge;
mod xsm;

use std::process::ExitCode;
use std::sync::Arc;

use crate::config::Config;
use facts::Facts;

/// How bad it is; the worst comes last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Level {
    /// As it should be.
    Ok,
    /// Something does not work, or cannot be told.
    Warning,
    /// Guests cannot be served.
    Fault,
}

/// What was found about one thing.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Line {
    level: Level,
    /// What it is about.
    what: &'static str,
    /// What was found, and the remedy where there is something to mend.
    text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Fault => "FAULT",
        };
        write!(f, "{level:8} {}: {}", self.what, self.text)
    }
}

/// Prints a line for each check. The status tells the worst: 0 all is well, 1 guests cannot be
/// served, 3 only warnings.
#[must_use]
pub fn print(config: &Config) -> ExitCode {
    let lines = judge::judge(&Facts::gather(config));
    for line in &lines {
        println!("{line}");
    }
    match worst(&lines) {
        Level::Ok => ExitCode::SUCCESS,
        Level::Warning => ExitCode::from(3),
        Level::Fault => ExitCode::FAILURE,
    }
}

/// Has a thread of its own log what is not as it should be: nobody waits for it.
pub fn log_soon(config: &Arc<Config>) {
    let config = Arc::clone(config);
    std::thread::spawn(move || {
        let from = std::time::Instant::now();
        for line in judge::judge(&Facts::gather(&config)) {
            let level = match line.level {
                Level::Ok => log::Level::Debug,
                Level::Warning => log::Level::Warn,
                Level::Fault => log::Level::Error,
            };
            log::log!(level, "this host: {}: {}", line.what, line.text);
        }
        log::debug!("this host was checked in {} ms", from.elapsed().as_millis());
    });
}

fn worst(lines: &[Line]) -> Level {
    lines.iter().map(|line| line.level).max().unwrap_or(Level::Ok)
}
