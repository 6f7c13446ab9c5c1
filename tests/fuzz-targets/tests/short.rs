//! Every fuzz target for hundreds or thousands of cases, on stable Rust, in every test run.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Cases of a quick target.
const CASES: u32 = 2000;
/// Cases of a target that sets up a whole device or connection each time.
const SLOW_CASES: u32 = 300;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Small numbers are more often valid, so they reach deeper.
    let byte = prop_oneof![2 => 0u8..16, 1 => any::<u8>()];
    prop::collection::vec(byte, 0..600)
}

/// The same cases each time: a failure here is never a matter of luck.
fn run(cases: u32, target: fn(&[u8])) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let rng = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&bytes(), |data| {
        target(&data);
        Ok(())
    });
    result.expect("the target's rules hold");
}

#[test]
fn any_register_accesses_are_survived() {
    run(SLOW_CASES, fuzz_targets::mmio_seq);
}

#[test]
fn any_queue_memory_is_survived() {
    run(CASES, fuzz_targets::virtq_mem);
}

#[test]
fn any_chain_is_answered_and_nothing_else_is_written() {
    run(SLOW_CASES, fuzz_targets::blk_chain);
}

#[test]
fn any_xenstored_is_survived() {
    run(SLOW_CASES, fuzz_targets::xenstore_wire);
}

#[test]
fn any_block_back_end_is_survived() {
    run(SLOW_CASES, fuzz_targets::blkif_ring);
}

#[test]
fn any_command_line_is_judged() {
    run(CASES, fuzz_targets::config_parse);
}

#[test]
fn our_queue_and_rust_vmm_s_find_the_same_chains() {
    run(CASES, fuzz_targets::virtq_differential);
}
