//! The modules of a crate, and which of them a path means.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::lint::source::{Reference, Source};

/// Deeper chains of `use` lines than this are not followed.
const RENAMES: usize = 16;

/// A module's path from the crate's root, which is empty.
pub type ModulePath = Vec<String>;

/// A module, in a file of its own or inline.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Its file, relative to the checkout.
    pub file: PathBuf,
    /// What its `use` lines bring in, by name.
    imports: BTreeMap<String, Vec<Vec<String>>>,
    /// What it names.
    pub references: Vec<Reference>,
}

/// A crate's modules.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// By path.
    pub all: BTreeMap<ModulePath, Module>,
    /// Its files, as they were read, relative to the checkout.
    pub files: BTreeMap<PathBuf, Source>,
}

impl Modules {
    /// Reads the crate whose root file is `root`; files are told relative to `checkout`.
    ///
    /// # Errors
    /// When a file cannot be read, or a module's file is not where Rust looks for it.
    pub fn read(root: &Path, checkout: &Path) -> Result<Self> {
        let dir = root.parent().context("a root file without a folder")?;
        let text = |file: &Path| Ok(fs::read_to_string(file)?);
        let mut reader = Reader { modules: Self::default(), text: &text, checkout };
        reader.add(Vec::new(), root, dir)?;
        Ok(reader.modules)
    }

    /// The module that holds what `segments` mean in the module `from`; `None` when that is in
    /// another crate.
    #[must_use]
    pub fn resolve(&self, from: &[String], segments: &[String]) -> Option<ModulePath> {
        self.resolve_within(from, segments, RENAMES)
    }

    fn resolve_within(&self, from: &[String], segments: &[String], renames: usize) -> Option<ModulePath> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => Some(self.descend(Vec::new(), rest, renames)),
            "self" => Some(self.descend(from.to_vec(), rest, renames)),
            "super" => {
                let (_, mut above) = from.split_last()?;
                let mut rest = rest;
                while let [word, more @ ..] = rest
                    && word == "super"
                {
                    (_, above) = above.split_last()?;
                    rest = more;
                }
                Some(self.descend(above.to_vec(), rest, renames))
            }
            _ if self.all.contains_key(&[from, std::slice::from_ref(first)].concat()) => {
                Some(self.descend(from.to_vec(), segments, renames))
            }
            _ => self.follow(from, segments, renames),
        }
    }

    /// Goes down from the module `at` as far as `segments` name modules, or what its `use` lines
    /// bring in from elsewhere.
    fn descend(&self, at: ModulePath, segments: &[String], renames: usize) -> ModulePath {
        let Some((first, rest)) = segments.split_first() else { return at };
        let below = [&*at, std::slice::from_ref(first)].concat();
        if self.all.contains_key(&below) {
            return self.descend(below, rest, renames);
        }
        self.follow(&at, segments, renames).unwrap_or(at)
    }

    /// What the first of `segments` means by a `use` line of the module `at`.
    fn follow(&self, at: &[String], segments: &[String], renames: usize) -> Option<ModulePath> {
        let renames = renames.checked_sub(1)?;
        let (first, rest) = segments.split_first()?;
        let imports = &self.all.get(at)?.imports;
        let named = imports.get(first)?.iter().filter(|path| path.len() > 1 || path[0] != *first);
        named.filter_map(|path| self.resolve_within(at, &[&**path, rest].concat(), renames)).next()
    }
}

/// Reads a crate's files, from its root on.
struct Reader<'a> {
    /// What was found so far.
    modules: Modules,
    /// A file's text.
    text: &'a dyn Fn(&Path) -> Result<String>,
    /// What files are told relative to.
    checkout: &'a Path,
}

