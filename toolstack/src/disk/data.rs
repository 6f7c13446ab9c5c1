//! A disk's data in dom0: a block device or a raw image, opened and judged.

use std::fs::{self, File, Metadata};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{ioctl_blksszget, major, minor};

/// An image is a whole number of these, in bytes: loop devices have such blocks.
const SECTOR: u64 = 512;

/// A device's major and minor number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Number(pub u32, pub u32);

impl Number {
    /// As it stands in sysfs and mountinfo: decimal.
    pub fn decimal(text: &str) -> Option<Number> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Number(major.parse().ok()?, minor.parse().ok()?))
    }

    /// As blkback reads it: hexadecimal.
    pub fn hex(text: &str) -> Option<Number> {
        let (major, minor) = text.split_once(':')?;
        Some(Number(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?))
    }

    /// For blkback.
    pub fn to_hex(self) -> String {
        format!("{:x}:{:x}", self.0, self.1)
    }

    /// Of the block device at `path`, if there is one.
    pub fn of_node(path: &Path) -> Option<Number> {
        match DataId::of(&fs::metadata(path).ok()?) {
            DataId::Device(number) => Some(number),
            DataId::File(..) => None,
        }
    }
}

/// What makes data the same, whatever the path that leads to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DataId {
    /// A block device.
    Device(Number),
    /// A file, by its file system's number and its inode's.
    File(u64, u64),
}

impl DataId {
    /// Of the file or device with this metadata.
    pub fn of(meta: &Metadata) -> DataId {
        if meta.file_type().is_block_device() {
            DataId::Device(Number(major(meta.rdev()), minor(meta.rdev())))
        } else {
            DataId::File(meta.dev(), meta.ino())
        }
    }
}

/// Data that a disk can have. While this exists the file is open, so no other file gets its identity.
#[derive(Debug)]
pub struct Data {
    /// Its path as it was asked for: for messages.
    pub asked: String,
    /// Its path, links followed.
    pub path: PathBuf,
    /// What it is.
    pub identity: DataId,
    _file: File,
}

impl Data {
    /// Opens the data at `path` and judges whether it can be a disk: of whole blocks, not empty, and
    /// not protected from writing if it is to be written.
    ///
    /// # Errors
    /// One line that begins with the path.
    pub fn open(path: &str, write: bool) -> Result<Data> {
        Data::judged(path, write).with_context(|| path.to_owned())
    }

    fn judged(asked: &str, write: bool) -> Result<Data> {
        let path = fs::canonicalize(asked)?;
        // Before it is opened: opening a device of another kind may have effects of its own.
        let meta = fs::metadata(&path)?;
        let identity = DataId::of(&meta);
        let is_device = matches!(identity, DataId::Device(_));
        ensure!(is_device || meta.is_file(), "neither a block device nor a raw image");
        if write && !is_device && meta.mode() & 0o222 == 0 {
            // root could write it, but somebody took the permission away on purpose.
            bail!("write-protected (mode {:04o}), but access=rw", meta.mode() & 0o7777);
        }
        let mut file =
            File::options().read(true).write(write && !is_device).open(&path).with_context(|| {
                if write && !is_device { "cannot be opened for writing" } else { "cannot be opened" }
            })?;
        ensure!(DataId::of(&file.metadata()?) == identity, "was replaced while it was checked");
        let block = match identity {
            DataId::Device(_) => u64::from(ioctl_blksszget(&file).context("its block size")?),
            DataId::File(..) => SECTOR,
        };
        let bytes = file.seek(SeekFrom::End(0)).context("its length")?;
        ensure!(bytes > 0, "length of 0 bytes: there is nothing in it");
        ensure!(bytes % block == 0, "length of {bytes} bytes: no multiple of its blocks of {block} bytes");
        // Last: a loop device keeps this mark when nothing is behind it any more. Then the length above
        // is the better reason.
        if let DataId::Device(number) = identity
            && write
            && read_only(number)
        {
            bail!("a read-only device, but access=rw");
        }
        Ok(Data { asked: asked.to_owned(), path, identity, _file: file })
    }
}

/// Whether the kernel refuses every write to the device.
fn read_only(Number(major, minor): Number) -> bool {
    fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro")).is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn image(dir: &tempfile::TempDir, name: &str, bytes: usize, mode: u32) -> String {
        let path = dir.path().join(name);
        fs::write(&path, vec![0; bytes]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn an_image_that_nobody_may_write_can_only_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let golden = image(&dir, "golden.img", 1024, 0o444);
        let error = format!("{:#}", Data::open(&golden, true).unwrap_err());
        assert!(error.starts_with(&golden) && error.contains("write-protected (mode 0444)"), "{error}");
        Data::open(&golden, false).unwrap();
        for mode in [0o600, 0o644] {
            Data::open(&image(&dir, "a.img", 1024, mode), true).unwrap();
        }
    }

    #[test]
    fn data_of_no_good_length_or_kind_is_refused_with_it() {
        let dir = tempfile::tempdir().unwrap();
        for (path, what) in [
            (image(&dir, "empty", 0, 0o644), "length of 0 bytes"),
            (image(&dir, "odd", 1000, 0o644), "length of 1000 bytes"),
            ("/dev/null".to_owned(), "neither"),
            (dir.path().to_str().unwrap().to_owned(), "neither"),
            (dir.path().join("none").to_str().unwrap().to_owned(), "No such file"),
        ] {
            let error = format!("{:#}", Data::open(&path, false).unwrap_err());
            assert!(error.starts_with(&path) && error.contains(what), "{error}");
        }
    }

    #[test]
    fn the_same_data_is_known_by_any_of_its_paths() {
        let dir = tempfile::tempdir().unwrap();
        let first = image(&dir, "a.img", 512, 0o644);
        let other = dir.path().join("b.img");
        fs::hard_link(&first, &other).unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("c.img")).unwrap();
        let identity =
            |name: &str| Data::open(dir.path().join(name).to_str().unwrap(), true).unwrap().identity;
        assert_eq!(identity("a.img"), identity("b.img"));
        assert_eq!(identity("a.img"), identity("c.img"));
    }

    #[test]
    fn numbers_are_decimal_in_sysfs_and_hexadecimal_for_blkback() {
        assert_eq!(Number::decimal("254:16\n"), Some(Number(254, 16)));
        assert_eq!(Number::hex("fe:10"), Some(Number(254, 16)));
        assert_eq!(Number(254, 16).to_hex(), "fe:10");
        assert_eq!((Number::decimal("7"), Number::hex("")), (None, None));
    }
}
