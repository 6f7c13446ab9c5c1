//! The table of `docs/configuration.md` against the printed defaults, which a test of `config.rs` compares with the code.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

/// Keys with their defaults.
type Keys = BTreeSet<(String, String)>;

/// Those of the printed configuration: `KEY = VALUE`.
fn printed() -> Keys {
    let lines = include_str!("../pilotfishd.toml").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = ")).map(|(key, value)| (key.into(), value.into())).collect()
}

/// Those of the table: ``| `KEY` | `VALUE` |``.
fn told() -> Keys {
    let document = include_str!("../../docs/configuration.md");
    let section = document.split_once("## The daemon's configuration file").map_or("", |(_, rest)| rest);
    let section = section.split_once("\n### ").map_or("", |(section, _)| section);
    let row = |line: &str| {
        let (key, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
        Some((key.to_owned(), rest.split_once("` |")?.0.to_owned()))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn the_document_has_each_key_with_its_default_and_no_other() {
    let (told, printed) = (told(), printed());
    assert!(printed.len() > 10, "{printed:?}");
    let missing: Vec<_> = printed.difference(&told).collect();
    let more: Vec<_> = told.difference(&printed).collect();
    assert!(missing.is_empty() && more.is_empty(), "not told: {missing:?}; told and not there: {more:?}");
}
