//! `log` on the PV console, with a limit that a hot guest cannot exhaust: lines beyond the
//! budget are counted, not written.

use core::cell::Cell;
use log::LevelFilter;

/// Lines that may come at once.
const BURST_LINES: u64 = 100;
/// Lines per second after that.
const LINES_PER_S: u64 = 10;

/// A token bucket over all call sites: a limit per site would grow with their number.
struct Budget {
    /// In thousandths of a line.
    tokens: Cell<u64>,
    filled_ns: Cell<u64>,
    dropped: Cell<u64>,
}

const LINE: u64 = 1000;

impl Budget {
    const fn new() -> Budget {
        Budget { tokens: Cell::new(BURST_LINES * LINE), filled_ns: Cell::new(0), dropped: Cell::new(0) }
    }

    /// Whether a line may be written at `now_ns`, and how many were dropped before it.
    fn take(&self, now_ns: u64) -> Option<u64> {
        let elapsed_ns = now_ns.saturating_sub(self.filled_ns.get());
        let earned = (elapsed_ns / 1_000_000).saturating_mul(LINES_PER_S * LINE / 1000);
        if earned > 0 {
            self.filled_ns.set(now_ns);
            self.tokens.set(self.tokens.get().saturating_add(earned).min(BURST_LINES * LINE));
        }
        match self.tokens.get().checked_sub(LINE) {
            Some(rest) => {
                self.tokens.set(rest);
                Some(self.dropped.take())
            }
            None => {
                self.dropped.set(self.dropped.get().saturating_add(1));
                None
            }
        }
    }
}

/// The level that a `log=` option names; `info` if there is none or it is not known.
fn level(option: Option<&str>) -> LevelFilter {
    option.and_then(|name| name.parse().ok()).unwrap_or(LevelFilter::Info)
}

#[cfg(target_os = "none")]
mod global {
    use super::super::console;
    use super::{Budget, level};
    use crate::mem::uni_cell::UniCell;
    use crate::time;
    use log::{Log, Metadata, Record};

    static BUDGET: UniCell<Budget> = UniCell::new(Budget::new());

    struct Logger;

    impl Log for Logger {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= log::max_level()
        }

        fn log(&self, record: &Record<'_>) {
            if self.enabled(record.metadata()) {
                let now_ns = time::now_ns();
                if let Some(dropped) = BUDGET.with(|budget| budget.take(now_ns)).flatten() {
                    write(record, now_ns, dropped);
                }
            }
        }

        fn flush(&self) {
            if let Some(dropped @ 1..) = BUDGET.with(|budget| budget.dropped.take()) {
                console::print(format_args!("({dropped} lines dropped)\n"));
            }
        }
    }

    /// Writes one line.
    fn write(record: &Record<'_>, now_ns: u64, dropped: u64) {
        if dropped > 0 {
            console::print(format_args!("({dropped} lines dropped)\n"));
        }
        let (level, target, text) = (record.level(), record.target(), record.args());
        let (s, us) = (now_ns / 1_000_000_000, now_ns / 1000 % 1_000_000);
        console::print(format_args!("[{s:>4}.{us:06}] {level:<5} {target}: {text}\n"));
    }

    /// Makes `log` write to the console.
    pub(crate) fn init(option: Option<&str>) {
        if log::set_logger(&Logger).is_ok() {
            log::set_max_level(level(option));
        }
    }
}
#[cfg(target_os = "none")]
pub(crate) use global::init;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_lines_come_at_the_rate() {
        let budget = Budget::new();
        let now = 1_000_000_000_000;
        for _ in 0..BURST_LINES {
            assert_eq!(budget.take(now), Some(0));
        }
        for _ in 0..50 {
            assert_eq!(budget.take(now), None);
        }
        // A tenth of a second earns one line, which tells of the fifty.
        assert_eq!(budget.take(now + 100_000_000), Some(50));
        assert_eq!(budget.take(now + 100_000_001), None);
        assert_eq!(budget.take(now + 3_600_000_000_000), Some(1));
    }

    #[test]
    fn an_unknown_level_reads_as_info() {
        assert_eq!(level(Some("debug")), LevelFilter::Debug);
        assert_eq!(level(Some("shout")), LevelFilter::Info);
        assert_eq!(level(None), LevelFilter::Info);
    }
}
