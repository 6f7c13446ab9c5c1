//! `docs/privileges.md`, whose tables are made from [`Table`].
//!
//! Operations of one hypercall with the same answers share a row. A cell is about one object (or some that
//! are much alike), in one deployment, on every Xen.

use std::fmt::Write;

use anyhow::{Context, Result};

use crate::privileges::table::{Role, Row, Run, Table};

const BEGIN: &str = "<!-- made from tests/privileges.tsv by `privileges -- document` -->\n";
const END: &str = "<!-- end of what is made -->\n";

/// Columns of a document for one who asks: its head, and the objects in it.
const STUB: &[(&str, &[&str])] =
    &[("its guest", &["guest"]), ("another guest", &["other"]), ("dom0", &["dom0"]), ITSELF, NOBODY];
const GUEST: &[(&str, &[&str])] = &[("another guest", &["other"]), ("dom0", &["dom0"]), ITSELF, NOBODY];
const ITSELF: (&str, &[&str]) = ("itself", &["self", "own"]);
const NOBODY: (&str, &[&str]) = ("no domain", &["io", "xen", "invalid"]);

/// Replaces what is made in the document.
///
/// # Errors
/// When the document lacks the marks.
pub fn update(document: &str, table: &Table) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).context("the document has no begin of what is made")?;
    let (_, after) = rest.split_once(END).context("the document has no end of what is made")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", render(table)))
}

/// The tables.
fn render(table: &Table) -> String {
    let mut text = String::new();
    for (title, role, columns) in [("a stub", Role::Stub, STUB), ("an ordinary guest", Role::Guest, GUEST)] {
        let runs = runs_of(table, role);
        let deployments = deployments(&runs);
        let heads: Vec<String> = columns
            .iter()
            .flat_map(|(head, _)| deployments.iter().map(move |d| format!("{head}, {d}")))
            .collect();
        let rows = table.rows.iter().filter(|row| row.names_a_domain());
        let rows: Vec<(&Row, Vec<String>)> =
            rows.map(|row| (row, cells(row, &runs, columns))).filter(|(_, cells)| !is_empty(cells)).collect();
        let _ = write!(text, "\n## On a domain, asked by {title}\n\n{}", tables(&heads, &rows));
    }
    let runs = table.runs();
    let mut heads = Vec::new();
    for (who, role) in [("stub", Role::Stub), ("guest", Role::Guest)] {
        heads.extend(deployments(&runs_of(table, role)).into_iter().map(|d| format!("{who}, {d}")));
    }
    let rows = table.rows.iter().filter(|row| !row.names_a_domain());
    let rows: Vec<(&Row, Vec<String>)> = rows.map(|row| (row, alone(row, &runs))).collect();
    let _ = write!(text, "\n## Without a domain\n\n{}", tables(&heads, &rows));
    text.push('\n');
    text
}

fn runs_of(table: &Table, role: Role) -> Vec<Run> {
    table.runs().into_iter().filter(|run| run.role == role).collect()
}

fn deployments(runs: &[Run]) -> Vec<&str> {
    let mut names: Vec<&str> = runs.iter().map(|run| run.deployment.as_str()).collect();
    names.dedup();
    names
}

fn is_empty(cells: &[String]) -> bool {
    cells.iter().all(String::is_empty)
}

/// The cells of an operation on a domain.
fn cells(row: &Row, runs: &[Run], columns: &[(&str, &[&str])]) -> Vec<String> {
    let mut cells = Vec::new();
    for (_, objects) in columns {
        for deployment in deployments(runs) {
            let runs = runs.iter().filter(|run| run.deployment == deployment);
            let of_run = |run: &Run| Some((run.xen.clone(), merged(run, row, objects)?));
            cells.push(by_version(&runs.filter_map(of_run).collect::<Vec<_>>()));
        }
    }
    cells
}

/// The cells of an operation that names no domain.
fn alone(row: &Row, runs: &[Run]) -> Vec<String> {
    let mut cells = Vec::new();
    for role in [Role::Stub, Role::Guest] {
        let runs: Vec<Run> = runs.iter().filter(|run| run.role == role).cloned().collect();
        for deployment in deployments(&runs) {
            let runs = runs.iter().filter(|run| run.deployment == deployment);
            let of_run = |run: &Run| Some((run.xen.clone(), row.answers.get(run)?.join(" ")));
            cells.push(by_version(&runs.filter_map(of_run).collect::<Vec<_>>()));
        }
    }
    cells
}

