//! `docs/architecture.md` against the sources: the files and functions of a request's journey exist.

use super::{quoted, root, rows};
use std::collections::BTreeSet;

const DOCUMENT: &str = "docs/architecture.md";
const SECTION: &str = "## A request's journey";
/// A document with fewer steps was cut, or its table was not found.
const STEPS_MIN: usize = 25;

/// Whether `source` defines `function`: `Type::name` in a block of that type or trait, or a bare `name`.
fn defines(source: &str, function: &str) -> bool {
    let (owner, name) = function.rsplit_once("::").unwrap_or(("", function));
    let is_block = |line: &str| line.starts_with("impl") || line.starts_with("pub trait ");
    let has_owner = owner.is_empty() || source.lines().any(|line| is_block(line) && line.contains(owner));
    has_owner && [format!("fn {name}("), format!("fn {name}<")].iter().any(|head| source.contains(head))
}

/// Everything that is wrong with the map.
fn faults(document: &str) -> Vec<String> {
    let steps = rows(document, SECTION);
    let mut faults = Vec::new();
    let mut files = BTreeSet::new();
    for (number, step) in (1..).zip(&steps) {
        let [told, file, functions, _] = step[..] else {
            faults.push(format!("not four cells: {step:?}"));
            continue;
        };
        if told.parse() != Ok(number) {
            faults.push(format!("{told}: is step {number}"));
        }
        let Some(file) = quoted(file) else {
            faults.push(format!("{file}: not of the form `file`"));
            continue;
        };
        let Ok(source) = std::fs::read_to_string(root().join(file)) else {
            faults.push(format!("{file}: no such file"));
            continue;
        };
        files.insert(file);
        for function in functions.split(',') {
            match quoted(function) {
                Some(function) if defines(&source, function) => {}
                _ => faults.push(format!("{file}: no function {function}")),
            }
        }
    }
    if steps.len() < STEPS_MIN || files.len() < STEPS_MIN / 2 {
        faults.push(format!("only {} steps in {} files", steps.len(), files.len()));
    }
    faults
}

fn document() -> String {
    std::fs::read_to_string(root().join(DOCUMENT)).expect("the architecture")
}

#[test]
fn every_step_of_the_request_map_exists() {
    let faults = faults(&document());
    assert!(faults.is_empty(), "{DOCUMENT}, {SECTION}:\n{}", faults.join("\n"));
}

/// The check can fail: each of these spoils the document, and is seen.
#[test]
fn a_spoilt_request_map_is_refused() {
    let good = document();
    let spoilt = [
        ("`backend/src/ioreq/slot.rs`", "`backend/src/ioreq/nowhere.rs`", "no such file"),
        ("`backend/src/ioreq/slot.rs`", "the slot", "not of the form"),
        ("`Slot::answer`", "`Slot::answers`", "no function"),
        ("`Slot::answer`", "`Device::answer`", "no function"),
        ("`IrqLine::assert`", "", "no function"),
        ("`Server::take`", "`Server::takes`", "no function"),
        ("`AnyStorage::submit`", "`AnyStorage::take`", "no function"),
        ("`Transport::raise`", "`Transport::lower`", "no function"),
        ("`Device::take_irq`", "`Stub::take_irq`", "no function"),
        ("| 19 |", "| 9 |", "9: is step 19"),
        (SECTION, "## A journey", "only 0 steps"),
    ];
    for (old, new, why) in spoilt {
        assert!(good.contains(old), "{old}");
        let faults = faults(&good.replacen(old, new, 1));
        assert!(faults.iter().any(|fault| fault.contains(why)), "{new:?}: {faults:?}");
    }
}
