//! The fake xenstored's tree: nodes by absolute path, no permissions.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use kernel::Errno;

/// The nodes. Every parent of a node is a node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tree {
    nodes: BTreeMap<String, Vec<u8>>,
}

/// The path's parent; `None` for the root.
#[must_use]
pub fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

/// Whether `path` is `ancestor` or lies below it.
#[must_use]
pub fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Tree {
    /// A node's value.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn read(&self, path: &str) -> Result<&[u8], Errno> {
        self.nodes.get(path).map(Vec::as_slice).ok_or(Errno::ENOENT)
    }

    /// Sets a node, creating its parents. At most `quota` nodes in all.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn write(&mut self, path: &str, value: &[u8], quota: usize) -> Result<(), Errno> {
        let missing = core::iter::successors(Some(path), |path| parent(path))
            .filter(|path| !path.is_empty() && !self.nodes.contains_key(*path));
        let missing: Vec<_> = missing.map(ToString::to_string).collect();
        if self.nodes.len() + missing.len() > quota {
            return Err(Errno::ENOSPC);
        }
        self.nodes.extend(missing.into_iter().map(|path| (path, Vec::new())));
        self.nodes.insert(path.to_string(), value.to_vec());
        Ok(())
    }

    /// Names of the node's children.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn directory(&self, path: &str) -> Result<Vec<&str>, Errno> {
        self.read(path)?;
        let child = |node: &&String| parent(node) == Some(path);
        Ok(self.nodes.keys().filter(child).filter_map(|node| node.rsplit('/').next()).collect())
    }

    /// Removes the node and everything below it. A node that does not exist is fine if its
    /// parent does.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn rm(&mut self, path: &str) -> Result<(), Errno> {
        if !self.nodes.contains_key(path)
            && !parent(path).is_some_and(|parent| self.nodes.contains_key(parent))
        {
            return Err(Errno::ENOENT);
        }
        self.nodes.retain(|node, _| !is_below(node, path));
        Ok(())
    }

    /// Paths whose value, or whose existence, differs.
    #[must_use]
    pub fn changes(&self, other: &Tree) -> Vec<String> {
        let paths: BTreeSet<_> = self.nodes.keys().chain(other.nodes.keys()).collect();
        paths.into_iter().filter(|path| self.nodes.get(*path) != other.nodes.get(*path)).cloned().collect()
    }
}
