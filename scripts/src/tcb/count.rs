//! What of a crate's sources is compiled into the image: lines of code, `unsafe`, and words.
//!
//! A line counts if something other than a comment stands on it. Files are those that `mod` lines lead
//! to; what a `cfg` excludes is left out, with its files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

use crate::tcb::cfg;

/// What was counted of one crate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// Lines with code.
    pub lines: u64,
    /// Blocks, functions, traits and implementations that are `unsafe`, by file.
    pub unsafes: BTreeMap<PathBuf, u64>,
    /// The crate's files.
    pub files: Vec<PathBuf>,
    /// Every name that its code has.
    pub names: BTreeSet<String>,
    /// Every text, by file.
    pub texts: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Count {
    /// All `unsafe` of the crate.
    #[must_use]
    pub fn unsafe_places(&self) -> u64 {
        self.unsafes.values().sum()
    }
}

/// Counts the crate whose first file is `root`.
///
/// # Errors
/// When a file cannot be read or is not Rust.
pub fn of(root: &Path, features: &BTreeSet<String>) -> Result<Count> {
    let mut count = Count::default();
    let dir = root.parent().unwrap_or(root).to_path_buf();
    let mut queue = vec![(root.to_path_buf(), dir)];
    while let Some((file, children)) = queue.pop() {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut reader = Reader::new(features);
        let tokens: TokenStream =
            text.parse().map_err(|error| anyhow!("{} is not Rust: {error}", file.display()))?;
        reader.read(tokens, &mut Vec::new());
        count.lines += reader.lines.len() as u64;
        if reader.unsafes > 0 {
            count.unsafes.insert(file.clone(), reader.unsafes);
        }
        count.names.extend(reader.names);
        count.texts.insert(file.clone(), reader.texts);
        queue.extend(reader.modules.iter().filter_map(|module| module.find(&children)));
        count.files.push(file);
    }
    Ok(count)
}

/// A module in a file of its own.
struct Module {
    /// The inline modules around it.
    within: Vec<String>,
    name: String,
}

impl Module {
    /// Its file, and where the files of its modules are.
    fn find(&self, dir: &Path) -> Option<(PathBuf, PathBuf)> {
        let dir = self.within.iter().fold(dir.to_path_buf(), |dir, name| dir.join(name));
        let children = dir.join(&self.name);
        let files = [dir.join(format!("{}.rs", self.name)), children.join("mod.rs")];
        // One that is not there is of a macro's making.
        files.into_iter().find(|file| file.exists()).map(|file| (file, children))
    }
}

/// Reads the tokens of one file.
struct Reader<'a> {
    features: &'a BTreeSet<String>,
    lines: BTreeSet<usize>,
    unsafes: u64,
    modules: Vec<Module>,
    names: BTreeSet<String>,
    texts: BTreeSet<String>,
}

impl Reader<'_> {
    fn new(features: &BTreeSet<String>) -> Reader<'_> {
        Reader {
            features,
            lines: BTreeSet::new(),
            unsafes: 0,
            modules: Vec::new(),
            names: BTreeSet::new(),
            texts: BTreeSet::new(),
        }
    }

    fn note(&mut self, span: Span) {
        self.lines.extend(span.start().line..=span.end().line);
    }

    fn read(&mut self, tokens: TokenStream, within: &mut Vec<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match self.attribute(&tokens, at) {
                Some((next, true)) => {
                    at = next;
                    continue;
                }
                // Everything that follows in a file, or one item.
                Some((next, false)) if is_inner(&tokens, at) => at = tokens.len().max(next),
                Some((next, false)) => at = end_of_item(&tokens, next),
                None => {
                    self.token(token, &tokens[at + 1..], tokens.get(at.wrapping_sub(1)), within);
                    at += 1;
                }
            }
        }
    }

    /// If an attribute begins here: where it ends, and whether what it is for is compiled.
    fn attribute(&mut self, tokens: &[TokenTree], at: usize) -> Option<(usize, bool)> {
        if !is_punct(tokens.get(at), '#') {
            return None;
        }
        let bracket = at + 1 + usize::from(is_punct(tokens.get(at + 1), '!'));
        let Some(TokenTree::Group(group)) = tokens.get(bracket) else { return None };
        if group.delimiter() != Delimiter::Bracket {
            return None;
        }
        if let Some(condition) = cfg::condition(&group.stream())
            && !cfg::may_hold(&condition, self.features)
        {
            return Some((bracket + 1, false));
        }
        let first = group.stream().into_iter().next();
        // Documentation is a comment.
        if !matches!(first, Some(TokenTree::Ident(name)) if name == "doc") {
            self.note(group.span());
        }
        Some((bracket + 1, true))
    }

    fn token(
        &mut self,
        token: &TokenTree,
        after: &[TokenTree],
        before: Option<&TokenTree>,
        within: &mut Vec<String>,
    ) {
        match token {
            TokenTree::Group(group) => {
                self.note(group.span_open());
                self.note(group.span_close());
                self.read(group.stream(), within);
                // The body of an inline module ends here.
                if matches!(before, Some(TokenTree::Ident(name)) if within.last().is_some_and(|last| name == last))
                    && group.delimiter() == Delimiter::Brace
                {
                    within.pop();
                }
            }
            TokenTree::Ident(name) => {
                self.note(name.span());
                let name = name.to_string();
                if name == "unsafe" && is_unsafe_code(after.first()) {
                    self.unsafes += 1;
                }
                if name == "mod"
                    && let Some(TokenTree::Ident(module)) = after.first()
                {
                    self.module(module.to_string(), after.get(1), within);
                }
                self.names.insert(name);
            }
            TokenTree::Literal(literal) => {
                self.note(literal.span());
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    self.texts.insert(text.value());
                }
            }
            TokenTree::Punct(punct) => self.note(punct.span()),
        }
    }

    fn module(&mut self, name: String, body: Option<&TokenTree>, within: &mut Vec<String>) {
        match body {
            Some(TokenTree::Group(_)) => within.push(name),
            Some(TokenTree::Punct(_)) => self.modules.push(Module { within: within.clone(), name }),
            _ => {}
        }
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_inner(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at + 1), '!')
}

