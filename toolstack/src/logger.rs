//! The log: one line for each message on stderr, with time and level. Under systemd the level has the
//! form that journald reads, and journald adds the time.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config;

struct Logger {
    journald: bool,
}

/// Starts logging; `JOURNAL_STREAM` says that stderr leads to journald.
pub fn start(level: config::Level) {
    let journald = std::env::var_os("JOURNAL_STREAM").is_some();
    log::set_max_level(match level {
        config::Level::Error => LevelFilter::Error,
        config::Level::Warn => LevelFilter::Warn,
        config::Level::Info => LevelFilter::Info,
        config::Level::Debug => LevelFilter::Debug,
        config::Level::Trace => LevelFilter::Trace,
    });
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    // Fails only if a logger exists, and there is no other call.
    let _ = log::set_logger(LOGGER.get_or_init(|| Logger { journald }));
}

/// The priority of sd-daemon(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = if self.journald {
            format!("<{}>{}\n", priority(record.level()), record.args())
        } else {
            let time = humantime::format_rfc3339_millis(SystemTime::now());
            format!("{time} {:5} pilotfishd: {}\n", record.level(), record.args())
        };
        // Nobody is left to tell if stderr is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
