//! What the daemon logs, looked at.

use std::cell::Cell;

use log::{LevelFilter, Log, Metadata, Record};

/// Longer than any message has a reason to be: some texts of others are quoted with 700 characters.
const LONGEST: usize = 2048;

thread_local! {
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

struct Looks;

/// Has every message of this process looked at from now on.
pub fn start() {
    static LOOKS: Looks = Looks;
    // Fails if it is there already.
    if log::set_logger(&LOOKS).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

/// How many messages this thread has had looked at.
pub fn seen() -> u32 {
    SEEN.get()
}

impl Log for Looks {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        assert!(!text.chars().any(char::is_control), "a control character in the log: {text:?}");
        assert!(text.len() <= LONGEST, "{} bytes in one line of the log: {text:?}", text.len());
        SEEN.set(SEEN.get() + 1);
    }

    fn flush(&self) {}
}