/// A block, a function, a trait or an implementation follows the word; no attribute, no pointer's type.
fn is_unsafe_code(next: Option<&TokenTree>) -> bool {
    match next {
        Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
        Some(TokenTree::Ident(word)) => ["fn", "impl", "trait"].iter().any(|wanted| word == wanted),
        _ => false,
    }
}

/// Where the item ends that begins at `at`: with its braces, a semicolon or a comma.
fn end_of_item(tokens: &[TokenTree], mut at: usize) -> usize {
    // Of these the braces are not the end.
    const TO_SEMICOLON: [&str; 5] = ["use", "static", "type", "let", "const"];
    let mut to_semicolon = false;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Ident(word) if TO_SEMICOLON.iter().any(|wanted| word == wanted) => {
                to_semicolon = !matches!(tokens.get(at), Some(TokenTree::Ident(next)) if next == "fn" || next == "unsafe");
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !to_semicolon => return at,
            TokenTree::Punct(punct) if punct.as_char() == ';' => return at,
            TokenTree::Punct(punct) if punct.as_char() == ',' && !to_semicolon => return at,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> Count {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("lib.rs");
        fs::write(&root, text).unwrap();
        of(&root, &BTreeSet::new()).unwrap()
    }

    #[test]
    fn comments_blanks_and_tests_do_not_count() {
        let text = "//! About.\n\n/// What.\nfn a() {\n    // Why.\n    b();\n}\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
        assert_eq!(count(text).lines, 3);
    }

    #[test]
    fn what_is_not_compiled_does_not_count_and_what_follows_does() {
        assert_eq!(count("#[cfg(test)]\nuse a::{b,\n c};\nfn d() {}\n").lines, 1);
        assert_eq!(count("struct A {\n#[cfg(test)]\nb: u8,\nc: u8,\n}\n").lines, 3);
        assert_eq!(count("#![cfg(test)]\nfn a() {}\n").lines, 0);
        assert_eq!(count("#[cfg(test)]\nconst fn a() {}\nfn b() {}\n").lines, 1);
    }

    #[test]
    fn unsafe_code_is_counted_and_words_of_attributes_are_not() {
        let text = "#![forbid(unsafe_code)]\n#[unsafe(no_mangle)]\nunsafe fn a() { unsafe { b() } }\nunsafe impl C for D {}\n";
        assert_eq!(count(text).unsafe_places(), 3);
    }

    #[test]
    fn modules_are_followed_but_for_those_of_tests() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("lib.rs", "mod a;\n#[cfg(test)]\nmod b;\nmod c { mod d; }\nmod e;\n");
        write("a.rs", "fn a() {}\n");
        write("b.rs", "fn b() {}\n");
        write("c/d.rs", "fn d() {}\n");
        write("e/mod.rs", "fn e() {}\n");
        let count = of(&dir.path().join("lib.rs"), &BTreeSet::new()).unwrap();
        assert_eq!((count.files.len(), count.lines), (4, 6));
    }
}
