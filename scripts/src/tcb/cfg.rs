//! Whether a `cfg` holds for the stub's image. What cannot be decided counts as if it did.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, Lit, Meta, Token};

/// Names that never hold there.
const NEVER: [&str; 9] =
    ["test", "doc", "docsrs", "doctest", "miri", "kani", "unix", "windows", "debug_assertions"];

/// Whether `condition`, the inside of a `#[cfg(..)]`, may hold with these features of the crate.
#[must_use]
pub fn may_hold(condition: &TokenStream, features: &BTreeSet<String>) -> bool {
    syn::parse2::<Meta>(condition.clone()).map_or(true, |meta| decide(&meta, features) != Some(false))
}

/// `None`: not known.
fn decide(meta: &Meta, features: &BTreeSet<String>) -> Option<bool> {
    match meta {
        Meta::Path(path) => NEVER.iter().any(|name| path.is_ident(name)).then_some(false),
        Meta::NameValue(pair) => {
            let Expr::Lit(ExprLit { lit: Lit::Str(value), .. }) = &pair.value else { return None };
            let value = value.value();
            if pair.path.is_ident("feature") {
                return Some(features.contains(&value));
            }
            let ours = [
                ("target_os", "none"),
                ("target_arch", "aarch64"),
                ("target_pointer_width", "64"),
                ("target_endian", "little"),
                ("panic", "abort"),
            ];
            ours.iter().find(|(name, _)| pair.path.is_ident(name)).map(|(_, ours)| *ours == value)
        }
        Meta::List(list) => {
            let inner = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(list.tokens.clone()).ok()?;
            let mut decided = inner.iter().map(|meta| decide(meta, features));
            if list.path.is_ident("not") {
                return decided.next()?.map(|holds| !holds);
            }
            let ends = list.path.is_ident("any");
            let mut all_known = true;
            for holds in decided {
                match holds {
                    Some(holds) if holds == ends => return Some(ends),
                    Some(_) => {}
                    None => all_known = false,
                }
            }
            all_known.then_some(!ends)
        }
    }
}

/// The inside of `cfg(..)`, if these are the tokens between the brackets of such an attribute.
#[must_use]
pub fn condition(attribute: &TokenStream) -> Option<TokenStream> {
    let mut tokens = attribute.clone().into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Ident(name)), Some(TokenTree::Group(group))) if name == "cfg" => {
            Some(group.stream())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str) -> bool {
        may_hold(&condition.parse().unwrap(), &BTreeSet::from(["on".to_owned()]))
    }

    #[test]
    fn conditions_of_the_image_hold_and_others_do_not() {
        assert!(holds("target_os = \"none\"") && holds("feature = \"on\"") && holds("not(test)"));
        assert!(!holds("test") && !holds("feature = \"off\"") && !holds("target_arch = \"x86_64\""));
        assert!(!holds("any(test, feature = \"off\")") && holds("any(test, feature = \"on\")"));
        assert!(!holds("all(feature = \"on\", test)") && holds("all(feature = \"on\", not(test))"));
    }

    #[test]
    fn what_is_not_known_counts() {
        assert!(holds("some_version_1_81") && holds("not(some_version_1_81)"));
        assert!(!holds("all(some_version_1_81, test)"));
    }
}
