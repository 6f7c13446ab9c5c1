//! A source file, read: the paths it names, what its `use` lines bring in, its functions.
//!
//! What is compiled for tests only is left out. Documentation is not read.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItem, Item, ItemMod, Meta, Signature, TraitItem, UseTree};

use crate::lint::depth;

/// A path that a file names, as it is written: `["crate", "bench", "Plan"]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    /// The inline modules around it, outermost first.
    pub within: Vec<String>,
    /// Its segments.
    pub segments: Vec<String>,
    /// Its line, from 1.
    pub line: usize,
}

/// A function with a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its name, from 1.
    pub line: usize,
    /// Lines between the braces of its body.
    pub lines: usize,
    /// How deep `if`, `match` and loops stand in each other there.
    pub depth: usize,
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Every path of two segments or more, and every `use`.
    pub references: Vec<Reference>,
    /// By inline module: what its `use` lines bring in, by name. Globs are under `*`.
    pub imports: BTreeMap<Vec<String>, BTreeMap<String, Vec<Vec<String>>>>,
    /// By inline module: the modules it declares in files of their own.
    pub children: BTreeMap<Vec<String>, BTreeSet<String>>,
    /// The inline modules.
    pub inline: BTreeSet<Vec<String>>,
    /// Every function that is not compiled for tests only.
    pub functions: Vec<Function>,
    within: Vec<String>,
}

impl Source {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is not Rust.
    pub fn parse(text: &str) -> syn::Result<Self> {
        let file = syn::parse_file(text)?;
        let mut source = Self::default();
        source.visit_file(&file);
        Ok(source)
    }

    fn refer(&mut self, segments: Vec<String>, line: usize) {
        self.references.push(Reference { within: self.within.clone(), segments, line });
    }

    fn import(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.import(item, before)),
            UseTree::Name(name) => self.bring_in(&name.ident.to_string(), None, before, line),
            UseTree::Rename(name) => {
                self.bring_in(&name.ident.to_string(), Some(name.rename.to_string()), before, line);
            }
            UseTree::Glob(_) => {
                self.refer(before.clone(), line);
                self.imported("*".to_owned(), before.clone());
            }
        }
    }

    fn bring_in(&mut self, name: &str, rename: Option<String>, before: &[String], line: usize) {
        let mut path = before.to_vec();
        // `use a::{self}` names `a`.
        if name != "self" {
            path.push(name.to_owned());
        }
        let Some(last) = path.last().cloned() else { return };
        self.refer(path.clone(), line);
        self.imported(rename.unwrap_or(last), path);
    }

    fn imported(&mut self, name: String, path: Vec<String>) {
        let imports = self.imports.entry(self.within.clone()).or_default();
        imports.entry(name).or_default().push(path);
    }

    fn function(&mut self, signature: &Signature, body: &Block) {
        let (open, close) = (body.brace_token.span.open(), body.brace_token.span.close());
        self.functions.push(Function {
            name: signature.ident.to_string(),
            line: signature.ident.span().start().line,
            lines: (close.start().line - open.start().line).saturating_sub(1),
            depth: depth::of(body),
        });
    }

    /// The paths in a macro's tokens: words with `::` between them.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of_path(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.end_of_path(&mut path, line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end_of_path(&mut path, line);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, line: usize) {
        if path.len() > 1 {
            self.refer(std::mem::take(path), line);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_left_out(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let name = module.ident.to_string();
        if module.content.is_none() {
            self.children.entry(self.within.clone()).or_default().insert(name);
            return;
        }
        self.within.push(name);
        self.inline.insert(self.within.clone());
        visit::visit_item_mod(self, module);
        self.within.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &mut Vec::new());
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Const(of) => &of.attrs,
            ImplItem::Fn(of) => &of.attrs,
            ImplItem::Type(of) => &of.attrs,
            _ => &[],
        };
        if !is_left_out(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes: &[Attribute] = if let TraitItem::Fn(of) = item { &of.attrs } else { &[] };
        if !is_left_out(attributes) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.refer(segments, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// Whether an item with these attributes is compiled for tests only.
fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(is_test_only)
}

/// Whether an attribute is a `cfg` that does not hold without `test`.
fn is_test_only(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return attribute.path().is_ident("test") };
    attribute.path().is_ident("cfg")
        && list.parse_args::<Meta>().is_ok_and(|predicate| holds(&predicate) == Some(false))
}

