//! What came of the attacks of a run, as one table.

use std::fmt::Write as _;

use anyhow::Result;
use xtask::protocol::{self, Verdict as Word};

use crate::attacks::Suite;
use crate::attacks::preambles::{self, Preamble};
use crate::report::Verdict;

/// An attack on one machine.
#[derive(Debug)]
struct Row {
    attack: String,
    verdict: Word,
    ms: u64,
    why: String,
}

/// A suite on one machine.
#[derive(Debug)]
struct Part {
    suite: &'static str,
    machine: String,
    rows: Vec<Row>,
    /// What its scenario told beside the attacks, if that is bad.
    trouble: Option<String>,
    stalls: String,
}

/// The table of a run.
#[derive(Debug)]
pub struct Table {
    parts: Vec<Part>,
}

impl Table {
    /// Of these suites, as far as they ran.
    ///
    /// # Errors
    /// When the attacks' sources cannot be read.
    pub fn of(suites: &[Suite], verdicts: &[Verdict]) -> Result<Self> {
        let mut parts = Vec::new();
        for suite in suites {
            let announced = preambles::of(suite)?;
            let ran = verdicts.iter().filter(|verdict| verdict.scenario.name == suite.scenario);
            let before = parts.len();
            parts.extend(ran.map(|verdict| Part::of(suite.scenario, &announced, verdict)));
            if parts.len() == before {
                parts.push(Part::not_run(suite.scenario, &announced));
            }
        }
        Ok(Self { parts })
    }

    /// Whether every suite came to its end and no attack is a failure or an error.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let good = |row: &Row| matches!(row.verdict, Word::Success | Word::Skip);
        self.parts.iter().all(|part| part.trouble.is_none() && part.rows.iter().all(good))
    }

    /// All of it: a line for each attack, a line for each suite, the total.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{:<20} {:<24} {:<8} {:>7}  machine\n", "suite", "attack", "verdict", "ms");
        // Writing into a String cannot fail.
        for part in &self.parts {
            for Row { attack, verdict, ms, why } in &part.rows {
                let word = verdict.word();
                let why = if why.is_empty() { String::new() } else { format!("  {why}") };
                let _ = writeln!(
                    text,
                    "{:<20} {attack:<24} {word:<8} {ms:>7}  {}{why}",
                    part.suite, part.machine
                );
            }
        }
        text.push('\n');
        for part in &self.parts {
            let trouble = part.trouble.as_deref().map_or(String::new(), |why| format!("; {why}"));
            let counts = counts(&part.rows);
            let _ = writeln!(text, "{:<20} {}: {counts}{}{trouble}", part.suite, part.machine, part.stalls);
        }
        let _ = writeln!(text, "{:<20} {}", "total", counts(self.parts.iter().flat_map(|part| &part.rows)));
        text
    }
}

impl Part {
    fn of(suite: &'static str, announced: &[Preamble], verdict: &Verdict) -> Self {
        let outcome = &verdict.outcome;
        let told = |name: &str| outcome.attacks.iter().rfind(|attack| attack.name == name);
        let mut rows: Vec<Row> =
            announced.iter().map(|preamble| Row::of(&preamble.name, told(&preamble.name))).collect();
        for attack in &outcome.attacks {
            if announced.iter().all(|preamble| preamble.name != attack.name) {
                let why = format!("{} in no list", attack.why).trim().to_owned();
                rows.push(Row { attack: attack.name.clone(), verdict: Word::Error, ms: attack.ms, why });
            }
        }
        let failed = outcome.checks.iter().filter(|check| !check.passed).count();
        let trouble = match (&verdict.trouble, verdict.passed()) {
            (_, true) => None,
            (Some(trouble), _) => Some(trouble.clone()),
            (None, _) => Some(format!(
                "FAILED: {failed} of {} checks, exit status {:?}",
                outcome.checks.len(),
                outcome.status
            )),
        };
        let machine = format!("Xen {} {}", verdict.xen, verdict.board);
        Self { suite, machine, rows, trouble, stalls: stalls(verdict) }
    }

    fn not_run(suite: &'static str, announced: &[Preamble]) -> Self {
        let skipped = |preamble: &Preamble| Row {
            attack: preamble.name.clone(),
            verdict: Word::Skip,
            ms: 0,
            why: "not for this machine".to_owned(),
        };
        let rows = announced.iter().map(skipped).collect();
        Self { suite, machine: "no machine".to_owned(), rows, trouble: None, stalls: String::new() }
    }
}

