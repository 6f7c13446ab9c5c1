//! How long files, and how long and deep functions may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::lint::files;
use crate::lint::source::{Function, Source};

/// The most lines of a file, tests included.
pub const FILE_LINES_MAX: usize = 450;
/// The most lines between the braces of a function's body, outside tests.
pub const FUNCTION_LINES_MAX: usize = 50;
/// How deep `if`, `match` and loops may stand in each other.
pub const FUNCTION_DEPTH_MAX: usize = 4;

/// Every file that is too long.
///
/// # Errors
/// When a folder or a file cannot be read.
pub fn long_files(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in files::SOURCES {
        for file in files::below(&root.join(folder), "rs")? {
            let text = fs::read_to_string(&file)?;
            found.extend(long_file(file.strip_prefix(root).unwrap_or(&file), &text));
        }
    }
    Ok(found)
}

fn long_file(file: &Path, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines, {FILE_LINES_MAX} at most", file.display()))
}

/// The functions in these files that are too long or too deep.
#[must_use]
pub fn find(files: &BTreeMap<PathBuf, Source>) -> Vec<String> {
    let mut found = Vec::new();
    for (file, source) in files {
        let shown = file.display();
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
        find(&files)
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
    fn a_file_may_have_its_limit_and_no_more_and_its_tests_count() {
        let file = |tests: usize| {
            let code = "// A line.\n".repeat(FILE_LINES_MAX - 13);
            format!("{code}#[cfg(test)]\nmod tests {{\n{}}}\n", "    // A test.\n".repeat(tests))
        };
        let found = |tests| long_file(Path::new("a/tests/b.rs"), &file(tests));
        assert_eq!(found(10), None);
        assert_eq!(found(11).unwrap(), "a/tests/b.rs: 451 lines, 450 at most");
    }

    #[test]
    fn every_source_of_the_checkout_is_read_and_tests_are_sources() {
        let root = tempfile::tempdir().unwrap();
        for folder in files::SOURCES {
            fs::create_dir_all(root.path().join(folder).join("deep/tests")).unwrap();
        }
        fs::write(root.path().join("kernel/deep/tests/a.rs"), "//\n".repeat(FILE_LINES_MAX + 1)).unwrap();
        fs::write(root.path().join("kernel/deep/tests/a.txt"), "//\n".repeat(FILE_LINES_MAX + 1)).unwrap();
        assert_eq!(long_files(root.path()).unwrap(), ["kernel/deep/tests/a.rs: 451 lines, 450 at most"]);
    }
}
