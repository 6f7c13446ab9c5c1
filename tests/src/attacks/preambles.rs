//! What each attack tries, read where the attack is: in Rust the fields `name` and `tries` of its entry, in a
//! script a line `# attack NAME: ...`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use syn::visit::{self, Visit};
use xtask::paths;

use crate::attacks::Suite;

/// An attack, as it is announced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Preamble {
    /// Its name.
    pub name: String,
    /// What it tries.
    pub tries: String,
}

/// The attacks of a suite, in the order of their files and in these.
///
/// # Errors
/// When a file cannot be read, or none of them has an attack.
pub fn of(suite: &Suite) -> Result<Vec<Preamble>> {
    let mut found = Vec::new();
    let sources = suite.source.split(' ').map(|source| files(&paths::root().join(source)));
    for file in sources.collect::<Result<Vec<_>>>()?.concat() {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if file.extension().is_some_and(|extension| extension == "rs") {
            found.extend(in_rust(&text).with_context(|| format!("cannot parse {}", file.display()))?);
        } else {
            found.extend(in_script(&text));
        }
    }
    ensure!(!found.is_empty(), "{} has no attack of {}", suite.source, suite.scenario);
    Ok(found)
}

/// The file itself, or the Rust files of a folder.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    Ok(files)
}

fn in_rust(text: &str) -> syn::Result<Vec<Preamble>> {
    let mut entries = Entries::default();
    entries.visit_file(&syn::parse_file(text)?);
    Ok(entries.0)
}

#[derive(Default)]
struct Entries(Vec<Preamble>);

impl<'ast> Visit<'ast> for Entries {
    fn visit_expr_struct(&mut self, entry: &'ast syn::ExprStruct) {
        if let (Some(name), Some(tries)) = (text_of(entry, "name"), text_of(entry, "tries")) {
            self.0.push(Preamble { name, tries });
        }
        visit::visit_expr_struct(self, entry);
    }
}

/// The text that a field is set to.
fn text_of(entry: &syn::ExprStruct, field: &str) -> Option<String> {
    let is_it = |set: &&syn::FieldValue| matches!(&set.member, syn::Member::Named(name) if name == field);
    match &entry.fields.iter().find(is_it)?.expr {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

fn in_script(text: &str) -> Vec<Preamble> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# attack ")?.split_once(": "));
    lines.map(|(name, tries)| Preamble { name: name.to_owned(), tries: tries.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::attacks::SUITES;

    #[test]
    fn entries_of_rust_and_comments_of_scripts_are_read() {
        let rust = "const A: &[Attack] = &[Attack { name: \"a\", tries: \"one \\\n   two\", run: f }, \
                    Attack { name: N, tries: \"b\" }];";
        let preamble = |name: &str, tries: &str| Preamble { name: name.into(), tries: tries.into() };
        assert_eq!(in_rust(rust).unwrap(), [preamble("a", "one two")]);
        assert_eq!(in_script("# attack b-c: x: y\nattack d\n# attacks: no\n"), [preamble("b-c", "x: y")]);
    }

    #[test]
    fn each_suite_has_its_attacks_each_with_a_name_of_its_own_and_a_sentence() {
        let least = [80, 10, 19, 30, 44, 33, 36, 50, 25, 10, 5, 3, 13, 20, 14, 19, 30, 14, 6, 6, 8];
        for (suite, least) in SUITES.iter().zip(least) {
            let attacks = of(suite).unwrap();
            assert!(attacks.len() >= least, "{}: {}", suite.scenario, attacks.len());
            let names: BTreeSet<_> = attacks.iter().map(|attack| &attack.name).collect();
            assert_eq!(names.len(), attacks.len(), "{}: two have one name", suite.scenario);
            for Preamble { name, tries } in &attacks {
                assert!(!name.contains(char::is_whitespace) && tries.len() > 10, "{name}: {tries}");
            }
        }
    }
}
