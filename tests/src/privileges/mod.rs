//! What Xen answers to each hypercall, by who asks and about whom: the table that the scenario
//! `hostile-walk` is held to, and from which `docs/privileges.md` is made.
//!
//! - [`table`]: the file `tests/privileges.tsv`, and how a run's answers get into it.
//! - [`document`]: the document.
//! - [`explained`]: what the document says of why something is allowed.

pub mod document;
pub mod explained;
pub mod table;

use std::path::PathBuf;

/// The tests' folder.
fn tests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The table in the repository.
#[must_use]
pub fn table_path() -> PathBuf {
    tests().join("privileges.tsv")
}

/// The document that is made from it.
#[must_use]
pub fn document_path() -> PathBuf {
    tests().join("../docs/privileges.md")
}
