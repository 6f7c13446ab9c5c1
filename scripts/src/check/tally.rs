//! Verdicts, counted, and read from what other programs print.

use std::fmt;

/// Counted verdicts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// They held.
    pub passed: u64,
    /// They did not.
    pub failed: u64,
    /// Not run, because what they need cannot be had here.
    pub skipped: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

impl Tally {
    /// Adds the other's verdicts.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Of one check.
    #[must_use]
    pub fn one(passed: bool) -> Self {
        Self { passed: passed.into(), failed: (!passed).into(), skipped: 0 }
    }
}

/// Reads `N passed, N failed`, perhaps with `, N skipped`: the whole line.
#[must_use]
pub fn summary_line(line: &str) -> Option<Tally> {
    let (passed, rest) = line.trim().split_once(" passed, ")?;
    let (failed, rest) = rest.split_once(" failed")?;
    let skipped = match rest.strip_prefix(", ") {
        Some(rest) => rest.strip_suffix(" skipped")?.parse().ok()?,
        None if rest.is_empty() => 0,
        None => return None,
    };
    Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()?, skipped })
}

/// Reads the last line of one of cargo's test programs.
#[must_use]
pub fn cargo_test_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| -> Option<u64> {
        let field = counts.split(';').map(str::trim);
        field.filter_map(|field| field.strip_suffix(word)).find_map(|number| number.trim().parse().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")?, skipped: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_whole_line() {
        let tally = |passed, failed, skipped| Some(Tally { passed, failed, skipped });
        assert_eq!(summary_line("12 passed, 3 failed"), tally(12, 3, 0));
        assert_eq!(summary_line("12 passed, 3 failed, 4 skipped"), tally(12, 3, 4));
        assert_eq!(summary_line("12 passed, 3 failed, 4"), None);
        assert_eq!(summary_line("scenario: 12 passed, 3 failed"), None);
        assert_eq!(summary_line("12 passed"), None);
    }

    #[test]
    fn cargos_test_results_are_read() {
        let line = "test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(cargo_test_line(line), Some(Tally { passed: 7, failed: 2, skipped: 0 }));
        assert_eq!(cargo_test_line("test a::b ... ok"), None);
    }

    #[test]
    fn verdicts_add_up() {
        let mut tally = Tally::one(true);
        tally.add(Tally::one(false));
        tally.add(Tally { passed: 2, failed: 3, skipped: 5 });
        assert_eq!(tally, Tally { passed: 3, failed: 4, skipped: 5 });
    }
}
