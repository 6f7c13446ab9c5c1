//! cpio archives for Linux: a tree in memory, written in the "newc" format.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc::{Builder, trailer};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Archives that follow one another must start at a multiple of this many bytes.
const ALIGN: usize = 512;

#[derive(Clone, Debug)]
enum Node {
    Directory,
    File { content: Content, mode: u32 },
    Symlink(String),
    Character { major: u32, minor: u32 },
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>),
    Path(PathBuf),
}

impl Content {
    fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Path(path) => fs::read(path).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// A file tree to be, everything owned by root.
#[derive(Clone, Debug, Default)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, path: &str, node: Node) {
        let path = path.trim_start_matches('/');
        let mut parent = Path::new(path);
        while let Some(up) = parent.parent().filter(|up| !up.as_os_str().is_empty()) {
            let name = up.to_string_lossy().into_owned();
            self.0.entry(name).or_insert(Node::Directory);
            parent = up;
        }
        self.0.insert(path.to_owned(), node);
    }

    /// Adds a directory and its parents.
    pub fn directory(&mut self, path: &str) {
        self.insert(path, Node::Directory);
    }

    /// Adds a file with the given content and permission bits.
    pub fn bytes(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) {
        let content = Content::Bytes(content.into());
        self.insert(path, Node::File { content, mode });
    }

    /// Adds a copy of the file `from`, with its permission bits; symbolic links followed.
    ///
    /// # Errors
    /// When `from` does not exist.
    pub fn file(&mut self, path: &str, from: &Path) -> Result<()> {
        let metadata = fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mode = metadata.permissions().mode() & 0o777;
        let content = Content::Path(from.to_path_buf());
        self.insert(path, Node::File { content, mode });
        Ok(())
    }

    /// Adds every file of the directory `from`, not its subdirectories.
    ///
    /// # Errors
    /// When `from` cannot be read.
    pub fn files_of(&mut self, path: &str, from: &Path) -> Result<()> {
        let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.path().is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                self.file(&format!("{path}/{name}"), &entry.path())?;
            }
        }
        Ok(())
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.insert(path, Node::Symlink(target.to_owned()));
    }

    /// Adds a character device.
    pub fn character(&mut self, path: &str, major: u32, minor: u32) {
        self.insert(path, Node::Character { major, minor });
    }

    /// Writes the archive, padded so that another one may follow.
    ///
    /// # Errors
    /// When a file cannot be read or `out` not be written.
    pub fn write(&self, out: impl Write) -> Result<()> {
        let mut out = Counted { out, written: 0 };
        for (inode, (path, node)) in (1..).zip(&self.0) {
            let entry = Builder::new(path).ino(inode).nlink(1);
            let (entry, data) = match node {
                Node::Directory => (entry.mode(DIRECTORY | 0o755), Vec::new()),
                Node::Symlink(to) => (entry.mode(SYMLINK | 0o777), to.clone().into_bytes()),
                Node::Character { major, minor } => {
                    (entry.mode(CHARACTER | 0o600).rdev_major(*major).rdev_minor(*minor), Vec::new())
                }
                Node::File { content, mode } => (entry.mode(REGULAR | mode), content.bytes()?),
            };
            let size = u32::try_from(data.len()).context("a file of 4 GiB or more")?;
            let mut writer = entry.write(&mut out, size);
            writer.write_all(&data)?;
            writer.finish()?;
        }
        trailer(&mut out)?;
        let padding = out.written.next_multiple_of(ALIGN) - out.written;
        out.write_all(&vec![0; padding])?;
        out.flush()?;
        Ok(())
    }

    /// The archive as bytes; see [`Tree::write`].
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }
}

struct Counted<W> {
    out: W,
    written: usize,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.out.write(data)?;
        self.written = self.written.saturating_add(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: &[u8]) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut rest = archive;
        loop {
            let reader = cpio::newc::Reader::new(rest)?;
            if reader.entry().is_trailer() {
                return Ok(names);
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish()?;
        }
    }

    #[test]
    fn parents_come_before_their_children() -> Result<()> {
        let mut tree = Tree::new();
        tree.bytes("/a/b/c", "x", 0o644);
        tree.symlink("/a/l", "b/c");
        assert_eq!(names(&tree.to_bytes()?)?, ["a", "a/b", "a/b/c", "a/l"]);
        Ok(())
    }

    #[test]
    fn another_archive_may_follow() -> Result<()> {
        let mut tree = Tree::new();
        tree.bytes("f", "12345", 0o644);
        assert_eq!(tree.to_bytes()?.len() % ALIGN, 0);
        Ok(())
    }
}
