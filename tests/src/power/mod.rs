//! The power failure test's writer (in the guest) and checker (in dom0): one program, so that
//! both know what each write was to hold.
//!
//! A writer writes a *record*, flushes, and only after the flush has returned tells the record's
//! number on its console ([`ack`]). Then something is killed. The checker looks at what storage
//! holds and decides, sector by sector ([`raw`]) and file by file ([`files`]):
//!
//! - what was acknowledged is there, or something newer;
//! - every sector is whole: each carries its own stamp and checksum ([`stamp`]);
//! - nothing has been written after the writer's end, once the checker had looked.
//!
//! What a record holds follows from its name alone ([`plan`]), so a number is all that has to
//! get out of the dying guest. The runs of the guest are counted (*epochs*), and the checker
//! remembers what it found after each, so that the next epoch's check covers what this one left alone.

pub mod ack;
pub mod files;
pub mod plan;
pub mod raw;
pub mod stamp;

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// When something was written: which epoch, which record of its writer.
/// `Version::NEVER` is older than every other.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// The run of the guest, from 1.
    pub epoch: u32,
    /// The record of that epoch, from 1.
    pub seq: u32,
}

impl Version {
    /// Not written yet.
    pub const NEVER: Self = Self { epoch: 0, seq: 0 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

/// Counts of a check.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// Units (sectors or files) that had to hold something and were looked at.
    pub checked: u64,
    /// Of these, how many the newest epoch had been told to be safe.
    pub acked: u64,
    /// Units newer than they had to be: written, not acknowledged.
    pub newer: u64,
    /// What broke a rule, each with where and how.
    pub violations: Vec<String>,
}

impl Verdict {
    /// Judges one unit: it had to hold `required` at least, and holds `found`.
    fn judge(&mut self, place: &dyn fmt::Display, required: Version, found: Version, epoch: u32) {
        if required != Version::NEVER {
            self.checked += 1;
        }
        if required.epoch == epoch {
            self.acked += 1;
        }
        if found < required {
            self.violations.push(format!("{place}: lost: holds {found}, had to hold {required}"));
        } else if found > required {
            self.newer += 1;
            if found.epoch != epoch {
                self.violations.push(format!("{place}: late: changed to {found} after epoch {epoch} began"));
            }
        }
    }
}

/// What the checker remembers between two epochs: a version for each unit.
///
/// # Errors
/// When the file is there but is not one of ours for `units` units.
pub fn remembered(path: &Path, units: usize) -> Result<Vec<Version>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![Version::NEVER; units]),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let versions: Option<Vec<Version>> = text
        .split_whitespace()
        .map(|word| {
            let (epoch, seq) = word.split_once('.')?;
            Some(Version { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? })
        })
        .collect();
    match versions {
        Some(versions) if versions.len() == units => Ok(versions),
        _ => bail!("{} does not hold {units} versions", path.display()),
    }
}

/// Remembers `versions` for the next check.
///
/// # Errors
/// When the file cannot be written.
pub fn remember(path: &Path, versions: &[Version]) -> Result<()> {
    let words: Vec<String> = versions.iter().map(Version::to_string).collect();
    fs::write(path, words.join("\n")).with_context(|| format!("cannot write {}", path.display()))
}
