//! The documents against each other and the sources: every relative link leads to a file, and to a
//! heading in it; every path that is named exists.

use super::root;
use std::path::{Path, PathBuf};

/// Folders in which a path between backticks begins.
const FOLDERS: [&str; 8] = ["backend", "docs", "drivers", "image", "kernel", "scripts", "tests", "toolstack"];
/// These tell what was, with the names of that day.
const HISTORY: [&str; 2] = ["docs/measurements", "CHANGELOG.md"];
/// In a path: whatever the reader calls it.
const PLACEHOLDER: &str = "NAME";
const ROOT_DOCUMENTS: [&str; 3] = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"];

/// Every document of the project, from its root.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ROOT_DOCUMENTS.iter().map(PathBuf::from).collect();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("a folder of documents") {
            let path = folder.join(entry.expect("an entry of it").file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.retain(|path| root().join(path).is_file());
    found
}

/// The text without its code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Targets of `[text](target)`.
fn targets(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// Paths of the project between backticks; of `file::test` the file.
fn named_paths(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let paths = quoted.map(|quoted| quoted.split_once("::").map_or(quoted, |(path, _)| path));
    paths
        .filter(|path| path.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder)))
        .filter(|path| !path.contains(char::is_whitespace) && !path.contains(PLACEHOLDER))
        .collect()
}

/// Tests that are named between backticks: `file.rs::test`, `qemu:scenario`.
fn named_tests(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|name| name.starts_with("qemu:") || name.contains(".rs::"))
        .filter(|name| !name.contains(PLACEHOLDER) && *name != "qemu:scenario")
        .collect()
}

/// Why a link of `document` leads nowhere.
fn judge(document: &Path, target: &str) -> Result<(), String> {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let here = root().join(document);
    let there = if path.is_empty() { here } else { here.parent().unwrap_or(&here).join(path) };
    if !there.exists() {
        return Err(format!("{}: no file {target}", document.display()));
    }
    if heading.is_empty() {
        return Ok(());
    }
    let text = prose(&std::fs::read_to_string(&there).map_err(|error| format!("{target}: {error}"))?);
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    if headings.any(|line| anchor(line) == heading) {
        return Ok(());
    }
    Err(format!("{}: no heading {target}", document.display()))
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10, "{documents:?}");
    let mut faults = Vec::new();
    for document in &documents {
        let text = prose(&std::fs::read_to_string(root().join(document)).expect("a document"));
        let links = targets(&text).into_iter().filter(|target| !target.contains("://"));
        faults.extend(links.filter_map(|target| judge(document, target).err()));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut faults = Vec::new();
    for document in documents() {
        if HISTORY.iter().any(|history| document.starts_with(history)) {
            continue;
        }
        let text = prose(&std::fs::read_to_string(root().join(&document)).expect("a document"));
        let missing = named_paths(&text).into_iter().filter(|path| !root().join(path).exists());
        faults.extend(missing.map(|path| format!("{}: no file {path}", document.display())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut named = 0;
    let mut faults = Vec::new();
    for document in documents() {
        if HISTORY.iter().any(|history| document.starts_with(history)) {
            continue;
        }
        let text = prose(&std::fs::read_to_string(root().join(&document)).expect("a document"));
        for test in named_tests(&text) {
            named += 1;
            let fault = super::judge(&format!("`{test}`")).err();
            faults.extend(fault.map(|fault| format!("{}: {fault}", document.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(named > 100, "{named} tests are named");
}

#[test]
fn tests_are_told_from_other_quoted_words() {
    let text = "`qemu:demo`, `qemu:NAME`, `qemu:scenario`, `file::test`, `tests/a.rs::b`, `tests/a.rs`, `kernel::fake`";
    assert_eq!(named_tests(text), ["qemu:demo", "tests/a.rs::b"]);
}

#[test]
fn paths_are_told_from_other_quoted_words() {
    let text = "`tests/qemu`, `kernel/src/lib.rs::test`, `/dev/vda`, `poll-us`, `image a/b`, `docs/nowhere.md`, `docs/NAME.md`";
    assert_eq!(named_paths(text), ["tests/qemu", "kernel/src/lib.rs", "docs/nowhere.md"]);
}

#[test]
fn links_that_lead_nowhere_are_refused() {
    let document = Path::new("docs/architecture.md");
    assert_eq!(judge(document, "decisions/README.md"), Ok(()));
    assert_eq!(judge(document, "#under-load"), Ok(()));
    for (target, why) in
        [("nowhere.md", "no file"), ("#nowhere", "no heading"), ("../README.md#nowhere", "no heading")]
    {
        let fault = judge(document, target).expect_err(target);
        assert!(fault.contains(why), "{fault}");
    }
}
