//! Tarballs of sources that Debian has: from the mirror, or else one that the user put into the cache.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;

use crate::setup::apt::{LazyApt, NotOnMirror};
use crate::setup::cache::Cache;
use crate::setup::{mirror, xen};
use crate::ui;

/// A source that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What it is, for people.
    pub what: &'static str,
    /// Debian's name of the source package, with which the tarball's name begins, too.
    pub package: &'static str,
    /// How a version that fits begins.
    pub version: &'static str,
    /// The name of a tarball that would do.
    pub example: &'static str,
}

/// Neither the mirror nor the user has the source.
#[derive(Debug)]
pub struct NoSource {
    wanted: Wanted,
    own: PathBuf,
    missing: NotOnMirror,
}

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, own, missing } = self;
        write!(
            f,
            "no source of {}: {missing}; set {} to another mirror, put the release tarball ({}) into {}, \
             or try again later",
            wanted.what,
            mirror::MIRROR_ENV,
            wanted.example,
            own.display()
        )
    }
}

impl std::error::Error for NoSource {}

/// The tarball of a source and its version.
///
/// # Errors
/// [`NoSource`] when it cannot be had from a mirror that works; others when the mirror fails.
pub fn tarball(cache: &Cache, apt: &LazyApt, wanted: Wanted) -> Result<(PathBuf, String)> {
    let own = cache.root().join(xen::SOURCES);
    let step = format!("{}: download the source", wanted.what);
    let missing = match ui::step(step, |_| apt.get()?.download_source(wanted.package)) {
        Ok(found) => return Ok(found),
        Err(error) => error.downcast::<NotOnMirror>()?,
    };
    if let Some((tarball, version)) = xen::own_tarball(&own, wanted.package, wanted.version) {
        ui::heading(format!("{missing}: taking {}", tarball.display()));
        return Ok((tarball, version));
    }
    Err(NoSource { wanted, own, missing }.into())
}
