//! Why each `ok` of the table is there: the part of `docs/privileges.md` that people write.
//!
//! Every `ok` needs a line there, but for what any guest may do to itself. A line names operations, whom they
//! are about, and who has them; the last cell is the reason.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use crate::privileges::document::{self, Column, OBJECTS};
use crate::privileges::table::{Role, Row, Run, Table};

const BEGIN: &str = "<!-- compared with tests/privileges.tsv -->\n";
const END: &str = "<!-- end of what is compared -->\n";
/// What operations without a domain are about.
const NOBODY: &str = "nobody";
/// Of [`OBJECTS`], the domain that asks.
const ITSELF: &str = "itself";
/// Stands for everybody that the table has.
const ALL: &str = "all";

/// One `ok`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Allowed {
    /// `HYPERCALL.OPERATION`.
    pub operation: String,
    /// Whom it is about.
    pub on: String,
    /// Who asked, in which deployment: the head of a column.
    pub who: String,
}

/// Every `ok` that needs a line.
#[must_use]
pub fn needed(table: &Table) -> BTreeSet<Allowed> {
    let mut needed = BTreeSet::new();
    for column in document::columns(table) {
        for row in &table.rows {
            for on in done(row, &column.runs) {
                if on != ITSELF || column.role == Role::Stub && !a_guest_has(row, &column.runs) {
                    needed.insert(allowed(&row.operation, on, &column));
                }
            }
        }
    }
    needed
}

fn allowed(operation: &str, on: &str, column: &Column) -> Allowed {
    Allowed { operation: operation.to_owned(), on: on.to_owned(), who: column.head.clone() }
}

/// About whom the operation was done in one of these runs.
fn done(row: &Row, runs: &[Run]) -> Vec<&'static str> {
    let about = |objects: &[&str]| {
        let mut asked = runs.iter().flat_map(|run| objects.iter().map(move |object| row.about(run, object)));
        asked.any(|answer| answer == Some("ok"))
    };
    let mut done: Vec<&str> =
        OBJECTS.iter().filter(|(_, objects)| about(objects)).map(|(on, _)| *on).collect();
    if runs.iter().any(|run| row.answers.get(run).is_some_and(|answers| *answers == ["ok"])) {
        done.push(NOBODY);
    }
    done
}

/// Whether an ordinary guest of the stub's deployment may do the same to itself. A guest of B, and of its start, is one
/// of A+.
fn a_guest_has(row: &Row, stub: &[Run]) -> bool {
    let guest = |run: &Run| {
        let deployment = if run.deployment.starts_with('B') { "A+" } else { &run.deployment };
        Run { deployment: deployment.to_owned(), role: Role::Guest, xen: run.xen.clone() }
    };
    done(row, &stub.iter().map(guest).collect::<Vec<_>>()).contains(&ITSELF)
}

/// Every `ok` that the document has a line for.
///
/// # Errors
/// When the document lacks the marks, a line is damaged, names nobody or has no reason, or two lines are about the
/// same.
pub fn explained(document: &str, table: &Table) -> Result<BTreeSet<Allowed>> {
    let (_, rest) = document.split_once(BEGIN).context("the document has no begin of the reasons")?;
    let (lines, _) = rest.split_once(END).context("the document has no end of the reasons")?;
    let columns = document::columns(table);
    let mut explained = BTreeSet::new();
    for line in lines.lines().filter(|line| line.starts_with("| `")) {
        for allowed in of_line(line, &columns).with_context(|| line.to_owned())? {
            ensure!(explained.insert(allowed.clone()), "{allowed:?} has two lines");
        }
    }
    Ok(explained)
}

/// What a line is about: `` | `CALL`: OPERATION, ... | ON, ... | stub: A, ...; guest: A, ... | reason | ``.
fn of_line(line: &str, columns: &[Column]) -> Result<Vec<Allowed>> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [operations, on, who, reason] = *cells else { bail!("{} cells", cells.len()) };
    ensure!(reason.len() > 10, "no reason");
    let mut all = Vec::new();
    for group in operations.split("; ") {
        let (call, names) = group.split_once("`: ").context("no operations")?;
        for name in names.split(", ") {
            let operation = format!("{}.{name}", call.trim_start_matches('`'));
            for on in on.split(", ") {
                let known = on == NOBODY || OBJECTS.iter().any(|(object, _)| *object == on);
                ensure!(known, "nobody is called {on:?}");
                all.extend(
                    of_whom(who, on, columns)?.into_iter().map(|column| allowed(&operation, on, column)),
                );
            }
        }
    }
    Ok(all)
}