impl Reader<'_> {
    /// Adds the module `path` in `file`, whose children are in `dir`.
    fn add(&mut self, path: ModulePath, file: &Path, dir: &Path) -> Result<()> {
        let text = (self.text)(file).with_context(|| format!("cannot read {}", file.display()))?;
        let source =
            Source::parse(&text).with_context(|| format!("cannot read {} as Rust", file.display()))?;
        let shown = file.strip_prefix(self.checkout).unwrap_or(file).to_path_buf();
        let inside = BTreeSet::from([Vec::new()]).into_iter().chain(source.inline.iter().cloned());
        for within in inside {
            let references = source.references.iter().filter(|one| one.within == within).cloned();
            let imports = source.imports.get(&within).cloned().unwrap_or_default();
            let module = Module { file: shown.clone(), imports, references: references.collect() };
            self.modules.all.insert([&*path, &*within].concat(), module);
        }
        for (within, children) in source.children.clone() {
            let dir = within.iter().fold(dir.to_path_buf(), |dir, part| dir.join(part));
            for child in children {
                let own = dir.join(&child);
                let candidates = [own.with_extension("rs"), own.join("mod.rs")];
                let Some(file) = candidates.iter().find(|file| (self.text)(file).is_ok()) else {
                    bail!("no file of mod {child} in {}", dir.display());
                };
                self.add([&*path, &*within, &[child]].concat(), file, &own)?;
            }
        }
        self.modules.files.insert(shown, source);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A crate of these files, by name.
    pub fn of(files: &[(&str, &str)]) -> Modules {
        let files: BTreeMap<PathBuf, &str> = files.iter().map(|(name, text)| (name.into(), *text)).collect();
        let text = |file: &Path| files.get(file).map(|text| (*text).to_owned()).context("no such file");
        let mut reader = Reader { modules: Modules::default(), text: &text, checkout: Path::new("") };
        reader.add(Vec::new(), Path::new("lib.rs"), Path::new("")).unwrap();
        reader.modules
    }

    fn path(text: &str) -> Vec<String> {
        text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn modules_are_found_where_rust_looks_for_them() {
        let modules = of(&[
            ("lib.rs", "mod a; mod b { mod c; }"),
            ("a/mod.rs", "mod d;"),
            ("a/d.rs", "mod e;"),
            ("a/d/e.rs", ""),
            ("b/c.rs", ""),
        ]);
        let found: Vec<String> = modules.all.keys().map(|path| path.join("::")).collect();
        assert_eq!(found, ["", "a", "a::d", "a::d::e", "b", "b::c"]);
    }

    #[test]
    fn a_path_means_the_module_that_holds_the_item() {
        let modules = of(&[
            ("lib.rs", "mod a; mod b; pub use a::d::Deep;"),
            ("a/mod.rs", "pub mod d; use d::Deep as Renamed; use log::info;"),
            ("a/d.rs", "use crate::b as other;"),
            ("b.rs", "use std::fmt;"),
        ]);
        let resolved = |from: &str, to: &str| modules.resolve(&path(from), &path(to));
        for (from, to, wanted) in [
            ("b", "crate::a::d::Deep::new", "a::d"),
            ("b", "crate::a::X", "a"),
            ("b", "super::a::d", "a::d"),
            ("a::d", "super::super::b::f", "b"),
            ("a", "d::Deep", "a::d"),
            ("a", "self::d::Deep", "a::d"),
            ("b", "crate::Deep", "a::d"),
            ("a::d", "super::Renamed", "a::d"),
            ("a::d", "other::X", "b"),
            ("b", "crate::X", ""),
            ("b", "crate::a::info", "a"),
        ] {
            assert_eq!(resolved(from, to), Some(path(wanted)), "{to} in {from}");
        }
        for (from, to) in [("b", "fmt::Display"), ("b", "std::fmt"), ("a", "info::x"), ("", "super::x")] {
            assert_eq!(resolved(from, to), None, "{to} in {from}");
        }
    }

    #[test]
    fn use_lines_that_go_in_a_circle_are_not_followed_for_ever() {
        let modules = of(&[("lib.rs", "use self::y::x; mod y { use super::x; }")]);
        assert!(modules.resolve(&[], &path("x::z")).is_some());
    }
}
