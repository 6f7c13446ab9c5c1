//! `tests/privileges.tsv` against what Pilotfish promises, and against the document that is made from it.

use std::collections::BTreeSet;
use std::fs;

use pilotfish_tests::privileges::explained::{Allowed, explained, needed};
use pilotfish_tests::privileges::table::{Role, Run, Table};
use pilotfish_tests::privileges::{document, document_path, table_path};

/// What anybody may do about anybody: to offer a port. The other side need not take it.
const OFFERS: &[&str] = &["event_channel_op.alloc_unbound_for"];
/// With FLASK also to look at a port: its check is about the port's owner, not about who asks.
const LOOKS: &[&str] = &["event_channel_op.status"];
/// What is over a domain, whoever asks: the whole of these hypercalls but `getdomaininfo`.
const OVER_DOMAINS: [&str; 2] = ["domctl.", "multicall.domctl_pausedomain"];

fn table() -> Table {
    Table::parse(&fs::read_to_string(table_path()).unwrap()).unwrap()
}

/// Every operation that was done about this object in this run.
fn done(table: &Table, run: &Run, object: &str) -> BTreeSet<String> {
    let rows = table.rows.iter().filter(|row| row.about(run, object) == Some("ok"));
    rows.map(|row| row.operation.clone()).collect()
}

#[test]
fn the_document_is_what_the_table_makes() {
    let document = fs::read_to_string(document_path()).unwrap();
    let made = document::update(&document, &table()).unwrap();
    assert!(made == document, "run `cargo run -p pilotfish-tests --bin privileges -- document`");
}

/// A new `ok` is a finding: it needs a reason in the document. So does one that is gone: its line has to go.
#[test]
fn every_ok_that_reaches_beyond_a_guest_itself_is_explained() {
    let table = table();
    let explained = explained(&fs::read_to_string(document_path()).unwrap(), &table).unwrap();
    let needed = needed(&table);
    let unexplained: Vec<&Allowed> = needed.difference(&explained).collect();
    assert!(unexplained.is_empty(), "without a line in docs/privileges.md: {unexplained:#?}");
    let superfluous: Vec<&Allowed> = explained.difference(&needed).collect();
    assert!(superfluous.is_empty(), "not so by the table: {superfluous:#?}");
}

#[test]
fn every_run_has_every_operation() {
    let table = table();
    let runs = table.runs();
    assert!(!runs.is_empty());
    for row in &table.rows {
        assert_eq!(row.answers.len(), runs.len(), "{}", row.operation);
    }
}

#[test]
fn nobody_does_anything_to_another_guest_or_to_dom0_but_offer_it_a_port_or_look_at_one() {
    let table = table();
    for run in table.runs() {
        let looks = if run.deployment == "A" { &[] } else { LOOKS };
        for object in ["other", "dom0", "xen", "io"] {
            for operation in done(&table, &run, object) {
                let is_known = OFFERS.iter().chain(looks).any(|known| *known == operation);
                assert!(is_known, "{run}, {object}: {operation}");
            }
        }
    }
}

/// The mapping of a page of another domain.
const MAPPING: &str = "memory_op.add_to_physmap_batch/gmfn_foreign_of";

#[test]
fn a_stub_does_to_its_guest_what_it_needs() {
    let table = table();
    for run in table.runs().into_iter().filter(|run| run.role == Role::Stub) {
        let done = done(&table, &run, "guest");
        assert!(done.contains("dm_op.nr_vcpus"), "{run}");
        // In B it has set its server up with its first label.
        let sets_up = run.deployment != "B";
        for needed in [
            "dm_op.create_ioreq_server",
            "dm_op.map_io_range_to_ioreq_server",
            "dm_op.set_ioreq_server_state",
            "memory_op.acquire_resource/ioreq_server",
        ] {
            assert_eq!(done.contains(needed), sets_up, "{run}: {needed}");
        }
        assert_eq!(done.contains(MAPPING), !run.deployment.starts_with('B'), "{run}");
    }
}

/// Who may map the guest's resources may write its grant table.
#[test]
fn in_b_nobody_maps_the_grant_table_of_a_guest() {
    let table = table();
    let runs: Vec<Run> = table.runs().into_iter().filter(|run| run.deployment == "B").collect();
    assert!(!runs.is_empty());
    for run in runs {
        let done = done(&table, &run, "guest");
        assert!(!done.contains("memory_op.acquire_resource/grant_table"), "{run}");
    }
}

/// The guest of the walk grants nothing, so what is left of the call is whether it is refused for want of a right.
#[test]
fn a_label_gives_its_guests_grants_in_b_alone() {
    let table = table();
    for run in table.runs().into_iter().filter(|run| run.role == Role::Stub && run.deployment != "A") {
        for operation in ["grant_table_op.map_grant_ref", "grant_table_op.copy"] {
            let row = table.rows.iter().find(|row| row.operation == operation).unwrap();
            let expected = if run.deployment == "B" { "general_error" } else { "permission_denied" };
            assert_eq!(row.about(&run, "guest"), Some(expected), "{run}: {operation}");
            assert_eq!(row.about(&run, "other"), Some("permission_denied"), "{run}: {operation}");
        }
    }
}

#[test]
fn no_domctl_is_done_but_a_look_at_ones_own_guest() {
    let table = table();
    for run in table.runs() {
        for &object in run.role.objects() {
            let done = done(&table, &run, object);
            let mut over = done.iter().filter(|op| OVER_DOMAINS.iter().any(|start| op.starts_with(start)));
            assert!(
                over.all(|op| op == "domctl.getdomaininfo" && object == "guest"),
                "{run}, {object}: {done:?}"
            );
        }
    }
}

#[test]
fn the_machine_is_the_toolstacks_alone() {
    for row in table().rows {
        if ["sysctl.", "platform_op.", "hypfs_op."].iter().any(|start| row.operation.starts_with(start)) {
            for (run, answers) in &row.answers {
                assert_ne!(answers.as_slice(), ["ok"], "{run}: {}", row.operation);
            }
        }
    }
}

#[test]
fn labels_allow_nothing_that_a_target_does_not_but_a_look_at_a_port() {
    let table = table();
    for labelled in table.runs().into_iter().filter(|run| run.deployment != "A") {
        let target = Run { deployment: "A".to_owned(), ..labelled.clone() };
        for &object in labelled.role.objects() {
            for operation in done(&table, &labelled, object).difference(&done(&table, &target, object)) {
                assert!(LOOKS.contains(&operation.as_str()), "{labelled}, {object}: {operation}");
            }
        }
    }
}
