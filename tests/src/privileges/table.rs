//! The table: a row for each operation, a column for each run, a cell with what Xen answered.
//!
//! As text: fields between tabs, the answers of a cell between spaces. A cell has one answer for each
//! [`Role::objects`], or one alone if the operation names no domain.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

/// How a line of a scenario's log starts that has a row of a run.
pub const SEEN: &str = "seen ";
const HEAD: &str = "operation";
const NOTE: &str =
    "# What Xen answers to every hypercall: seen by the scenario hostile-walk, taken from its log by
# `cargo run -p pilotfish-tests --bin privileges -- take LOG...`. docs/privileges.md is made from it.
";

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// A domain with a stub's rights over one guest.
    Stub,
    /// A domain with a guest's rights.
    Guest,
}

impl Role {
    /// Whom it asks about, in order.
    #[must_use]
    pub fn objects(self) -> &'static [&'static str] {
        const ALL: &[&str] = &["guest", "other", "dom0", "self", "own", "io", "xen", "invalid"];
        match self {
            Role::Stub => ALL,
            // It has no guest.
            Role::Guest => &ALL[1..],
        }
    }
}

/// One run of the walk: its deployment, who asked, on which Xen.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Run {
    /// `A` or `A+`.
    pub deployment: String,
    /// Who asked.
    pub role: Role,
    /// For example `4.20`.
    pub xen: String,
}

impl FromStr for Run {
    type Err = Error;

    fn from_str(text: &str) -> Result<Run> {
        let fields: Vec<&str> = text.split('/').collect();
        let [deployment, role, xen] = *fields else { bail!("{text:?} is no run") };
        let role = match role {
            "stub" => Role::Stub,
            "guest" => Role::Guest,
            _ => bail!("{text:?} has neither a stub nor a guest"),
        };
        ensure!(!deployment.is_empty() && !xen.is_empty(), "{text:?} lacks something");
        Ok(Run { deployment: deployment.to_owned(), role, xen: xen.to_owned() })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Stub => "stub",
            Role::Guest => "guest",
        };
        write!(f, "{}/{role}/{}", self.deployment, self.xen)
    }
}

/// What Xen answered in one run: one word for each object, or one alone if there is none.
pub type Answers = Vec<String>;

/// One operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// `HYPERCALL.OPERATION`.
    pub operation: String,
    /// By run.
    pub answers: BTreeMap<Run, Answers>,
}

impl Row {
    /// Whether the operation was asked for with objects.
    #[must_use]
    pub fn names_a_domain(&self) -> bool {
        self.answers.values().any(|answers| answers.len() > 1)
    }

    /// What was answered about an object in a run; `None` if it was not asked for so.
    #[must_use]
    pub fn about(&self, run: &Run, object: &str) -> Option<&str> {
        let answers = self.answers.get(run).filter(|answers| answers.len() > 1)?;
        let at = run.role.objects().iter().position(|known| *known == object)?;
        Some(answers.get(at)?)
    }
}

/// All of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Table {
    /// In the order of the walk.
    pub rows: Vec<Row>,
}

impl Table {
    /// Reads the file's text.
    ///
    /// # Errors
    /// With the number of the line that is not as it should be.
    pub fn parse(text: &str) -> Result<Table> {
        let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#'));
        let Some((_, head)) = lines.next() else { return Ok(Table::default()) };
        let runs = head.strip_prefix(HEAD).context("the first line names no runs")?.split('\t').skip(1);
        let runs: Vec<Run> = runs.map(str::parse).collect::<Result<_>>()?;
        let row = |(number, line)| row(line, &runs).with_context(|| format!("line {number}: {line:?}"));
        let rows: Vec<Row> = lines.map(row).collect::<Result<_>>()?;
        for (at, row) in rows.iter().enumerate() {
            ensure!(
                rows[..at].iter().all(|other| other.operation != row.operation),
                "{} twice",
                row.operation
            );
        }
        Ok(Table { rows })
    }

