//! `docs/architecture.md` against the sources: the constants of the rules under load have the values
//! that the document says, in the files that it says, and none is left out.

use super::{quoted, root, rows};
use std::collections::BTreeMap;

const DOCUMENT: &str = "docs/architecture.md";
const SECTION: &str = "### The constants of these rules";
/// The text that states the rules, up to the table.
const RULES: &str = "## Under load";
/// Every constant of these files decides something that the document states.
const COMPLETE: [&str; 5] = [
    "backend/src/coalesce/depth.rs",
    "backend/src/coalesce/rate.rs",
    "backend/src/coalesce/mod.rs",
    "backend/src/event_loop/busy_poll.rs",
    "backend/src/event_loop/mod.rs",
];

/// A value with its unit, in the unit of the constant's name: nanoseconds, bytes, or pieces.
fn value(cell: &str) -> Option<u64> {
    let (number, unit) = cell.split_once(' ')?;
    let factor = match unit {
        "µs" => 1_000,
        "ms" => 1_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "requests" | "sleeps" | "deadlines" | "rounds" | "polls" | "accesses" | "points" | "events" => 1,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Whether the unit is that of the name.
fn suits(name: &str, cell: &str) -> bool {
    let is = |units: &[&str]| units.iter().any(|unit| cell.ends_with(unit));
    let (time, size) = (is(&["µs", "ms"]), is(&["KiB", "MiB"]));
    (name.ends_with("_NS"), name.ends_with("_BYTES")) == (time, size)
}

/// The constants of a file, tests left out: name and expression.
fn constants(source: &str) -> BTreeMap<&str, &str> {
    let mut found = BTreeMap::new();
    for line in source.lines() {
        let line =
            line.strip_prefix("pub(super) ").or_else(|| line.strip_prefix("pub(crate) ")).unwrap_or(line);
        let Some((name, rest)) = line.strip_prefix("const ").and_then(|rest| rest.split_once(": ")) else {
            continue;
        };
        if let Some((_, expression)) = rest.split_once(" = ") {
            found.insert(name, expression.trim_end_matches(';'));
        }
    }
    found
}

/// What an expression of one of these forms is: a number, `1 << 10`, `2 * OTHER`, `if cfg!(test)`.
fn evaluate(expression: &str, others: &BTreeMap<&str, u64>) -> Option<u64> {
    if let Some((_, shipped)) = expression.split_once("} else { ") {
        return evaluate(shipped.trim_end_matches(" }"), others);
    }
    if let Some((factor, other)) = expression.split_once(" * ") {
        return evaluate(factor, others)?.checked_mul(evaluate(other, others)?);
    }
    if let Some((base, bits)) = expression.split_once(" << ") {
        return evaluate(base, others)?.checked_shl(bits.parse().ok()?);
    }
    expression.replace('_', "").parse().ok().or_else(|| others.get(expression).copied())
}

/// Everything that is wrong with the table.
fn faults(document: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let rules = document.split_once(RULES).map_or("", |(_, rest)| rest);
    let rules = rules.split_once(SECTION).map_or("", |(rules, _)| rules);
    let rows = rows(document, SECTION);
    let told: BTreeMap<&str, u64> =
        rows.iter().filter_map(|row| Some((quoted(row.first()?)?, value(row.get(1)?)?))).collect();
    let mut files: BTreeMap<&str, Vec<&str>> = COMPLETE.iter().map(|file| (*file, Vec::new())).collect();
    for row in &rows {
        let [name, shown, file] = row[..] else {
            faults.push(format!("not three cells: {row:?}"));
            continue;
        };
        let (Some(name), Some(file)) = (quoted(name), quoted(file)) else {
            faults.push(format!("{name}, {file}: not of the form `name`, `file`"));
            continue;
        };
        files.entry(file).or_default().push(name);
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        let constants = constants(&source);
        let is = constants.get(name).and_then(|expression| evaluate(expression, &told));
        if is.is_none() {
            faults.push(format!("{file}: no constant {name}"));
        } else if value(shown) != is || !suits(name, shown) {
            faults.push(format!("{name}: is {is:?}, not {shown}"));
        }
        if !rules.contains(&format!("`{name}`")) {
            faults.push(format!("{name}: no rule names it"));
        }
    }
    for (file, names) in files {
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        let left_out = constants(&source).into_keys().filter(|name| !names.contains(name));
        let left_out = left_out.filter(|_| COMPLETE.contains(&file));
        faults.extend(left_out.map(|name| format!("{file}: {name} is left out")));
    }
    faults
}

fn document() -> String {
    std::fs::read_to_string(root().join(DOCUMENT)).expect("the architecture")
}

#[test]
fn every_constant_of_a_rule_has_the_value_that_is_told() {
    let faults = faults(&document());
    assert!(faults.is_empty(), "{DOCUMENT}, {SECTION}:\n{}", faults.join("\n"));
}

/// The check can fail: each of these spoils the document, and is seen.
#[test]
fn a_spoilt_table_of_constants_is_refused() {
    let good = document();
    let row = "| `WAIT_MIN_NS` | 20 µs | `backend/src/coalesce/rate.rs` |";
    let spoilt = [
        ("| `WAIT_MIN_NS` | 20 µs ", "| `WAIT_MIN_NS` | 21 µs ", "not 21 µs"),
        ("| `WAIT_MIN_NS` | 20 µs ", "| `WAIT_MIN_NS` | 20000 rounds ", "not 20000 rounds"),
        ("| `AT_ONCE_BYTES` | 1 MiB ", "| `AT_ONCE_BYTES` | 2 MiB ", "AT_ONCE_BYTES: is"),
        ("| `TURN_BYTES` | 2 MiB ", "| `TURN_BYTES` | 3 MiB ", "TURN_BYTES: is"),
        ("| `WAIT_MIN_NS` |", "| `WAIT_LEAST_NS` |", "no constant WAIT_LEAST_NS"),
        (row, &row.replace("rate.rs", "mod.rs"), "no constant WAIT_MIN_NS"),
        (row, "", "WAIT_MIN_NS is left out"),
        ("(`WAIT_MIN_NS`)", "", "no rule names it"),
        (SECTION, "### Constants", "is left out"),
    ];
    for (old, new, why) in spoilt {
        assert!(good.contains(old), "{old}");
        let faults = faults(&good.replacen(old, new, 1));
        assert!(faults.iter().any(|fault| fault.contains(why)), "{new:?}: {faults:?}");
    }
}