/// The columns that a cell names.
fn of_whom<'a>(who: &str, on: &str, columns: &'a [Column]) -> Result<Vec<&'a Column>> {
    if who == ALL {
        return Ok(columns.iter().filter(|column| column.is_asked(on)).collect());
    }
    let mut named = Vec::new();
    for group in who.split("; ") {
        let (role, deployments) = group.split_once(": ").context("nobody has it")?;
        for deployment in deployments.split(", ") {
            let head = format!("{role}, {deployment}");
            let column = columns.iter().find(|column| column.head == head);
            named.push(column.with_context(|| format!("the table has no {head}"))?);
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "
seen A/stub/4.20 domctl.look ok EPERM EPERM ESRCH EPERM ESRCH ESRCH ESRCH
seen A/guest/4.20 domctl.look EPERM EPERM ESRCH EPERM ESRCH ESRCH ESRCH
seen A/stub/4.20 memory_op.own EPERM EPERM EPERM ok ok ESRCH ESRCH ESRCH
seen A/guest/4.20 memory_op.own EPERM EPERM ok ok ESRCH ESRCH ESRCH
seen A/stub/4.20 memory_op.more EPERM EPERM EPERM ESRCH ok ESRCH ESRCH ESRCH
seen A/guest/4.20 memory_op.more EPERM EPERM ESRCH EPERM ESRCH ESRCH ESRCH
seen A/stub/4.20 event.offer EPERM ok EPERM ok ok ESRCH ESRCH ok
seen A/guest/4.20 event.offer ok EPERM ok ok ESRCH ESRCH ok
seen A/stub/4.20 sched.yield ok
seen A/guest/4.20 sched.yield ok
seen A/stub/4.20 sysctl.all EPERM
seen A/guest/4.20 sysctl.all EPERM
";
    const LINES: [&str; 4] = [
        "| `domctl`: look | its guest | stub: A | The stub looks at it. |",
        "| `memory_op`: more | itself | stub: A | No guest has this. |",
        "| `event`: offer | another guest, no domain | stub: A; guest: A | Nobody need take it. |",
        "| `sched`: yield | nobody | all | About the caller alone. |",
    ];

    fn table() -> Table {
        let mut table = Table::default();
        table.take(LOG).unwrap();
        table
    }

    fn document(lines: &[&str]) -> String {
        format!("head\n{BEGIN}| operation | on | who | why |\n|---|---|---|---|\n{}\n{END}", lines.join("\n"))
    }

    #[test]
    fn what_is_done_to_others_or_by_a_stub_alone_needs_a_line() {
        assert_eq!(explained(&document(&LINES), &table()).unwrap(), needed(&table()));
    }

    #[test]
    fn a_line_that_is_missing_or_superfluous_is_told() {
        let needed = needed(&table());
        for missing in 0..LINES.len() {
            let mut lines = LINES.to_vec();
            lines.remove(missing);
            assert!(explained(&document(&lines), &table()).unwrap().is_subset(&needed), "{lines:?}");
            assert_ne!(explained(&document(&lines), &table()).unwrap(), needed, "{lines:?}");
        }
        let more = "| `sysctl`: all | nobody | guest: A | It is not so. |";
        assert_ne!(explained(&document(&[&LINES[..], &[more]].concat()), &table()).unwrap(), needed);
    }

    #[test]
    fn a_damaged_line_is_refused() {
        for line in [
            "| `domctl`: look | its guest | stub: A |",
            "| `domctl`: look | its guest | stub: A |  |",
            "| `domctl` look | its guest | stub: A | The stub looks at it. |",
            "| `domctl`: look | its friend | stub: A | The stub looks at it. |",
            "| `domctl`: look | its guest | stub: C | The stub looks at it. |",
            "| `domctl`: look | its guest | nobody | The stub looks at it. |",
            "| `domctl`: look, look | its guest | stub: A | The stub looks at it. |",
        ] {
            assert!(explained(&document(&[line]), &table()).is_err(), "{line}");
        }
        assert!(explained("no marks", &table()).is_err());
    }
}
