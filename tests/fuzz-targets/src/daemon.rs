//! The daemon in dom0, in a fake world: the rules are in the toolstack's own `testkit`.

use pilotfish_toolstack::testkit;

/// A guest and its stub write what they may to xenstore. Returns whether the guest was served all the same.
///
/// # Panics
/// If a rule of the testkit is broken.
#[must_use]
pub fn daemon_nodes(data: &[u8]) -> bool {
    testkit::any_nodes(data)
}

/// A guest's disk line leads anywhere. Returns whether it was served.
///
/// # Panics
/// If a rule of the testkit is broken.
#[must_use]
pub fn disk_lines(data: &[u8]) -> bool {
    testkit::any_disk(data)
}