    /// Every run that there is an answer of.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = self.rows.iter().flat_map(|row| row.answers.keys().cloned()).collect();
        runs.sort();
        runs.dedup();
        runs
    }

    /// Takes the runs of a log in place of the same runs before. Returns how many there were.
    ///
    /// # Errors
    /// When a line is cut off, or a run has an operation twice.
    pub fn take(&mut self, log: &str) -> Result<usize> {
        let mut seen = Table::default();
        for line in log.lines().filter_map(|line| line.strip_prefix(SEEN)) {
            let (run, rest) = line.split_once(' ').with_context(|| format!("no run in {line:?}"))?;
            let run: Run = run.parse()?;
            let mut words = rest.split_whitespace().map(str::to_owned);
            let operation = words.next().with_context(|| format!("no operation in {line:?}"))?;
            let answers = checked(words.collect(), &run).with_context(|| format!("in {line:?}"))?;
            let before = seen.row(&operation).answers.insert(run, answers);
            ensure!(before.is_none(), "{line:?} is there twice");
        }
        let runs = seen.runs();
        for row in std::mem::take(&mut self.rows) {
            let kept = row.answers.into_iter().filter(|(run, _)| !runs.contains(run));
            let kept: BTreeMap<Run, Answers> = kept.collect();
            // An operation that no walk has any more goes.
            if !kept.is_empty() {
                seen.row(&row.operation).answers.extend(kept);
            }
        }
        *self = seen;
        Ok(runs.len())
    }

    /// The row of an operation, made at the end if there is none.
    fn row(&mut self, operation: &str) -> &mut Row {
        let at = self.rows.iter().position(|row| row.operation == operation).unwrap_or(self.rows.len());
        if at == self.rows.len() {
            self.rows.push(Row { operation: operation.to_owned(), answers: BTreeMap::new() });
        }
        &mut self.rows[at]
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.runs();
        write!(f, "{NOTE}{HEAD}")?;
        for run in &runs {
            write!(f, "\t{run}")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            write!(f, "{}", row.operation)?;
            for run in &runs {
                write!(
                    f,
                    "\t{}",
                    row.answers.get(run).map_or_else(String::new, |answers| answers.join(" "))
                )?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn row(line: &str, runs: &[Run]) -> Result<Row> {
    let mut fields = line.split('\t');
    let operation = fields.next().filter(|operation| operation.contains('.')).context("no operation")?;
    let fields: Vec<&str> = fields.collect();
    ensure!(fields.len() == runs.len(), "{} cells for {} runs", fields.len(), runs.len());
    let mut answers = BTreeMap::new();
    for (run, cell) in runs.iter().zip(fields) {
        if !cell.is_empty() {
            answers.insert(run.clone(), checked(cell.split(' ').map(str::to_owned).collect(), run)?);
        }
    }
    Ok(Row { operation: operation.to_owned(), answers })
}

/// The answers, if there are as many as the run has objects, or one.
fn checked(answers: Answers, run: &Run) -> Result<Answers> {
    let objects = run.role.objects().len();
    ensure!(
        answers.len() == 1 || answers.len() == objects,
        "{} answers for {objects} objects",
        answers.len()
    );
    ensure!(answers.iter().all(|answer| !answer.is_empty()), "an empty answer");
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "a line of the boot
seen A/guest/4.20 domctl.pausedomain EPERM EPERM ESRCH EPERM ESRCH ESRCH ESRCH
seen A/guest/4.20 sysctl.physinfo EPERM
fact: x=1
";

    #[test]
    fn what_a_log_says_is_in_the_table_and_in_its_text() -> Result<()> {
        let mut table = Table::default();
        assert_eq!(table.take(LOG)?, 1);
        assert_eq!(table.rows.len(), 2);
        assert_eq!(Table::parse(&table.to_string())?, table);
        Ok(())
    }

    #[test]
    fn a_new_run_replaces_the_same_one_and_leaves_the_others() -> Result<()> {
        let mut table = Table::default();
        table.take(LOG)?;
        table.take("seen A/guest/4.17 sysctl.physinfo EPERM\nseen A/guest/4.17 sysctl.old ENOSYS")?;
        table.take("seen A/guest/4.17 sysctl.physinfo ENOSYS")?;
        let text = table.to_string();
        assert!(text.contains("sysctl.physinfo\tENOSYS\tEPERM\n"), "{text}");
        assert!(text.contains("domctl.pausedomain\t\tEPERM EPERM ESRCH"), "{text}");
        assert!(!text.contains("sysctl.old"), "{text}");
        Ok(())
    }

    #[test]
    fn a_line_that_was_cut_off_or_doubled_is_refused() {
        for log in [
            "seen A/guest/4.20 domctl.x EPERM EPERM",
            "seen A/guest/4.20 domctl.x",
            "seen A/guest/4.20",
            "seen A/nobody/4.20 domctl.x EPERM",
            "seen A/guest/4.20 domctl.x EPERM\nseen A/guest/4.20 domctl.x EPERM",
        ] {
            assert!(Table::default().take(log).is_err(), "{log}");
        }
    }

    #[test]
    fn a_file_that_is_damaged_is_refused_with_its_line() {
        for text in [
            "call\tA/stub/4.20",
            "operation\tA/4.20",
            "operation\tA/guest/4.20\nx.y",
            "operation\tA/guest/4.20\nx.y\tok ok",
            "operation\tA/guest/4.20\nxy\tok",
            "operation\tA/guest/4.20\nx.y\tok\nx.y\tok",
        ] {
            assert!(Table::parse(text).is_err(), "{text}");
        }
    }
}
