//! The inputs that are kept, each through its target.

use fuzz_targets::{TARGETS, corpus};

#[test]
fn every_kept_input_is_survived_and_some_reach_something() {
    for (name, target) in TARGETS {
        let path = corpus::path(name);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let inputs: Vec<Vec<u8>> =
            text.lines().map(|line| corpus::from_line(line).expect("hexadecimal digits")).collect();
        assert!((10..=corpus::KEPT_MAX).contains(&inputs.len()), "{name}: {} inputs", inputs.len());
        let deep = inputs.iter().filter(|input| target(input)).count();
        assert!(deep >= 3, "{name}: only {deep} of {} reach anything", inputs.len());
    }
}

#[test]
fn a_line_is_read_as_it_was_written() {
    let input: Vec<u8> = (0..=255).collect();
    assert_eq!(corpus::from_line(&corpus::to_line(&input)), Some(input));
    assert_eq!(corpus::from_line(""), Some(vec![]));
    assert_eq!(corpus::from_line("0"), None);
    assert_eq!(corpus::from_line("0g"), None);
}