/// Whether a `cfg` predicate holds outside tests; `None` where that depends on something else.
fn holds(predicate: &Meta) -> Option<bool> {
    let Meta::List(list) = predicate else { return predicate.path().is_ident("test").then_some(false) };
    let parser = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
    let parts = list.parse_args_with(parser).ok()?;
    let mut parts = parts.iter().map(holds);
    if list.path.is_ident("not") {
        return parts.next()?.map(|held| !held);
    }
    let decisive = list.path.is_ident("any");
    if parts.clone().any(|part| part == Some(decisive)) {
        return Some(decisive);
    }
    parts.all(|part| part == Some(!decisive)).then_some(!decisive)
}

fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(of) => &of.attrs,
        Item::Enum(of) => &of.attrs,
        Item::ExternCrate(of) => &of.attrs,
        Item::Fn(of) => &of.attrs,
        Item::ForeignMod(of) => &of.attrs,
        Item::Impl(of) => &of.attrs,
        Item::Macro(of) => &of.attrs,
        Item::Mod(of) => &of.attrs,
        Item::Static(of) => &of.attrs,
        Item::Struct(of) => &of.attrs,
        Item::Trait(of) => &of.attrs,
        Item::Type(of) => &of.attrs,
        Item::Union(of) => &of.attrs,
        Item::Use(of) => &of.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<(String, usize)> {
        let source = Source::parse(text).unwrap();
        source.references.iter().map(|one| (one.segments.join("::"), one.line)).collect()
    }

    #[test]
    fn paths_are_found_in_use_lines_types_code_and_macros() {
        let text = "use crate::a::{self, b::C as D, e::*};\n\
                    fn f(x: &crate::t::T) -> super::R {\n    self::g::<crate::u::U>();\n\
                    \n    println!(\"{}\", [crate::m::n(), x.y]);\n}";
        let wanted = [
            ("crate::a", 1),
            ("crate::a::b::C", 1),
            ("crate::a::e", 1),
            ("crate::t::T", 2),
            ("super::R", 2),
            ("self::g", 3),
            ("crate::u::U", 3),
            ("crate::m::n", 5),
        ];
        assert_eq!(paths(text), wanted.map(|(path, line)| (path.to_owned(), line)));
    }

    #[test]
    fn what_is_for_tests_only_is_left_out() {
        for only in ["test", "all(test, unix)", "any(test)", "not(not(test))", "all(any(test), unix)"] {
            let text = format!(
                "#[cfg({only})]\nuse crate::a::B;\nimpl X {{\n#[cfg({only})]\nfn f() {{ a::b() }} }}"
            );
            assert_eq!(paths(&text), [], "{only}");
        }
        for also in ["not(test)", "any(test, feature = \"fake\")", "unix", "all(not(test), unix)"] {
            assert_eq!(paths(&format!("#[cfg({also})]\nuse crate::a::B;")).len(), 1, "{also}");
        }
        assert!(Source::parse("#[cfg(test)]\nmod tests;\n").unwrap().children.is_empty());
    }

    #[test]
    fn imports_and_modules_are_kept_by_inline_module() {
        let source = Source::parse("mod a;\nmod b { use super::a::C; mod d; }").unwrap();
        let within = vec!["b".to_owned()];
        assert!(source.children[&Vec::new()].contains("a") && source.children[&within].contains("d"));
        assert_eq!(source.imports[&within]["C"], [["super", "a", "C"]]);
        assert_eq!(source.references[0].within, within);
    }

    #[test]
    fn a_functions_lines_are_those_between_its_braces() {
        let text = "fn one() {}\n\nimpl A {\n    pub fn two(\n        &self,\n    ) {\n        1;\n        2;\n    }\n}\n\
                    trait B {\n    fn three();\n    fn four() {\n        4;\n    }\n}\n\
                    #[test]\nfn five() {}\n";
        let functions = Source::parse(text).unwrap().functions;
        let found: Vec<_> = functions.iter().map(|one| (&*one.name, one.line, one.lines)).collect();
        assert_eq!(found, [("one", 1, 0), ("two", 4, 2), ("four", 13, 1)]);
    }
}
