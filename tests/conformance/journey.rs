//! `docs/architecture.md` against the sources: the files and functions of a request's journey exist,
//! and each is called in the step, and in the order, that the map tells.

use super::{quoted, root, rows};
use std::collections::BTreeSet;

const DOCUMENT: &str = "docs/architecture.md";
const SECTION: &str = "## A request's journey";
/// A document with fewer steps was cut, or its table was not found.
const STEPS_MIN: usize = 25;
/// Where a turn begins: what comes after it in the map may stand above what came before.
const TURN: &str = "Device::process";

/// A function of the map.
struct Function {
    body: String,
    /// Where it is called: the offsets of the calls in the bodies on the way to it.
    place: Vec<usize>,
}

/// The body of `function`, without comments: `Type::name` in a block of that type or trait, or a bare
/// `name`. Rustfmt sees to it that a line of its own ends it.
fn body(source: &str, function: &str) -> Option<String> {
    let (owner, name) = function.rsplit_once("::").unwrap_or(("", function));
    let heads = [format!("fn {name}("), format!("fn {name}<")];
    let mut in_block = owner.is_empty();
    let mut lines = source.lines();
    let head = lines.find(|line| {
        if !owner.is_empty() && (line.starts_with("impl") || line.starts_with("pub trait ")) {
            in_block = line.contains(owner);
        }
        in_block && heads.iter().any(|head| line.contains(head))
    })?;
    let end = format!("{}}}", &head[..head.len() - head.trim_start().len()]);
    let lines = lines.take_while(|line| *line != end).filter(|line| !line.trim_start().starts_with("//"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// Where `name` stands in `body` as a word of its own.
fn offset(body: &str, name: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = body.match_indices(name).map(|(at, _)| at);
    found.find(|&at| !body[..at].ends_with(is_part) && !body[at + name.len()..].starts_with(is_part))
}

/// Where `function` is called: in the last of `callers` that names it.
fn place(callers: &[Function], function: &str) -> Option<Vec<usize>> {
    let name = function.rsplit("::").next()?;
    callers.iter().rev().find_map(|caller| {
        let at = offset(&caller.body, name)?;
        Some(caller.place.iter().copied().chain([at]).collect())
    })
}

/// A step's functions: each is called by one of `callers`, or by one before it in the same step. The
/// first step of all has no caller.
fn functions(source: &str, cell: &str, callers: Option<&[Function]>) -> Result<Vec<Function>, String> {
    let mut found = Vec::new();
    for function in cell.split(',') {
        let (function, body) = quoted(function)
            .and_then(|function| Some((function, body(source, function)?)))
            .ok_or_else(|| format!("no function {function}"))?;
        let place = place(&found, function)
            .or_else(|| callers.map_or(Some(Vec::new()), |callers| place(callers, function)))
            .ok_or_else(|| format!("{function} is not called there"))?;
        found.push(Function { body, place });
    }
    Ok(found)
}

/// One row of the map, judged after those before it.
fn step<'a>(row: &[&'a str], before: &[Vec<Function>]) -> Result<(&'a str, Vec<Function>), String> {
    let [told, caller, file, cell, _] = *row else { return Err(format!("not five cells: {row:?}")) };
    let number = before.len() + 1;
    if told.parse() != Ok(number) {
        return Err(format!("{told}: is step {number}"));
    }
    let caller = caller.parse().ok().and_then(|caller: usize| before.get(caller.checked_sub(1)?));
    if caller.is_none() && number > 1 {
        return Err(format!("{number}: no step that calls it"));
    }
    let file = quoted(file).ok_or_else(|| format!("{file}: not of the form `file`"))?;
    let source = std::fs::read_to_string(root().join(file)).map_err(|_| format!("{file}: no such file"))?;
    let found =
        functions(&source, cell, caller.map(Vec::as_slice)).map_err(|why| format!("{file}: {why}"))?;
    let place = |functions: &[Function]| functions.first().map(|first| first.place.clone());
    if !cell.contains(TURN) && place(&found) <= before.last().and_then(|last| place(last)) && number > 1 {
        return Err(format!("{number}: is called before {}", number - 1));
    }
    Ok((file, found))
}

/// Everything that is wrong with the map.
fn faults(document: &str) -> Vec<String> {
    let rows = rows(document, SECTION);
    let (mut faults, mut files, mut steps) = (Vec::new(), BTreeSet::new(), Vec::new());
    for row in &rows {
        match step(row, &steps) {
            Ok((file, functions)) => {
                files.insert(file);
                steps.push(functions);
            }
            Err(fault) => {
                faults.push(fault);
                // The rows after it keep their numbers.
                steps.push(Vec::new());
            }
        }
    }
    if rows.len() < STEPS_MIN || files.len() < STEPS_MIN / 2 {
        faults.push(format!("only {} steps in {} files", rows.len(), files.len()));
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
        ("`Device::start`", "`Device::publish`", "not called there"),
        ("| 9 | 7 |", "| 9 | 8 |", "not called there"),
        ("| 9 | 7 |", "| 9 | 9 |", "no step that calls it"),
        ("| 9 | 7 |", "| 9 | |", "no step that calls it"),
        (
            "`backend/src/coalesce/mod.rs` | `Coalescer::submit_now`",
            "`drivers/src/blkfront/io.rs` | `BlkFront::kick`",
            "20: is called before 19",
        ),
    ];
    for (old, new, why) in spoilt {
        assert!(good.contains(old), "{old}");
        let faults = faults(&good.replacen(old, new, 1));
        assert!(faults.iter().any(|fault| fault.contains(why)), "{new:?}: {faults:?}");
    }
}
