//! The log: one line for each message on stderr, with time and level. Under systemd the level has the
//! form that journald reads, and journald adds the time.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config;
use crate::text::one_line;

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

/// A message as it is written. Whatever is in it, it is one line: nobody forges another one, or a priority.
fn line(journald: bool, level: Level, message: &str) -> String {
    let message = one_line(message);
    if journald {
        return format!("<{}>{message}\n", priority(level));
    }
    let time = humantime::format_rfc3339_millis(SystemTime::now());
    format!("{time} {level:5} pilotfishd: {message}\n")
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(self.journald, record.level(), &record.args().to_string());
        // Nobody is left to tell if stderr is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_many_lines_is_one_line_of_the_log() {
        let message = "disk a\n<0>kernel: forged\r\n\x1b[2J";
        assert_eq!(line(true, Level::Warn, message), "<4>disk a?<0>kernel: forged???[2J\n");
        let line = line(false, Level::Error, message);
        assert!(line.ends_with(" ERROR pilotfishd: disk a?<0>kernel: forged???[2J\n"), "{line}");
    }
}