impl Row {
    fn of(name: &str, told: Option<&protocol::Attack>) -> Self {
        let attack = name.to_owned();
        match told {
            Some(told) => Self { attack, verdict: told.verdict, ms: told.ms, why: told.why.clone() },
            None => Self { attack, verdict: Word::Error, ms: 0, why: "not made".to_owned() },
        }
    }
}

/// The worst stalls of a suite beside those of its quiet stretch.
fn stalls(verdict: &Verdict) -> String {
    let fact = |key: &str| verdict.outcome.facts.get(key).filter(|value| !value.is_empty());
    let mut text = String::new();
    for who in ["dom0", "bystander"] {
        let worst = (fact(&format!("stall_{who}_ms")), fact(&format!("stall_{who}_quiet_ms")));
        if let (Some(worst), Some(quiet)) = worst {
            let _ = write!(text, "; {who} held up {worst} ms (quiet: {quiet} ms)");
        }
    }
    text
}

fn counts<'a>(rows: impl IntoIterator<Item = &'a Row> + Clone) -> String {
    let of = |verdict| rows.clone().into_iter().filter(|row| row.verdict == verdict).count();
    let words = Word::ALL.map(|verdict| format!("{} {}", of(verdict), verdict.word()));
    format!("{} attacks: {}", rows.clone().into_iter().count(), words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::SCENARIOS;
    use xtask::agent::{Check, Outcome};
    use xtask::protocol::Attack;
    use xtask::setup::XenVersion;

    fn verdict(attacks: &[(&str, Word)], facts: &[(&str, &str)]) -> Verdict {
        let attacks = attacks.iter().map(|&(name, verdict)| Attack {
            name: name.to_owned(),
            verdict,
            ms: 7,
            why: String::new(),
        });
        let facts = facts.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let checks = vec![Check { passed: true, what: "a".to_owned() }];
        let outcome =
            Outcome { status: Some(0), checks, attacks: attacks.collect(), facts, ..Outcome::default() };
        Verdict {
            scenario: SCENARIOS[0],
            xen: XenVersion::V4_20,
            board: "cpu".to_owned(),
            outcome,
            trouble: None,
            wall_ms: 0,
        }
    }

    fn table(verdict: &Verdict) -> Table {
        let announced = ["one", "two"].map(|name| Preamble { name: name.to_owned(), tries: String::new() });
        Table { parts: vec![Part::of("suite", &announced, verdict)] }
    }

    #[test]
    fn a_table_is_good_if_each_attack_is_a_success_or_cannot_be_made_here() {
        let seen = table(&verdict(&[("one", Word::Success), ("two", Word::Skip)], &[]));
        assert!(seen.is_good());
        let text = seen.text();
        assert!(
            text.contains("total                2 attacks: 1 success, 0 failure, 0 error, 1 skip"),
            "{text}"
        );
        for bad in [Word::Failure, Word::Error] {
            assert!(!table(&verdict(&[("one", Word::Success), ("two", bad)], &[])).is_good());
        }
    }

    #[test]
    fn an_attack_that_was_not_told_or_that_no_list_has_is_an_error() {
        let seen = table(&verdict(&[("one", Word::Success)], &[]));
        assert!(!seen.is_good() && seen.text().contains("not made"), "{}", seen.text());
        let told = [("one", Word::Success), ("two", Word::Success), ("three", Word::Success)];
        let seen = table(&verdict(&told, &[]));
        assert!(!seen.is_good() && seen.text().contains("in no list"), "{}", seen.text());
    }

    #[test]
    fn a_scenario_that_failed_beside_its_attacks_is_told() {
        let mut failed = verdict(&[("one", Word::Success), ("two", Word::Success)], &[]);
        failed.outcome.checks.push(Check { passed: false, what: "b".to_owned() });
        let seen = table(&failed);
        assert!(!seen.is_good() && seen.text().contains("FAILED: 1 of 2 checks"), "{}", seen.text());
    }

    #[test]
    fn stalls_are_told_beside_those_of_the_quiet_stretch() {
        let facts = [("stall_dom0_ms", "40"), ("stall_dom0_quiet_ms", "10"), ("stall_bystander_ms", "9")];
        let text = table(&verdict(&[], &facts)).text();
        assert!(text.contains("dom0 held up 40 ms (quiet: 10 ms)"), "{text}");
        assert!(!text.contains("bystander"), "{text}");
    }

    #[test]
    fn a_suite_that_ran_nowhere_is_skipped() {
        let announced = [Preamble { name: "one".to_owned(), tries: String::new() }];
        let seen = Table { parts: vec![Part::not_run("suite", &announced)] };
        assert!(seen.is_good() && seen.text().contains("1 skip"), "{}", seen.text());
    }
}
