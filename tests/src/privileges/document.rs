//! `docs/privileges.md`, whose tables are made from [`Table`].
//!
//! There is a table for each object (or some that are much alike), and one for what names no domain. A column
//! is one who asks in one deployment, on every Xen. Operations of one hypercall with the same answers share a row.

use std::fmt::Write;

use anyhow::{Context, Result};

use crate::privileges::table::{Role, Row, Run, Table};

const BEGIN: &str = "<!-- made from tests/privileges.tsv by `privileges -- document` -->\n";
const END: &str = "<!-- end of what is made -->\n";

/// The tables about a domain: whom they are about, and the objects of that.
pub const OBJECTS: &[(&str, &[&str])] = &[
    ("its guest", &["guest"]),
    ("another guest", &["other"]),
    ("dom0", &["dom0"]),
    ("itself", &["self", "own"]),
    ("no domain", &["io", "xen", "invalid"]),
];

/// One who asks, in one deployment.
#[derive(Debug)]
pub struct Column {
    /// Who it is.
    pub role: Role,
    /// What the tables call it.
    pub head: String,
    /// One for each Xen.
    pub runs: Vec<Run>,
}

impl Column {
    /// Whether it asks about that, one of [`OBJECTS`] or none of them.
    #[must_use]
    pub fn is_asked(&self, about: &str) -> bool {
        let objects = OBJECTS.iter().find(|(name, _)| *name == about).map_or(&[][..], |(_, objects)| objects);
        objects.iter().all(|object| self.role.objects().contains(object))
    }
}

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
    let columns = columns(table);
    let mut text = String::new();
    for (about, objects) in OBJECTS {
        let columns: Vec<&Column> = columns.iter().filter(|column| column.is_asked(about)).collect();
        let rows = table.rows.iter().filter(|row| row.names_a_domain());
        let made = made(&columns, rows, |run, row| merged(run, row, objects));
        let _ = write!(text, "\n## On {about}\n\n{made}");
    }
    let rows = table.rows.iter().filter(|row| !row.names_a_domain());
    let alone = |run: &Run, row: &Row| Some(row.answers.get(run)?.join(" "));
    let made = made(&columns.iter().collect::<Vec<_>>(), rows, alone);
    let _ = write!(text, "\n## Without a domain\n\n{made}\n");
    text
}

/// Everybody who asks: stubs first.
#[must_use]
pub fn columns(table: &Table) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    // In order of deployment, role and Xen.
    for run in table.runs() {
        let who = match run.role {
            Role::Stub => "stub",
            Role::Guest => "guest",
        };
        let head = format!("{who}, {}", run.deployment);
        match columns.iter_mut().find(|column| column.head == head) {
            Some(column) => column.runs.push(run),
            None => columns.push(Column { role: run.role, head, runs: vec![run] }),
        }
    }
    columns.sort_by_key(|column| column.role);
    columns
}

/// A table of those rows. Rows of the same hypercall and cells become one; those with empty cells alone none.
fn made<'a>(
    columns: &[&Column],
    rows: impl Iterator<Item = &'a Row>,
    answer: impl Fn(&Run, &Row) -> Option<String>,
) -> String {
    let mut groups: Vec<(&str, Vec<&str>, Vec<String>)> = Vec::new();
    for row in rows {
        let of_run = |run: &Run| Some((format!("Xen {}", run.xen), answer(run, row)?));
        let cell = |column: &&Column| same_or(&column.runs.iter().filter_map(of_run).collect::<Vec<_>>());
        let cells: Vec<String> = columns.iter().map(cell).collect();
        let (call, operation) = row.operation.split_once('.').unwrap_or((&row.operation, ""));
        match groups.iter_mut().find(|(other, _, same)| *other == call && *same == cells) {
            Some((_, operations, _)) => operations.push(operation),
            None if cells.iter().all(String::is_empty) => {}
            None => groups.push((call, vec![operation], cells)),
        }
    }
    let heads: Vec<&str> = columns.iter().map(|column| column.head.as_str()).collect();
    let mut text = format!("| operation | {} |\n|---{}|\n", heads.join(" | "), "|---".repeat(heads.len()));
    for (call, operations, cells) in groups {
        let _ = writeln!(text, "| `{call}`: {} | {} |", operations.join(", "), cells.join(" | "));
    }
    text
}

/// The answers about some objects: one, if they are the same.
fn merged(run: &Run, row: &Row, objects: &[&str]) -> Option<String> {
    let about = |object: &&str| Some((shown(object), row.about(run, object)?.to_owned()));
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

/// The answer, if all are the same, else each with its name. `-` stands for what was not asked.
fn same_or(answers: &[(String, String)]) -> String {
    match answers {
        [] => String::new(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, answer)| answer == first) => first.clone(),
        _ => answers.iter().map(|(name, answer)| format!("{name}: {answer}")).collect::<Vec<_>>().join("; "),
    }
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

    /// The table under that title.
    fn under<'a>(text: &'a str, title: &str) -> &'a str {
        let (_, rest) = text.split_once(&format!("## {title}\n\n")).unwrap();
        rest.split("\n\n").next().unwrap()
    }

    #[test]
    fn alike_operations_share_a_row_and_versions_a_cell() -> Result<()> {
        let mut table = Table::default();
        let log: String = ["4.17 domctl.a", "4.20 domctl.a", "4.17 domctl.a2", "4.20 domctl.a2"]
            .map(|row| format!("seen A/stub/{row} ok EPERM EPERM ESRCH ok ESRCH ESRCH ESRCH\n"))
            .concat();
        table.take(&log)?;
        let text = render(&table);
        let on_itself = under(&text, "On itself");
        assert!(on_itself.contains("| `domctl`: a, a2 | `DOMID_SELF`: ESRCH; by number: ok |"), "{text}");
        Ok(())
    }

    #[test]
    fn versions_and_deployments_that_differ_are_told_apart() -> Result<()> {
        let mut table = Table::default();
        table.take(LOG)?;
        let text = render(&table);
        let both =
            "Xen 4.17: `DOMID_SELF`: ESRCH; by number: EPERM; Xen 4.20: `DOMID_SELF`: ESRCH; by number: ok";
        assert!(under(&text, "On itself").contains(both), "{text}");
        let on_another = under(&text, "On another guest");
        assert!(on_another.starts_with("| operation | stub, A | guest, A | guest, A+ |\n"), "{text}");
        assert!(on_another.contains("| `domctl`: a | EPERM | EPERM | EACCES |"), "{text}");
        assert!(under(&text, "Without a domain").contains("| `sysctl`: c | EPERM | EPERM |  |"), "{text}");
        Ok(())
    }

    #[test]
    fn a_guest_has_no_column_about_a_guest_of_its_own() -> Result<()> {
        let mut table = Table::default();
        table.take(LOG)?;
        let text = render(&table);
        assert!(under(&text, "On its guest").starts_with("| operation | stub, A |\n"), "{text}");
        Ok(())
    }

    #[test]
    fn an_operation_that_was_asked_in_no_column_has_no_row() -> Result<()> {
        let mut table = Table::default();
        table.take("seen A/guest/4.20 domctl.a ok ok ok ok ok ok ok\nseen A/stub/4.20 sysctl.c EPERM")?;
        assert!(!under(&render(&table), "On its guest").contains("domctl"));
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
