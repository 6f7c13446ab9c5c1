//! xenstore's operations, as a trait, so that tests need no xenstored.

use anyhow::Result;

/// What the daemon does with xenstore. Values are text; what is not UTF-8 is replaced.
pub trait Store: Send + Sync {
    /// The value of a node, or `None` if there is no such node.
    fn read(&self, path: &str) -> Result<Option<String>>;

    /// The names of a node's children; none for an absent node.
    fn list(&self, path: &str) -> Result<Vec<String>>;

    /// Writes a node, creating it and its parents.
    fn write(&self, path: &str, value: &str) -> Result<()>;

    /// Writes a node that dom0 and the domain `reader` alone can read, and dom0 alone can write.
    fn write_for(&self, reader: u16, path: &str, value: &str) -> Result<()>;

    /// Removes a node and all below; an absent one is no error.
    fn remove(&self, path: &str) -> Result<()>;

    /// Removes a node that has no children, in one transaction. Returns whether it did.
    fn remove_if_empty(&self, path: &str) -> Result<bool>;

    /// Writes nodes, in one transaction, if another has the value given. Returns whether it did.
    fn write_if(&self, guard: (&str, &str), nodes: &[(&str, &str)]) -> Result<bool>;

    /// Has changes at and below `path` reported from now on.
    fn watch(&self, path: &str) -> Result<()>;

    /// Ends what [`Store::watch`] began.
    fn unwatch(&self, path: &str) -> Result<()>;

    /// Replaces the value of an existing node by what `new` makes of it, in one transaction.
    /// Returns whether it was written: not if the node is absent or `new` says `None`.
    fn update(&self, path: &str, new: &dyn Fn(&str) -> Option<&'static str>) -> Result<bool>;
}
