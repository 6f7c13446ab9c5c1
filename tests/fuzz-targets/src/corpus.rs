//! Inputs worth keeping, as text: `corpus/TARGET.hex`, one to a line in hexadecimal.
//!
//! libFuzzer found them: each reached something new when it was kept. Every test run takes them; the
//! example `corpus` turns them into a directory for libFuzzer and back.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Inputs of a target that are kept at most, and the length of one, in bytes.
pub const KEPT_MAX: usize = 150;
/// See [`KEPT_MAX`].
pub const LEN_MAX: usize = 256;

/// Where the inputs of `target` lie.
#[must_use]
pub fn path(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target).with_extension("hex")
}

/// One input as a line.
#[must_use]
pub fn to_line(input: &[u8]) -> String {
    input.iter().fold(String::new(), |mut line, byte| {
        let _ = write!(line, "{byte:02x}");
        line
    })
}

/// A line as an input; `None` if it is not one.
#[must_use]
pub fn from_line(line: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    line.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}
