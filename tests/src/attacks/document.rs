//! `docs/attacks.md`, whose tables are made from [`Records`] and from what each attack is said to try.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use xtask::protocol::{Attack, Stalls, Verdict};

use crate::attacks::preambles::{self, Preamble};
use crate::attacks::record::{Place, Record, Records};
use crate::attacks::{SUITES, Suite};
use crate::manifest::SCENARIOS;

const BEGIN: &str = "<!-- made from tests/attacks.tsv by `cargo xtask attack --document` -->\n";
const END: &str = "<!-- end of what is made -->\n";
/// The CPU model that a column need not name.
const USUAL_CPU: &str = "cortex-a57";
/// The Xen that a column need not name.
const USUAL_XEN: &str = "4.20";

/// Replaces what is made in the document.
///
/// # Errors
/// When the document lacks the marks, or an attack's source cannot be read.
pub fn update(document: &str, records: &Records) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).context("the document has no begin of what is made")?;
    let (_, after) = rest.split_once(END).context("the document has no end of what is made")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", render(SUITES, records)?))
}

fn render(suites: &[Suite], records: &Records) -> Result<String> {
    let mut summary =
        "\n| suite | machine | attacks | held up (quiet), ms: dom0 | bystander | s | day |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    let mut sections = String::new();
    for suite in suites {
        let announced = preambles::of(suite)?;
        let runs = records.of(suite.scenario);
        summary.push_str(&summary_of(suite, &announced, &runs));
        sections.push_str(&section(suite, &announced, &runs));
    }
    Ok(format!("{summary}{sections}\n"))
}

/// The rows of a suite in the first table.
fn summary_of(suite: &Suite, announced: &[Preamble], runs: &[&Record]) -> String {
    let link = format!("[`{0}`](#{0})", suite.scenario);
    if runs.is_empty() {
        return format!("| {link} | no run kept | {} | | | | |\n", announced.len());
    }
    let mut text = String::new();
    for (n, run) in runs.iter().enumerate() {
        let name = if n == 0 { &*link } else { "" };
        let (dom0, bystander) = (
            beside(run.worst.dom0_ms, run.quiet.dom0_ms),
            beside(run.worst.bystander_ms, run.quiet.bystander_ms),
        );
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {dom0} | {bystander} | {} | {} |",
            head(&run.place),
            counts(&run.attacks),
            run.seconds,
            run.date
        );
    }
    text
}

/// The worst, with the quiet value in brackets.
fn beside(worst: Option<u64>, quiet: Option<u64>) -> String {
    match (worst, quiet) {
        (Some(worst), Some(quiet)) => format!("{worst} ({quiet})"),
        (Some(worst), None) => worst.to_string(),
        (None, _) => String::new(),
    }
}

fn counts(attacks: &[Attack]) -> String {
    let of = |verdict| attacks.iter().filter(|attack| attack.verdict == verdict).count();
    let words: Vec<String> = Verdict::ALL
        .iter()
        .map(|&verdict| (of(verdict), verdict.word()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    words.join(", ")
}

fn section(suite: &Suite, announced: &[Preamble], runs: &[&Record]) -> String {
    let rule = SCENARIOS.iter().find(|scenario| scenario.name == suite.scenario).map_or("", |one| one.rule);
    let mut text = format!("\n### {}\n\nThe rule: {rule}.\n\n| attack | what it tries |", suite.scenario);
    for run in runs {
        // Writing into a String cannot fail.
        let _ = write!(text, " {} |", head(&run.place));
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(runs.len()));
    text.push('\n');
    for Preamble { name, tries } in announced {
        let _ = write!(text, "| `{name}` | {} |", tries.replace('|', "\\|"));
        for run in runs {
            let told = run.attacks.iter().find(|attack| attack.name == *name);
            let _ = write!(text, " {} |", told.map_or_else(|| "not run".to_owned(), cell));
        }
        text.push('\n');
    }
    if runs.is_empty() {
        text.push_str("\nNo run is kept.\n");
    }
    text
}

fn cell(attack: &Attack) -> String {
    let Stalls { dom0_ms, bystander_ms } = attack.stalls;
    match (dom0_ms, bystander_ms) {
        (None, None) => attack.verdict.word().to_owned(),
        _ => format!("{} {}", attack.verdict.word(), attack.stalls),
    }
}

/// What a column is called.
fn head(place: &Place) -> String {
    let mut text = place.deployment.clone();
    if place.cpu != USUAL_CPU {
        text = format!("{text}, {}", place.cpu);
    }
    if place.xen != USUAL_XEN {
        text = format!("{text}, Xen {}", place.xen);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::attacks::{document_path, records_path};

    fn records() -> Records {
        fs::read_to_string(records_path()).unwrap().parse().unwrap()
    }

    #[test]
    fn the_document_is_what_the_records_make() {
        let document = fs::read_to_string(document_path()).unwrap();
        assert!(update(&document, &records()).unwrap() == document, "run `cargo xtask attack --document`");
    }

    #[test]
    fn every_attack_that_is_announced_stands_in_the_document_and_no_other() {
        let document = fs::read_to_string(document_path()).unwrap();
        for suite in SUITES {
            let announced: BTreeSet<String> =
                preambles::of(suite).unwrap().into_iter().map(|preamble| preamble.name).collect();
            let (_, section) = document.split_once(&format!("\n### {}\n", suite.scenario)).unwrap();
            let section = section.split("\n### ").next().unwrap();
            let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
            assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<_>>(), announced, "{}", suite.scenario);
        }
    }

    #[test]
    fn nothing_is_kept_of_an_attack_or_a_suite_that_there_is_not() {
        for record in &records().0 {
            let suite = SUITES.iter().find(|suite| suite.scenario == record.suite);
            let announced = preambles::of(suite.unwrap_or_else(|| panic!("{}", record.suite))).unwrap();
            let names = |text: &str| announced.iter().any(|preamble| preamble.name == text);
            for attack in &record.attacks {
                assert!(names(&attack.name), "{}: {}", record.suite, attack.name);
                let refused = attack.verdict == Verdict::Refused;
                assert!(!refused || record.place.has_policy(), "{}: {}", record.suite, attack.name);
            }
        }
    }

    #[test]
    fn a_suite_that_was_not_run_says_so_and_one_that_was_has_a_column() {
        let suites = [SUITES[0], SUITES[1]];
        let run = format!(
            "run\t{}\tA+\t4.20\tneoverse-n1\tXen 4.20.4\t2026-11-30\t95\t10/20\t30/40\n\
             attack\tread-everything\tsuccess\t7\t30/-\t\n",
            SUITES[0].scenario
        );
        let text = render(&suites, &run.parse().unwrap()).unwrap();
        assert!(
            text.contains("| A+, neoverse-n1 | 1 success | 30 (10) | 40 (20) | 95 | 2026-11-30 |"),
            "{text}"
        );
        assert!(text.contains("| success 30/- |"), "{text}");
        assert!(text.contains("| not run |"), "{text}");
        assert!(text.contains("| no run kept |") && text.contains("\nNo run is kept.\n"), "{text}");
    }
}
