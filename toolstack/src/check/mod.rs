//! Whether this host can serve guests: what `pilotfishd --check-host` prints, and what the daemon
//! logs when it starts.
//!
//! [`facts`] gathers what is so, and changes nothing; [`judge`] decides what that means.

mod autoballoon;
mod facts;
mod found;
mod judge;
mod line;
mod network;
mod xsm;

use std::process::ExitCode;
use std::sync::Arc;

use crate::config::Config;
use facts::Facts;
use line::{Level, worst};

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

/// Logs what is not as it should be, on a thread of its own: nobody waits for it.
pub fn log_soon(config: &Arc<Config>) {
    let config = Arc::clone(config);
    // Some checks run programs, which may hang; libxl's 10 s do not wait for them.
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
