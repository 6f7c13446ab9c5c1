use super::*;
use crate::manifest::SCENARIOS;
use xtask::agent::{Check, Outcome};
use xtask::protocol::{Attack, Stalls};
use xtask::setup::XenVersion;

fn verdict(attacks: &[(&str, Word)], facts: &[(&str, &str)]) -> Verdict {
    let attacks = attacks.iter().map(|&(name, verdict)| Attack {
        name: name.to_owned(),
        verdict,
        ms: 7,
        stalls: Stalls::default(),
        why: String::new(),
    });
    let facts = facts.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let checks = vec![Check { passed: true, what: "a".to_owned() }];
    let outcome =
        Outcome { status: Some(0), checks, attacks: attacks.collect(), facts, ..Outcome::default() };
    Verdict {
        scenario: SCENARIOS[0],
        xen: XenVersion::V4_20,
        versions: String::new(),
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
        text.contains("total                2 attacks: 1 success, 0 refused, 0 failure, 0 error, 1 skip"),
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
    assert!(!text.contains("bystander held up"), "{text}");
}

#[test]
fn what_a_policy_refused_is_good_where_there_is_a_policy() {
    let mut told = verdict(&[("one", Word::Refused), ("two", Word::Success)], &[]);
    let without = table(&told);
    assert!(!without.is_good() && without.text().contains("no policy could refuse it"), "{}", without.text());
    told.board = "cpu+flask".to_owned();
    let with = table(&told);
    assert!(with.is_good() && with.text().contains("1 refused"), "{}", with.text());
}

#[test]
fn what_each_attack_held_up_is_told_and_kept() {
    let mut told =
        verdict(&[("one", Word::Success), ("two", Word::Success)], &[("stall_dom0_quiet_ms", "10")]);
    told.outcome.attacks[0].stalls = Stalls { dom0_ms: Some(40), bystander_ms: Some(900) };
    let seen = table(&told);
    assert!(seen.text().contains("40/900"), "{}", seen.text());
    let kept: Vec<_> = seen.records("2026-11-30").collect();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].date.as_str(), kept[0].quiet.dom0_ms), ("2026-11-30", Some(10)));
    assert_eq!(kept[0].attacks[0].stalls.bystander_ms, Some(900));
}

#[test]
fn a_suite_that_broke_off_or_ran_nowhere_is_not_kept() {
    assert_eq!(table(&verdict(&[("one", Word::Success)], &[])).records("").count(), 0);
    let mut silent = verdict(&[("one", Word::Success), ("two", Word::Success)], &[]);
    silent.trouble = Some("not run".to_owned());
    assert_eq!(table(&silent).records("").count(), 0);
    let announced = [Preamble { name: "one".to_owned(), tries: String::new() }];
    assert_eq!(Table { parts: vec![Part::not_run("suite", &announced)] }.records("").count(), 0);
}

#[test]
fn a_suite_that_ran_nowhere_is_skipped() {
    let announced = [Preamble { name: "one".to_owned(), tries: String::new() }];
    let seen = Table { parts: vec![Part::not_run("suite", &announced)] };
    assert!(seen.is_good() && seen.text().contains("1 skip"), "{}", seen.text());
}