/// The answers about some objects: one, if they are the same.
fn merged(run: &Run, row: &Row, objects: &[&str]) -> Option<String> {
    let about = |object: &&str| Some((shown(object), row.about(run, object)?));
    Some(same_or(&objects.iter().map(about).collect::<Option<Vec<_>>>()?))
}

/// How an object is called in a cell that has several.
fn shown(object: &str) -> String {
    match object {
        "self" => "`DOMID_SELF`".to_owned(),
        "own" => "by number".to_owned(),
        other => other.to_uppercase(),
    }
}

/// The answers of several versions: one, if they are the same.
fn by_version(answers: &[(String, String)]) -> String {
    same_or(&answers.iter().map(|(xen, answer)| (format!("Xen {xen}"), answer.as_str())).collect::<Vec<_>>())
}

/// The answer, if all are the same, else each with its name. `-` stands for what was not asked.
fn same_or(answers: &[(String, &str)]) -> String {
    match answers {
        [] => String::new(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, answer)| answer == first) => (*first).to_owned(),
        _ => answers.iter().map(|(name, answer)| format!("{name}: {answer}")).collect::<Vec<_>>().join("; "),
    }
}

/// Rows of the same hypercall and cells become one.
fn tables(heads: &[String], rows: &[(&Row, Vec<String>)]) -> String {
    let mut text = format!("| operation | {} |\n|---{}|\n", heads.join(" | "), "|---".repeat(heads.len()));
    let mut groups: Vec<(&str, Vec<&str>, &[String])> = Vec::new();
    for (row, cells) in rows {
        let (call, operation) = row.operation.split_once('.').unwrap_or((&row.operation, ""));
        match groups.iter_mut().find(|(other, _, same)| *other == call && *same == cells.as_slice()) {
            Some((_, operations, _)) => operations.push(operation),
            None => groups.push((call, vec![operation], cells)),
        }
    }
    for (call, operations, cells) in groups {
        let _ = writeln!(text, "| `{call}`: {} | {} |", operations.join(", "), cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "
seen A/stub/4.17 domctl.a ok EPERM EPERM ESRCH EPERM ESRCH ESRCH ESRCH
seen A/stub/4.20 domctl.a ok EPERM EPERM ESRCH ok ESRCH ESRCH ESRCH
seen A/stub/4.20 domctl.b ok EPERM EPERM ESRCH ok ESRCH ESRCH ESRCH
seen A/guest/4.20 domctl.a EPERM EPERM EPERM EPERM EPERM EPERM EPERM
seen A+/guest/4.20 domctl.a EACCES EACCES EACCES EACCES EACCES EACCES EACCES
seen A/guest/4.20 sysctl.c EPERM
seen A/stub/4.20 sysctl.c EPERM
";

    #[test]
    fn alike_operations_share_a_row_and_versions_a_cell() -> Result<()> {
        let mut table = Table::default();
        table.take(&LOG.replace("domctl.b", "domctl.a2").replace("4.17 domctl.a ok", "4.17 domctl.z ok"))?;
        let text = render(&table);
        assert!(
            text.contains(
                "| `domctl`: a, a2 | ok | EPERM | EPERM | `DOMID_SELF`: ESRCH; by number: ok | ESRCH |"
            ),
            "{text}"
        );
        Ok(())
    }

    #[test]
    fn versions_and_deployments_that_differ_are_told_apart() -> Result<()> {
        let mut table = Table::default();
        table.take(LOG)?;
        let text = render(&table);
        let both =
            "Xen 4.17: `DOMID_SELF`: ESRCH; by number: EPERM; Xen 4.20: `DOMID_SELF`: ESRCH; by number: ok";
        assert!(text.contains(both), "{text}");
        assert!(text.contains("| operation | another guest, A | another guest, A+ |"), "{text}");
        assert!(text.contains("| `domctl`: a | EPERM | EACCES | EPERM | EACCES |"), "{text}");
        assert!(text.contains("| `sysctl`: c | EPERM | EPERM |"), "{text}");
        Ok(())
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() -> Result<()> {
        let table = Table::default();
        let document = format!("head\n{BEGIN}old\n{END}tail\n");
        let new = update(&document, &table)?;
        assert!(new.starts_with("head\n") && new.ends_with("tail\n") && !new.contains("old"), "{new}");
        assert_eq!(update(&new, &table)?, new);
        assert!(update("head", &table).is_err());
        Ok(())
    }
}
