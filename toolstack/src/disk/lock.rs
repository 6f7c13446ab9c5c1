//! The lock of Xen's `block` script: a file that is locked by flock and removed by its holder.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// Where the scripts keep it.
const DIR: &str = "/var/run/xen-hotplug";
/// Each holder needs it for moments; libxl waits 10 s for a disk.
const WAIT: Duration = Duration::from_secs(8);

/// The lock, held until dropped.
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// Its holder keeps it for too long, or its file cannot be opened.
    pub fn take() -> Result<Lock> {
        Lock::take_in(Path::new(DIR), WAIT)
    }

    fn take_in(dir: &Path, wait: Duration) -> Result<Lock> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let path = dir.join("block");
        // A thread of its own, because flock has no timeout. A lock that comes too late is released when
        // the thread's send fails and drops the file.
        let (sender, taken) = channel();
        let wanted = path.clone();
        std::thread::spawn(move || drop(sender.send(lock(&wanted))));
        match taken.recv_timeout(wait) {
            Ok(locked) => {
                let file = locked.with_context(|| path.display().to_string())?;
                Ok(Lock { path, _file: file })
            }
            // Disconnected: the thread panicked. Either way there is no lock.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => bail!(
                "{}: locked by another process for {} s; remedy: see which hotplug script hangs",
                path.display(),
                wait.as_secs()
            ),
        }
    }
}

fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        while let Err(e) = flock(&file, FlockOperation::LockExclusive) {
            if e != rustix::io::Errno::INTR {
                return Err(e.into());
            }
        }
        // Its last holder may have removed the file between our open and our lock.
        let mine = file.metadata()?;
        if fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (mine.dev(), mine.ino())) {
            return Ok(file);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If it cannot be removed, the next holder locks the same file, which is as good.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_and_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take_in(dir.path(), WAIT).unwrap();
        assert!(dir.path().join("block").exists());
        drop(first);
        assert!(!dir.path().join("block").exists());
        let _second = Lock::take_in(dir.path(), WAIT).unwrap();
        let late = Lock::take_in(dir.path(), Duration::from_millis(20)).err().expect("held");
        assert!(late.to_string().contains("block: locked"), "{late}");
    }
}
