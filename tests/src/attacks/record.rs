//! What came of every attack where it was made last: the file `tests/attacks.tsv`, from which `docs/attacks.md` is made.
//!
//! As text: fields between tabs. A line `run` tells of a suite on one machine; the lines `attack` below it tell of its
//! attacks, in their order.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use xtask::protocol::{Attack, Stalls, Verdict};

const NOTE: &str =
    "# What came of every attack where it was made last. `cargo xtask attack --write` takes it in;
# docs/attacks.md is made from it.
";

/// Where a suite was run.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// How a stub gets its rights, as docs/security.md has it: `A`, `A+`, `B`; `B-` is B without a policy.
    pub deployment: String,
    /// The version of Xen: `4.20`.
    pub xen: String,
    /// QEMU's name of the CPU model.
    pub cpu: String,
}

impl Place {
    /// Of a board, by its name in verdicts.
    #[must_use]
    pub fn of(xen: &str, board: &str) -> Self {
        let mut words = board.split('+');
        let cpu = words.next().unwrap_or_default().to_owned();
        let words: Vec<&str> = words.collect();
        let deployment = match (words.contains(&"flask"), words.contains(&"grants")) {
            (false, false) => "A",
            (true, false) => "A+",
            (true, true) => "B",
            (false, true) => "B-",
        };
        Self { deployment: deployment.to_owned(), xen: xen.to_owned(), cpu }
    }

    /// Whether guests grant their memory there.
    #[must_use]
    pub fn grants(&self) -> bool {
        self.deployment.starts_with('B')
    }

    /// Whether a FLASK policy is enforced there.
    #[must_use]
    pub fn has_policy(&self) -> bool {
        ["A+", "B"].contains(&self.deployment.as_str())
    }
}

/// A suite that ran to its end on one machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// The suite's name.
    pub suite: String,
    /// Where it ran.
    pub place: Place,
    /// The releases of Xen and dom0's kernel.
    pub versions: String,
    /// The day: `2026-11-30`.
    pub date: String,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Whom nobody held up: the stalls of the quiet stretch before.
    pub quiet: Stalls,
    /// The worst stalls since.
    pub worst: Stalls,
    /// Its attacks.
    pub attacks: Vec<Attack>,
}

/// All of the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Records(pub Vec<Record>);

impl Records {
    /// Takes in what a suite's new run told. What its last run on the same machine told goes.
    pub fn take(&mut self, record: Record) {
        self.0.retain(|known| (&known.suite, &known.place) != (&record.suite, &record.place));
        self.0.push(record);
        self.0.sort_by(|a, b| (&a.suite, &a.place).cmp(&(&b.suite, &b.place)));
    }

    /// Those of a suite, in the order of their machines.
    #[must_use]
    pub fn of(&self, suite: &str) -> Vec<&Record> {
        self.0.iter().filter(|record| record.suite == suite).collect()
    }
}

impl FromStr for Records {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut records = Self::default();
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            records.line(&fields).with_context(|| format!("line {}", n + 1))?;
        }
        Ok(records)
    }
}

impl Records {
    fn line(&mut self, fields: &[&str]) -> Result<()> {
        let stalls = |text| Stalls::parse(text).context("no stalls");
        match *fields {
            ["run", suite, deployment, xen, cpu, versions, date, seconds, quiet, worst] => {
                let place = Place { deployment: deployment.into(), xen: xen.into(), cpu: cpu.into() };
                let (quiet, worst, seconds) = (stalls(quiet)?, stalls(worst)?, seconds.parse()?);
                let (suite, versions, date) = (suite.into(), versions.into(), date.into());
                let attacks = Vec::new();
                self.0.push(Record { suite, place, versions, date, seconds, quiet, worst, attacks });
            }
            ["attack", name, verdict, ms, held_up, why] => {
                let verdict = Verdict::of(verdict).context("no verdict")?;
                let (ms, stalls) = (ms.parse()?, stalls(held_up)?);
                let attack = Attack { name: name.into(), verdict, ms, stalls, why: why.into() };
                self.0.last_mut().context("an attack of no run")?.attacks.push(attack);
            }
            _ => bail!("neither a run nor an attack"),
        }
        Ok(())
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NOTE)?;
        for record in &self.0 {
            let Record { suite, place, versions, date, seconds, quiet, worst, attacks } = record;
            let Place { deployment, xen, cpu } = place;
            writeln!(
                f,
                "run\t{suite}\t{deployment}\t{xen}\t{cpu}\t{versions}\t{date}\t{seconds}\t{quiet}\t{worst}"
            )?;
            for Attack { name, verdict, ms, stalls, why } in attacks {
                let why = why.replace('\t', " ");
                writeln!(f, "attack\t{name}\t{}\t{ms}\t{stalls}\t{why}", verdict.word())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(suite: &str, board: &str, date: &str) -> Record {
        let stalls = Stalls { dom0_ms: Some(40), bystander_ms: None };
        let attack = Attack {
            name: "one".to_owned(),
            verdict: Verdict::Refused,
            ms: 7,
            stalls,
            why: "0 done, at last EACCES".to_owned(),
        };
        Record {
            suite: suite.to_owned(),
            place: Place::of("4.20", board),
            versions: "Xen 4.20.4, Linux 6.12".to_owned(),
            date: date.to_owned(),
            seconds: 90,
            quiet: Stalls::default(),
            worst: stalls,
            attacks: vec![attack],
        }
    }

    #[test]
    fn a_board_has_a_deployment() {
        let boards = ["cpu", "cpu+flask", "cpu+flask+grants", "cpu+grants"];
        assert_eq!(boards.map(|board| Place::of("4.20", board).deployment), ["A", "A+", "B", "B-"]);
        assert_eq!(boards.map(|board| Place::of("4.20", board).has_policy()), [false, true, true, false]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut records = Records::default();
        records.take(record("b", "cpu+flask", "2026-11-30"));
        records.take(record("a", "cpu", "2026-11-30"));
        assert_eq!(records.to_string().parse::<Records>().unwrap(), records);
        assert_eq!(records.0[0].suite, "a");
        for broken in ["x", "attack\tone\tsuccess\t1\t-/-\t", "run\ta\tA", "attack"] {
            assert!(broken.parse::<Records>().is_err(), "{broken}");
        }
    }

    #[test]
    fn a_new_run_takes_the_place_of_the_last_one_on_that_machine_alone() {
        let mut records = Records::default();
        for (board, date) in [("cpu", "1"), ("cpu+flask", "2"), ("cpu", "3")] {
            records.take(record("a", board, date));
        }
        let dates: Vec<&str> = records.of("a").iter().map(|record| record.date.as_str()).collect();
        assert_eq!(dates, ["3", "2"]);
        assert!(records.of("b").is_empty());
    }
}
