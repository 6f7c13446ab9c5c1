//! Every fuzz target for hundreds or thousands of cases, on stable Rust, in every test run.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;

/// Cases of a quick target.
const CASES: u32 = 2000;
/// Cases of a target that sets up a whole device or connection each time.
const SLOW_CASES: u32 = 300;
/// Cases of a target with a whole daemon, three guests and their stubs, and files.
const DAEMON_CASES: u32 = 100;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Small numbers are more often valid, so they reach deeper.
    let byte = prop_oneof![2 => 0u8..16, 1 => any::<u8>()];
    prop::collection::vec(byte, 0..600)
}

/// The same cases each time: a failure here is never a matter of luck. At least `deep_min`
/// of them reach what the target is about.
fn run(cases: u32, deep_min: u32, target: fn(&[u8]) -> bool) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let rng = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let deep = Cell::new(0);
    let result = runner.run(&bytes(), |data| {
        deep.set(deep.get() + u32::from(target(&data)));
        Ok(())
    });
    result.expect("the target's rules hold");
    assert!(deep.get() >= deep_min, "only {} of {cases} cases reached anything", deep.get());
}

#[test]
fn any_register_accesses_are_survived() {
    run(SLOW_CASES, 60, fuzz_targets::mmio_seq);
}

#[test]
fn any_queue_memory_is_survived() {
    run(CASES, 300, fuzz_targets::virtq_mem);
}

#[test]
fn any_chain_is_answered_and_nothing_else_is_written() {
    run(SLOW_CASES, 25, fuzz_targets::blk_chain);
}

#[test]
fn any_xenstored_is_survived() {
    run(SLOW_CASES, 5, fuzz_targets::xenstore_wire);
}

#[test]
fn any_storage_backend_is_survived() {
    run(SLOW_CASES, 5, fuzz_targets::blkif_ring);
}

#[test]
fn any_netback_is_survived() {
    run(SLOW_CASES, 20, fuzz_targets::netif_rings);
}

#[test]
fn any_frames_are_survived_and_the_next_connection_works() {
    run(SLOW_CASES, 20, fuzz_targets::net_frames);
}

#[test]
fn any_nbd_server_is_survived() {
    run(SLOW_CASES, 15, fuzz_targets::nbd_stream);
}

#[test]
fn any_tls_server_is_survived() {
    run(SLOW_CASES, 20, fuzz_targets::tls_stream);
}

#[test]
fn any_command_line_is_judged() {
    run(CASES, 20, fuzz_targets::config_parse);
}

#[test]
fn any_writes_of_a_guest_and_its_stub_are_survived() {
    run(DAEMON_CASES, 30, fuzz_targets::daemon_nodes);
}

#[test]
fn any_disk_line_and_disk_file_is_judged() {
    run(DAEMON_CASES, 20, fuzz_targets::disk_lines);
}

#[test]
fn our_queue_and_rust_vmm_s_find_the_same_chains() {
    run(CASES, 900, fuzz_targets::virtq_differential);
}

/// What a target lacks, of what names it in `tests/fuzz/Cargo.toml` and in this file.
fn missing(target: &str, manifest: &str, short: &str) -> Vec<&'static str> {
    let bin = format!("[[bin]]\nname = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n");
    let places = [
        ("a [[bin]]", manifest.contains(&bin)),
        ("a test", short.contains(&format!(", fuzz_targets::{target});"))),
    ];
    places.into_iter().filter(|(_, there)| !there).map(|(what, _)| what).collect()
}

#[test]
fn every_target_is_run_here_and_by_lib_fuzzer() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("the fuzzers' manifest");
    let short = include_str!("short.rs");
    for (target, _) in fuzz_targets::TARGETS {
        assert_eq!(missing(target, &manifest, short), [""; 0], "{target}");
        let program = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{target}.rs")));
        let program = program.unwrap_or_else(|error| panic!("fuzz_targets/{target}.rs: {error}"));
        assert!(program.contains(&format!("fuzz_targets::{target}(data)")), "{target}: runs something else");
    }
    assert_eq!(missing("no_target", &manifest, short), ["a [[bin]]", "a test"]);
}
