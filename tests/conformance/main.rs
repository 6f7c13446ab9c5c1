//! `docs/conformance.md` against the sources: every clause names tests, and they exist.

mod constants;
mod journey;
mod links;

use std::path::{Path, PathBuf};

const DOCUMENT: &str = "docs/conformance.md";
const APPLIES: &str = "## Clauses that apply";
const DOES_NOT_APPLY: &str = "## Clauses that do not apply";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text between two backticks.
fn quoted(cell: &str) -> Option<&str> {
    cell.trim().strip_prefix('`')?.strip_suffix('`')
}

/// The cells of the rows of a section's tables, without the tables' heads.
fn rows<'a>(document: &'a str, section: &str) -> Vec<Vec<&'a str>> {
    let body = document.split_once(section).map_or("", |(_, rest)| rest.trim_start());
    let body = body.split_once("\n## ").map_or(body, |(body, _)| body);
    let is_rule = |line: Option<&&str>| line.is_some_and(|line| line.starts_with("|---"));
    let lines: Vec<&str> = body.lines().collect();
    let is_row =
        |at: usize| lines[at].starts_with('|') && !is_rule(lines.get(at)) && !is_rule(lines.get(at + 1));
    let rows = (0..lines.len()).filter(|&at| is_row(at)).map(|at| lines[at]);
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Whether a test of this name exists: `fn name(`, with `#[test]` just above.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().collect();
    lines.iter().enumerate().any(|(at, line)| {
        line.trim_start().strip_prefix("fn ").is_some_and(|rest| rest.starts_with(&format!("{name}(")))
            && lines[at.saturating_sub(3)..at].iter().any(|line| line.trim() == "#[test]")
    })
}

/// Why a reference proves nothing.
fn judge(reference: &str) -> Result<(), String> {
    let name = reference.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
    let name = name.ok_or_else(|| format!("{reference}: not of the form `name`"))?;
    if let Some(scenario) = name.strip_prefix("qemu:") {
        let script = root().join("tests/qemu").join(format!("{scenario}.sh"));
        return if script.is_file() { Ok(()) } else { Err(format!("{name}: no such scenario")) };
    }
    let (file, test) = name.split_once("::").ok_or_else(|| format!("{name}: neither test nor scenario"))?;
    let source = std::fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"))?;
    if is_test(&source, test) { Ok(()) } else { Err(format!("{name}: no such test")) }
}

/// Everything that is wrong with the document.
fn faults(document: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let applying = rows(document, APPLIES);
    for row in &applying {
        let [clause, must, _, proofs] = row[..] else {
            faults.push(format!("not four cells: {row:?}"));
            continue;
        };
        if !["MUST", "MUST NOT"].contains(&must) {
            faults.push(format!("{clause}: {must}"));
        }
        let references = proofs.split("<br>").filter(|reference| !reference.is_empty());
        if references.clone().next().is_none() {
            faults.push(format!("{clause}: no proof"));
        }
        faults.extend(
            references.filter_map(|one| judge(one.trim()).err()).map(|why| format!("{clause}: {why}")),
        );
    }
    let mut others = 0;
    for row in rows(document, DOES_NOT_APPLY) {
        match row[..] {
            [clause, count, _, why] => match count.parse::<usize>() {
                Ok(count) if count > 0 && !why.is_empty() => others += count,
                _ => faults.push(format!("{clause}: no count or no reason")),
            },
            _ => faults.push(format!("not four cells: {row:?}")),
        }
    }
    let told =
        format!("There are {} of them:\n{} apply, {others} do not.", applying.len() + others, applying.len());
    if applying.is_empty() || !document.contains(&told) {
        faults.push(format!("the counts are not told: {told:?}"));
    }
    faults
}

fn document() -> String {
    std::fs::read_to_string(root().join(DOCUMENT)).expect("the conformance matrix")
}

#[test]
fn every_clause_that_applies_names_tests_that_exist() {
    let faults = faults(&document());
    assert!(faults.is_empty(), "{DOCUMENT}:\n{}", faults.join("\n"));
}

/// The check can fail: each of these spoils the document, and is seen.
#[test]
fn a_spoilt_matrix_is_refused() {
    let good = document();
    let proof = "`backend/src/mmio/tests.rs::a_device_identifies_itself_as_version_2`";
    let spoilt = [
        (proof, "`backend/src/mmio/tests.rs::a_device_identifies_itself_as_version_3`", "no such test"),
        (proof, "`backend/src/mmio/tests.rs::negotiate`", "no such test"),
        (proof, "`backend/src/mmio/nowhere.rs::a_device_identifies_itself_as_version_2`", "nowhere.rs"),
        (proof, "`qemu:no-such-scenario`", "no such scenario"),
        (proof, "by inspection", "not of the form"),
        (proof, "", "no proof"),
        (" apply, ", " apply, perhaps ", "counts"),
    ];
    for (old, new, why) in spoilt {
        assert!(good.contains(old), "{old}");
        let faults = faults(&good.replacen(old, new, 1));
        assert!(faults.iter().any(|fault| fault.contains(why)), "{new:?}: {faults:?}");
    }
}
