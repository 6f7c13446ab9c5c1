//! What was found out, and what it means.

use super::line::Level;

/// A fact, or why it could not be found out.
pub type Found<T> = Result<T, String>;

/// How bad it is, and one line about it.
pub type Verdict = (Level, String);

/// Nothing is to be done.
pub fn ok(text: impl Into<String>) -> Verdict {
    (Level::Ok, text.into())
}

/// Something will not work.
pub fn warning(text: impl Into<String>) -> Verdict {
    (Level::Warning, text.into())
}

/// No guest can be served.
pub fn fault(text: impl Into<String>) -> Verdict {
    (Level::Fault, text.into())
}
