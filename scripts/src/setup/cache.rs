//! The cache: entries keyed by their recipe, each made in a temporary directory and
//! renamed into place, so an interrupted step leaves nothing half done.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::statvfs;
use sha2::{Digest, Sha256};

use crate::{alone, interrupt, paths};

/// Raised when entries change in a way their recipes do not show.
const FORMAT: u32 = 1;

/// The opened cache, locked against other runs of this program.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens the cache, waits for another run to let go of it, and removes what an
    /// interrupted one left.
    ///
    /// # Errors
    /// When the directory cannot be made or locked.
    pub fn open() -> Result<Self> {
        Self::open_at(&paths::cache()?)
    }

    /// Opens the cache at `root`; see [`Cache::open`].
    ///
    /// # Errors
    /// When the directory cannot be made or locked.
    pub fn open_at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| {
            format!("cannot make the cache {}; set XDG_CACHE_HOME to a writable place", root.display())
        })?;
        let lock = alone::lock(&root.join("lock"), "its set-up")?;
        for leftover in fs::read_dir(root)?.flatten() {
            if leftover.file_name().to_string_lossy().starts_with("tmp-") {
                fs::remove_dir_all(leftover.path())?;
            }
        }
        Ok(Self { root: root.to_path_buf(), _lock: lock })
    }

    /// The cache's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of an entry, and whether it is complete.
    #[must_use]
    pub fn lookup(&self, name: &str, recipe: &str) -> (PathBuf, bool) {
        let path = self.root.join(format!("{name}-{}", key(recipe)));
        let complete = path.is_dir();
        (path, complete)
    }

    /// Returns the entry `name` made by `recipe`; makes it when it is not there.
    ///
    /// `make` fills an empty directory; `need_mib` is the disk space it takes, in MiB.
    ///
    /// # Errors
    /// When disk space is short, or `make` fails: then no entry is left.
    pub fn entry(
        &self,
        name: &str,
        recipe: &str,
        need_mib: u64,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let (path, complete) = self.lookup(name, recipe);
        if complete {
            return Ok(path);
        }
        self.check_space(need_mib)?;
        let temporary = self.root.join(format!("tmp-{name}"));
        fs::create_dir_all(&temporary)?;
        let made = make(&temporary).and_then(|()| interrupt::check());
        if let Err(error) = made {
            keep_log(&temporary, name);
            // What cannot be removed now is removed by the next run.
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        fs::rename(&temporary, &path)?;
        Ok(path)
    }

    fn check_space(&self, need_mib: u64) -> Result<()> {
        let stat = statvfs(&self.root)?;
        let free_mib = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
        if free_mib < need_mib {
            bail!(
                "{need_mib} MiB are needed in {} and {free_mib} MiB are free; \
                 free some space, or set XDG_CACHE_HOME to a larger disk",
                self.root.display()
            );
        }
        Ok(())
    }
}

/// Copies the logs of a failed step to the target directory, where the user looks.
fn keep_log(temporary: &Path, name: &str) {
    let Ok(files) = fs::read_dir(temporary) else {
        return;
    };
    for file in files.flatten() {
        if file.path().extension().is_some_and(|ext| ext == "log") {
            let to = paths::logs().join(format!("setup-{name}.log"));
            // Best effort: the error itself carries the end of the log.
            let _ = fs::create_dir_all(paths::logs()).and_then(|()| fs::copy(file.path(), to));
        }
    }
}

/// The key of a recipe: the first 12 hex digits of its SHA-256.
#[must_use]
pub fn key(recipe: &str) -> String {
    let digest = Sha256::digest(format!("{FORMAT}\n{recipe}"));
    digest.iter().take(6).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_recipe_has_another_key() {
        assert_eq!(key("a"), key("a"));
        assert_ne!(key("a"), key("b"));
        assert_eq!(key("a").len(), 12);
    }

    #[test]
    fn an_entry_is_made_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let cache = Cache::open_at(dir.path())?;
        let make = |path: &Path| Ok(fs::write(path.join("file"), "x")?);
        let path = cache.entry("e", "r", 0, make)?;
        assert_eq!(fs::read(path.join("file"))?, b"x");
        let again = cache.entry("e", "r", 0, |_| bail!("made twice"))?;
        assert_eq!(again, path);
        Ok(())
    }

    #[test]
    fn a_failed_entry_leaves_nothing() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let cache = Cache::open_at(dir.path())?;
        let failed = cache.entry("e", "r", 0, |path| {
            fs::write(path.join("half"), "x")?;
            bail!("no")
        });
        assert!(failed.is_err());
        assert!(!cache.lookup("e", "r").1);
        assert!(!dir.path().join("tmp-e").exists());
        Ok(())
    }

    #[test]
    fn an_interrupted_run_is_tidied_by_the_next() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("tmp-e"))?;
        Cache::open_at(dir.path())?;
        assert!(!dir.path().join("tmp-e").exists());
        Ok(())
    }

    #[test]
    fn too_little_space_is_told_with_the_remedy() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let cache = Cache::open_at(dir.path())?;
        let Err(error) = cache.entry("e", "r", u64::MAX, |_| Ok(())) else {
            bail!("made an entry larger than the disk");
        };
        assert!(error.to_string().contains("XDG_CACHE_HOME"));
        Ok(())
    }
}
