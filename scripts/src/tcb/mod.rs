//! `cargo xtask tcb`: what has to be trusted, counted from the sources that the stub's image is made of.
//!
//! - [`mod@cfg`]: what of a source file is compiled into the image.
//! - [`count`]: its lines of code, its `unsafe`, the words that it uses.
//! - [`crates`]: which crates the image has, with their features.
//! - [`others`]: what a device model in a Linux domain runs, as Debian has it.
//! - [`table`]: all of it as a document.
//! - [`picture`]: the sizes to scale.

pub mod cfg;
pub mod count;
pub mod crates;
pub mod others;
pub mod picture;
pub mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths;

/// The document that is made.
#[must_use]
pub fn document_path() -> PathBuf {
    paths::root().join("docs/tcb.md")
}

/// The picture in it.
fn picture_path() -> PathBuf {
    paths::root().join("docs/tcb.svg")
}

/// Counts everything and shows it; writes the document anew if that is wanted.
///
/// # Errors
/// When a source cannot be read.
pub fn run(write: bool) -> Result<bool> {
    let counted = both()?;
    print!("{}", table::ours(&counted)?);
    let others = others::find();
    print!("{}", table::others(&others));
    if write {
        let path = document_path();
        let text = table::document(&counted, &others)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        if let Some(svg) = picture::svg(&others) {
            let path = picture_path();
            fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(true)
}

fn both() -> Result<table::Images> {
    Ok(table::Images { usual: crates::counted("")?, net: crates::counted("nbd")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of the document may differ by so many percent from what is counted now.
    const PERCENT: u64 = 5;

    /// The lines of the document, with each number by itself.
    fn parts(text: &str) -> Vec<(String, Vec<u64>)> {
        let line = |line: &str| {
            let words = line.split(|c: char| !c.is_ascii_digit() && c != ',');
            let numbers = words.filter_map(|word| word.replace(',', "").parse().ok()).collect();
            (line.chars().filter(|c| !c.is_ascii_digit() && *c != ',').collect(), numbers)
        };
        text.lines().map(line).collect()
    }

    /// By these code of ours would end the stub, with a text that it makes.
    const ENDS: [&str; 7] =
        ["panic", "unreachable", "todo", "unimplemented", "assert_eq", "assert_ne", "unwrap"];

    /// What a panic says goes to the console, to the log of dom0 and to xenstore: it must hold no data of a disk. Ours
    /// says nothing, for it has no panic. `kernel` defines the handler. `assert` is for the compiler, here: its text is that of
    /// the condition.
    #[test]
    fn nothing_of_ours_in_an_image_makes_the_text_of_a_panic() {
        let table::Images { usual, net } = both().unwrap();
        for image in [usual, net] {
            let ours: Vec<_> = image.iter().filter(|one| one.version.is_none()).collect();
            assert!(ours.len() >= 5, "{}", ours.len());
            for one in ours {
                let may: &[&str] = if one.name == "pilotfish-kernel" { &["panic"] } else { &[] };
                let found: Vec<_> =
                    ENDS.iter().filter(|end| one.count.names.contains(**end) && !may.contains(end)).collect();
                assert!(found.is_empty(), "{}: {found:?}", one.name);
            }
        }
    }

    #[test]
    fn the_document_says_what_is_counted() {
        let document = fs::read_to_string(document_path()).unwrap();
        let said = table::ours_of(&document).expect("the document has a part of ours");
        let counted = table::ours(&both().unwrap()).unwrap();
        for ((said, before), (now, after)) in parts(said).into_iter().zip(parts(&counted)) {
            let near = |(a, b): (&u64, &u64)| a.abs_diff(*b) * 100 <= (*a).max(*b) * PERCENT + 200;
            let same = said == now && before.len() == after.len() && before.iter().zip(&after).all(near);
            assert!(same, "run `cargo xtask tcb --write`:\n{said} {before:?}\n{now} {after:?}");
        }
        assert_eq!(said.lines().count(), counted.lines().count(), "run `cargo xtask tcb --write`");
    }
}
