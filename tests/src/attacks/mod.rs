//! `cargo xtask attack`: the suites of attacks, what each attack tries, and one table of what came of them.
//!
//! - [`preambles`]: what each attack tries, read where the attack is.
//! - [`table`]: the table.
//! - [`record`]: what came of each attack where it was made last, as a file.
//! - [`document`]: the document that is made from that file.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use record::{Record, Records};

pub mod document;
pub mod preambles;
pub mod record;
pub mod table;

/// The file of [`Records`].
#[must_use]
pub fn records_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("attacks.tsv")
}

/// The document that is made from it.
#[must_use]
pub fn document_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/attacks.md")
}

/// What the file holds.
///
/// # Errors
/// When it cannot be read.
pub fn records() -> Result<Records> {
    let path = records_path();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| path.display().to_string())
}

/// Takes these into the file, and makes the document anew.
///
/// # Errors
/// When either cannot be read or written.
pub fn keep(new: impl IntoIterator<Item = Record>) -> Result<()> {
    let mut records = records()?;
    for record in new {
        records.take(record);
    }
    fs::write(records_path(), records.to_string())?;
    let path = document_path();
    let before = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    fs::write(&path, document::update(&before, &records)?)?;
    Ok(())
}

/// A scenario whose attacks are counted one by one.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// The scenario's name.
    pub scenario: &'static str,
    /// Where its attacks are: files or folders of Rust, or scripts, with a space between them.
    pub source: &'static str,
}

const fn suite(scenario: &'static str, source: &'static str) -> Suite {
    Suite { scenario, source }
}

/// Every suite, in the order of the table: each scenario whose name begins with `hostile-`.
pub const SUITES: &[Suite] = &[
    suite("hostile-guest", "tests/frontend/src/attacks"),
    suite("hostile-guest-vcpus", "tests/frontend/src/attacks/vcpus"),
    suite("hostile-guest-grants", "tests/frontend/src/attacks/grants"),
    suite("hostile-blkback", "tests/hostile/src/blkback/attacks.rs"),
    suite("hostile-nbd", "tests/hostile-net/src/nbd/negotiation.rs tests/qemu/hostile-nbd.sh"),
    suite("hostile-nbd-replies", "tests/hostile-net/src/nbd/replies.rs tests/hostile-net/src/nbd/streams.rs"),
    suite("hostile-netback", "tests/hostile/src/netback/attacks.rs"),
    suite("hostile-network", "tests/hostile-net/src/frames tests/qemu/hostile-network.sh"),
    suite("hostile-stub", "tests/hostile/src/stub/device"),
    suite("hostile-stub-lives", "tests/hostile/src/stub/life.rs"),
    suite("hostile-stub-daemon", "tests/hostile/src/stub/daemon.rs"),
    suite("hostile-stub-fatal", "tests/hostile/src/stub/fatal.rs"),
    suite("hostile-stub-memory", "tests/hostile/src/stub/memory.rs"),
    suite("hostile-stub-events", "tests/hostile/src/stub/events.rs tests/hostile/src/stub/cpu.rs"),
    suite("hostile-stub-store", "tests/hostile/src/stub/xenstore.rs"),
    suite("hostile-stub-disk", "tests/hostile/src/stub/grants.rs tests/hostile/src/stub/disk.rs"),
    suite("hostile-xenstore", "tests/hostile/src/nodes tests/qemu/hostile-xenstore.sh"),
    suite("hostile-probe", "tests/qemu/hostile-probe.sh"),
    suite("hostile-walk", "tests/qemu/hostile-walk.sh"),
    suite("hostile-contention", "tests/qemu/hostile-contention.sh"),
    suite("hostile-shared-page", "tests/qemu/hostile-shared-page.sh"),
];

/// The suites of these names, in the table's order; all of them if none is named.
///
/// # Errors
/// The first name that is none of a suite's.
pub fn named(names: &[String]) -> Result<Vec<Suite>, &str> {
    match names.iter().find(|name| SUITES.iter().all(|suite| suite.scenario != **name)) {
        Some(unknown) => Err(unknown),
        None => {
            let wanted = |suite: &&Suite| names.is_empty() || names.iter().any(|name| name == suite.scenario);
            Ok(SUITES.iter().filter(wanted).copied().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::SCENARIOS;

    #[test]
    fn every_hostile_scenario_is_a_suite_and_the_other_way_round() {
        let hostile =
            SCENARIOS.iter().map(|scenario| scenario.name).filter(|name| name.starts_with("hostile-"));
        let (mut scenarios, mut suites): (Vec<_>, Vec<_>) =
            (hostile.collect(), SUITES.iter().map(|suite| suite.scenario).collect());
        scenarios.sort_unstable();
        suites.sort_unstable();
        assert_eq!(scenarios, suites);
    }

    #[test]
    fn suites_are_taken_by_name_and_a_wrong_name_is_told() {
        assert_eq!(named(&[]).unwrap().len(), SUITES.len());
        let two = ["hostile-walk".to_owned(), "hostile-guest".to_owned()];
        let taken: Vec<_> = named(&two).unwrap().iter().map(|suite| suite.scenario).collect();
        assert_eq!(taken, ["hostile-guest", "hostile-walk"]);
        assert_eq!(named(&["demo".to_owned()]).unwrap_err(), "demo");
    }
}
