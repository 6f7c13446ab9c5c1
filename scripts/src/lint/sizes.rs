//! How long files, and how long and deep functions may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::lint::source::{Function, Source};

/// The most lines of a file, without what it compiles for tests only.
pub const FILE_LINES_MAX: usize = 450;
/// The most lines between the braces of a function's body, outside tests.
pub const FUNCTION_LINES_MAX: usize = 50;
/// How deep `if`, `match` and loops may stand in each other.
pub const FUNCTION_DEPTH_MAX: usize = 4;

/// What is too long in these files; `lines` tells how many a file has in all.
#[must_use]
pub fn find(files: &BTreeMap<PathBuf, Source>, lines: impl Fn(&Path) -> usize) -> Vec<String> {
    let mut found = Vec::new();
    for (file, source) in files {
        let shown = file.display();
        let code = lines(file).saturating_sub(source.test_lines);
        if code > FILE_LINES_MAX {
            found.push(format!("{shown}: {code} lines, {FILE_LINES_MAX} at most"));
        }
        for Function { name, line, lines, depth } in &source.functions {
            if *lines > FUNCTION_LINES_MAX {
                found.push(format!(
                    "{shown}:{line}: fn {name} has {lines} lines, {FUNCTION_LINES_MAX} at most"
                ));
            }
            if *depth > FUNCTION_DEPTH_MAX {
                found
                    .push(format!("{shown}:{line}: fn {name} is {depth} deep, {FUNCTION_DEPTH_MAX} at most"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let files = BTreeMap::from([("a.rs".into(), Source::parse(text).unwrap())]);
        find(&files, |_| text.lines().count())
    }

    #[test]
    fn a_function_may_have_its_limit_and_no_more() {
        let function = |lines| format!("fn f() {{\n{}}}\n", "    1;\n".repeat(lines));
        assert!(found(&function(FUNCTION_LINES_MAX)).is_empty());
        assert_eq!(found(&function(FUNCTION_LINES_MAX + 1)), ["a.rs:1: fn f has 51 lines, 50 at most"]);
        assert!(found(&format!("#[cfg(test)]\nmod tests {{\n{}}}", function(60))).is_empty());
    }

    #[test]
    fn a_function_may_be_as_deep_as_its_limit_and_no_deeper() {
        let function = |deep| format!("fn f() {{ {}{} }}", "if a { ".repeat(deep), "}".repeat(deep));
        assert!(found(&function(FUNCTION_DEPTH_MAX)).is_empty());
        assert_eq!(found(&function(FUNCTION_DEPTH_MAX + 1)), ["a.rs:1: fn f is 5 deep, 4 at most"]);
    }

    #[test]
    fn a_file_may_have_its_limit_and_no_more_and_its_tests_are_not_counted() {
        let file = "// A line.\n".repeat(FILE_LINES_MAX);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    const _: () = ();\n".repeat(100));
        assert!(found(&format!("{file}{tests}")).is_empty());
        assert_eq!(found(&format!("//\n{file}{tests}")), ["a.rs: 451 lines, 450 at most"]);
    }
}
