//! The result of one check.

/// How bad it is; the worst comes last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Something does not work, or it is not known whether it does.
    Warning,
    /// Guests cannot be served.
    Fault,
}

/// What was found about one thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// What it is about.
    pub what: &'static str,
    /// What was found, and the remedy if something is wrong.
    pub text: String,
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

/// The worst of all; `Ok` of none.
#[must_use]
pub fn worst(lines: &[Line]) -> Level {
    lines.iter().map(|line| line.level).max().unwrap_or(Level::Ok)
}
