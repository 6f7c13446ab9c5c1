//! One word that has two meanings: `backend` is a crate here, and a party of Xen's.
//!
//! Comments and documents say "storage backend" or "blkback" for the party. What else Xen calls so has
//! another word beside it (`AFTER`). The crate stands in backticks. `docs/glossary.md` explains them.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::lint::files;

const DOCUMENTS: [&str; 3] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
/// These tell what was, with the words of that day.
const HISTORY: &str = "docs/measurements";
/// The word before: what it is for. xl writes `backendtype=standalone`.
const BEFORE: [&str; 2] = ["storage", "standalone"];
/// The word after, in xenstore's names of things.
const AFTER: [&str; 3] = ["domain", "directory", "directories"];

/// Every bare `backend` in the comments of the sources, and in the documents.
///
/// # Errors
/// When a folder or a file cannot be read.
pub fn find(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut read = |file: &Path, text_of: fn(&str) -> Option<&str>| -> Result<()> {
        let shown = file.strip_prefix(root).unwrap_or(file);
        let text = fs::read_to_string(file)?;
        let lines = bare(&text, text_of);
        found.extend(lines.iter().map(|line| {
            format!(
                "{}:{line}: a bare \"backend\": the storage backend, or the crate in backticks?",
                shown.display()
            )
        }));
        Ok(())
    };
    // Scripts are not read: a `#` is not always a comment.
    for folder in files::SOURCES {
        for file in files::below(&root.join(folder), "rs")? {
            read(&file, comment)?;
        }
    }
    for file in files::below(&root.join("docs"), "md")? {
        if !file.starts_with(root.join(HISTORY)) {
            read(&file, prose)?;
        }
    }
    DOCUMENTS.iter().try_for_each(|file| read(&root.join(file), prose))?;
    Ok(found)
}

/// The text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']))
}

/// The text of a document's line: all of it, up to an empty one.
fn prose(line: &str) -> Option<&str> {
    Some(line).filter(|line| !line.trim().is_empty())
}

/// The lines with a bare `backend`, from 1.
fn bare(text: &str, text_of: impl Fn(&str) -> Option<&str>) -> Vec<usize> {
    let (mut found, mut words) = (Vec::new(), Vec::new());
    let (mut is_example, mut is_quoted) = (false, false);
    // One line more, so that the last paragraph ends as well.
    for (number, line) in (1..).zip(text.lines().chain([""])) {
        let Some(line) = text_of(line) else {
            found.extend(judge(&words));
            words.clear();
            (is_example, is_quoted) = (false, false);
            continue;
        };
        if line.trim_start().starts_with("```") {
            is_example = !is_example;
        } else if !is_example {
            let kept: String = line.chars().filter(|&c| keep(c, &mut is_quoted)).collect();
            words.extend(kept.split_whitespace().map(|word| (number, plain(word))));
        }
    }
    found
}

/// Whether a character is outside of backticks, which stay themselves.
fn keep(c: char, is_quoted: &mut bool) -> bool {
    *is_quoted ^= c == '`';
    c == '`' || !*is_quoted
}

/// A word without what surrounds it, and without its `'s`.
fn plain(word: &str) -> String {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '`');
    word.strip_suffix("'s").unwrap_or(word).to_lowercase()
}

/// The lines of those words that stand bare.
fn judge(words: &[(usize, String)]) -> Vec<usize> {
    let at = |index: Option<usize>| index.and_then(|at| words.get(at)).map_or("", |(_, word)| word.as_str());
    let is_bare = |index: usize| {
        ["backend", "backends"].contains(&at(Some(index)))
            && !BEFORE.contains(&at(index.checked_sub(1)))
            && !AFTER.contains(&at(index.checked_add(1)))
    };
    words.iter().enumerate().filter(|&(index, _)| is_bare(index)).map(|(_, (line, _))| *line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_backend_in_a_comment_is_found() {
        for text in [
            "/// The backend is told.",
            "//! Backends come and go.",
            "fn f() {}\n    // Of a storage\n    // backend, or of a backend's domains.",
            "// `storage` backend",
            "// A storage.\n\n// Backend.",
        ] {
            assert_eq!(bare(text, comment), [text.lines().count()], "{text}");
        }
    }

    #[test]
    fn the_crate_code_and_what_has_its_other_word_beside_it_are_not() {
        for text in [
            "let backend = 1;",
            "// The storage\n// backend, or storage backends' states.",
            "// In `backend`, `a\n// backend b`, backend/src, backend::blk and backend-timeout-ms.",
            "// ```\n// use the backend;\n// ```",
            "// The backend directory of a backend domain; a standalone backend.",
        ] {
            assert_eq!(bare(text, comment), [0; 0], "{text}");
        }
    }

    #[test]
    fn a_document_is_read_by_paragraphs() {
        assert_eq!(bare("# The storage\n\nbackend\nis\n\n```\nthe backend\n```\n", prose), [3]);
        assert_eq!(bare("A storage\nbackend is\n", prose), [0; 0]);
    }
}
