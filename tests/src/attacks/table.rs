//! What came of the attacks of a run, as one table.

use std::fmt::Write as _;

use anyhow::Result;
use xtask::protocol::{Attack, Stalls, Verdict as Word};

use crate::attacks::Suite;
use crate::attacks::preambles::{self, Preamble};
use crate::attacks::record::{Place, Record};
use crate::report::Verdict;

/// A suite on one machine.
#[derive(Debug)]
pub struct Part {
    suite: &'static str,
    /// None: it ran nowhere.
    place: Option<Place>,
    rows: Vec<Attack>,
    /// What its scenario told beside the attacks, if that is bad.
    trouble: Option<String>,
    quiet: Stalls,
    worst: Stalls,
    seconds: u64,
    versions: String,
    /// Whether each attack was told of.
    ended: bool,
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
        self.parts.iter().all(Part::is_good)
    }

    /// What is worth keeping: the suites that came to their end, which were run on that day.
    pub fn records(self, date: &str) -> impl Iterator<Item = Record> {
        self.parts.into_iter().filter(|part| part.ended).filter_map(move |part| {
            Some(Record {
                suite: part.suite.to_owned(),
                place: part.place?,
                versions: part.versions,
                date: date.to_owned(),
                seconds: part.seconds,
                quiet: part.quiet,
                worst: part.worst,
                attacks: part.rows,
            })
        })
    }

    /// All of it: a line for each attack, a line for each suite, the total.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<20} {:<24} {:<8} {:>7} {:>12}  machine\n",
            "suite", "attack", "verdict", "ms", "held up, ms"
        );
        // Writing into a String cannot fail.
        for part in &self.parts {
            let machine = part.machine();
            for Attack { name, verdict, ms, stalls, why } in &part.rows {
                let (suite, word, stalls) = (part.suite, verdict.word(), stalls.to_string());
                let why = if why.is_empty() { String::new() } else { format!("  {why}") };
                let _ =
                    writeln!(text, "{suite:<20} {name:<24} {word:<8} {ms:>7} {stalls:>12}  {machine}{why}");
            }
        }
        text.push_str(
            "\nheld up: how late a sleep of dom0's ended / the bystander's longest round, at worst\n\n",
        );
        for part in &self.parts {
            let _ = writeln!(text, "{}", part.line());
        }
        let _ = writeln!(text, "{:<20} {}", "total", counts(self.parts.iter().flat_map(|part| &part.rows)));
        text
    }
}

impl Part {
    /// Of a suite with these attacks.
    #[must_use]
    pub fn of(suite: &'static str, announced: &[Preamble], verdict: &Verdict) -> Self {
        let outcome = &verdict.outcome;
        let place = Place::of(verdict.xen.as_str(), &verdict.board);
        let told = |preamble: &Preamble| outcome.attacks.iter().rfind(|attack| attack.name == preamble.name);
        let row = |preamble| {
            told(preamble).cloned().unwrap_or_else(|| wrong(&preamble.name, "not made".to_owned()))
        };
        let mut rows: Vec<Attack> = announced.iter().map(row).collect();
        for attack in &outcome.attacks {
            if announced.iter().all(|preamble| preamble.name != attack.name) {
                rows.push(wrong(&attack.name, format!("{} in no list", attack.why).trim().to_owned()));
            }
        }
        for row in rows.iter_mut().filter(|row| row.verdict == Word::Refused && !place.has_policy()) {
            *row = Attack {
                why: format!("no policy could refuse it: {}", row.why),
                verdict: Word::Error,
                ..row.clone()
            };
        }
        Self {
            suite,
            place: Some(place),
            rows,
            trouble: trouble(verdict),
            quiet: stalls(verdict, "_quiet"),
            worst: stalls(verdict, ""),
            seconds: verdict.wall_ms / 1000,
            versions: verdict.versions.clone(),
            ended: verdict.trouble.is_none() && announced.iter().all(|preamble| told(preamble).is_some()),
        }
    }

    fn not_run(suite: &'static str, announced: &[Preamble]) -> Self {
        let skipped = |preamble: &Preamble| Attack {
            verdict: Word::Skip,
            ..wrong(&preamble.name, "not for this machine".to_owned())
        };
        let rows = announced.iter().map(skipped).collect();
        Self {
            suite,
            place: None,
            rows,
            trouble: None,
            quiet: Stalls::default(),
            worst: Stalls::default(),
            seconds: 0,
            versions: String::new(),
            ended: false,
        }
    }

    /// Whether no attack is a failure or an error, and nothing else was wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.trouble.is_none() && !self.rows.iter().any(|row| row.verdict.is_bad())
    }

    fn machine(&self) -> String {
        match &self.place {
            Some(Place { deployment, xen, cpu }) => format!("{deployment} Xen {xen} {cpu}"),
            None => "no machine".to_owned(),
        }
    }

    /// What came of the suite, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{:<20} {}: {}", self.suite, self.machine(), counts(&self.rows));
        for (who, worst, quiet) in [
            ("dom0", self.worst.dom0_ms, self.quiet.dom0_ms),
            ("bystander", self.worst.bystander_ms, self.quiet.bystander_ms),
        ] {
            if let (Some(worst), Some(quiet)) = (worst, quiet) {
                // Writing into a String cannot fail.
                let _ = write!(line, "; {who} held up {worst} ms (quiet: {quiet} ms)");
            }
        }
        if let Some(trouble) = &self.trouble {
            let _ = write!(line, "; {trouble}");
        }
        line
    }
}

/// An attack that is an error for that reason.
fn wrong(name: &str, why: String) -> Attack {
    Attack { name: name.to_owned(), verdict: Word::Error, ms: 0, stalls: Stalls::default(), why }
}

/// What a scenario told beside its attacks, if that is bad.
fn trouble(verdict: &Verdict) -> Option<String> {
    let outcome = &verdict.outcome;
    let failed = outcome.checks.iter().filter(|check| !check.passed).count();
    match (&verdict.trouble, verdict.passed()) {
        (_, true) => None,
        (Some(trouble), _) => Some(trouble.clone()),
        (None, _) => Some(format!(
            "FAILED: {failed} of {} checks, exit status {:?}",
            outcome.checks.len(),
            outcome.status
        )),
    }
}

/// The worst stalls of a suite, or with `_quiet` those of its quiet stretch.
fn stalls(verdict: &Verdict, of: &str) -> Stalls {
    let fact = |who: &str| verdict.outcome.facts.get(&format!("stall_{who}{of}_ms"))?.parse().ok();
    Stalls { dom0_ms: fact("dom0"), bystander_ms: fact("bystander") }
}

fn counts<'a>(rows: impl IntoIterator<Item = &'a Attack> + Clone) -> String {
    let of = |verdict| rows.clone().into_iter().filter(|row| row.verdict == verdict).count();
    let words = Word::ALL.map(|verdict| format!("{} {}", of(verdict), verdict.word()));
    format!("{} attacks: {}", rows.clone().into_iter().count(), words.join(", "))
}

#[cfg(test)]
mod tests;
