//! The module for Xen's own policy.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use crate::label::{GUEST_PREFIX, STUB_PREFIX, TYPE_SUFFIX, USER_AND_ROLE};
use crate::reach::Reach;

/// The module. What stands between two `@` is to be filled in.
const TEMPLATE: &str = include_str!("module.te");
/// The rules of a stub that maps its guest's memory.
const MAPPINGS: &str = include_str!("mappings.te");
/// The rules of one that is granted it.
const GRANTS: &str = include_str!("grants.te");

/// A policy module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Module {
    /// Its name: that of its file, without `.te`, and its line in `modules.conf`.
    pub name: String,
    /// The text.
    pub text: String,
    /// The label that the guest must have.
    pub guest_label: String,
}

/// The longest guest name, in bytes. An escaped byte has three characters, and a type's name should still
/// fit on a line.
const NAME_MAX: usize = 64;

impl Module {
    /// The module of the guest called `name`, whose stub gets at its memory by `reach`.
    ///
    /// # Errors
    /// No type can be named after this guest; one line why.
    pub fn new(name: &str, reach: Reach) -> Result<Module> {
        ensure!(!name.is_empty(), "a guest without a name has no policy");
        ensure!(
            name.len() <= NAME_MAX,
            "the guest's name has {} bytes: a policy can be made for at most {NAME_MAX}",
            name.len()
        );
        ensure!(
            !name.chars().any(char::is_control),
            "{}: a guest's name with a control character has no policy",
            name.escape_default()
        );
        let word = word(name);
        let (module, guest) = (format!("pf_{word}"), format!("{GUEST_PREFIX}{word}{TYPE_SUFFIX}"));
        // The name is only in a comment. It goes last, since it may hold a placeholder itself.
        let (rules, types, first_label) = stub_rules(reach);
        let text = TEMPLATE
            .replace("@STUB_RULES@", rules)
            .replace("@TYPES@", types)
            .replace("@FIRST_LABEL@", first_label)
            .replace("@OPTION@", reach.option())
            .replace("@MODULE@", &module)
            .replace("@GUEST@", &guest)
            .replace("@STUB@", &format!("{STUB_PREFIX}{word}{TYPE_SUFFIX}"))
            .replace("@NAME@", &name.escape_default().to_string());
        Ok(Module { name: module, text, guest_label: format!("{USER_AND_ROLE}{guest}") })
    }
}

/// The rules of its stub, its types behind that of the guest, and the line for a second label.
const fn stub_rules(reach: Reach) -> (&'static str, &'static str, &'static str) {
    match reach {
        Reach::Mappings => (MAPPINGS, "@GUEST@ @STUB@", ""),
        Reach::Grants => (
            GRANTS,
            "@GUEST@ @STUB@ @STUB@_building",
            "# Its first label:   system_u:system_r:@STUB@_building\n",
        ),
    }
}

/// `name` in letters and digits, every other byte as `_` and two hexadecimal digits. Each `_` begins such
/// an escape, so two names never give one word. Nor does a word hold `_t` or `_s`, which the names of
/// derived types begin with after it.
fn word(name: &str) -> String {
    let mut word = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() {
            word.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(word, "_{byte:02x}");
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const REACHES: [Reach; 2] = [Reach::Mappings, Reach::Grants];

    #[test]
    fn a_guest_and_its_stub_have_types_of_their_own() {
        for reach in REACHES {
            let Module { name, text, guest_label } = Module::new("web1", reach).unwrap();
            assert!(text.contains("\nallow pf_stub_web1_t pf_guest_web1_t:hvm dm;\n"), "{text}");
            assert!(
                text.ends_with(" };\n") && text.contains("\nrole system_r types { pf_guest_web1_t pf_stub_"),
                "{text}"
            );
            assert_eq!((name.as_str(), text.contains("\"pf_web1 = on\"")), ("pf_web1", true), "{text}");
            assert!(text.contains("system_u:system_r:pf_stub_web1_t\n"), "{text}");
            assert!(text.contains(&format!("guest's label: {guest_label}\n")), "{text}");
            assert!(text.contains(&format!("by pilotfishd --policy{}.\n", reach.option())), "{text}");
            assert!(!text.contains('@'), "{text}");
            assert!(!text.contains("set_target"), "{text}");
        }
    }

    #[test]
    fn a_stub_maps_its_guest_or_has_its_grants_and_never_both() {
        for reach in REACHES {
            let text = Module::new("web1", reach).unwrap().text;
            let by_mappings = text.contains("allow pf_stub_web1_t pf_guest_web1_t:mmu ");
            let by_grants = text.contains("allow pf_stub_web1_t pf_guest_web1_t:grant ");
            assert_eq!(
                (by_mappings, by_grants),
                (reach == Reach::Mappings, reach == Reach::Grants),
                "{text}"
            );
        }
    }

    #[test]
    fn names_that_differ_give_types_that_differ() {
        let names = [
            "a",
            "A",
            "a_",
            "_a",
            "a-",
            "a.",
            "a b",
            "a_5f",
            "a_t",
            "a_t_self",
            "a_t_channel",
            "a-t",
            "stub_a",
            "guest_a",
            "a_stub",
            "\u{e9}",
            "e\u{301}",
            "_",
            "__",
            "_5f",
            "1",
        ];
        let words: BTreeSet<String> = names.iter().map(|name| word(name)).collect();
        assert_eq!(words.len(), names.len(), "{words:?}");
        for word in words {
            assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{word}");
            assert!(!word.contains("_t") && !word.contains("_s"), "{word}");
        }
    }

    #[test]
    fn a_name_is_never_more_than_a_comment() {
        for name in ["x\u{2028}allow a b:hvm dm;", "`x'", "define", "@GUEST@", "\"", "a;b{}"] {
            let text = Module::new(name, Reach::Mappings).unwrap().text;
            let rules = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(rules(&text), rules(&Module::new("a", Reach::Mappings).unwrap().text), "{text}");
            assert!(text.is_ascii(), "{text}");
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                assert!(!line.contains(['`', '\'', '"', '@']), "{line}");
            }
        }
    }

    #[test]
    fn a_name_that_cannot_be_a_type_is_refused_with_the_reason() {
        for (name, why) in [
            (String::new(), "without a name"),
            ("a\nallow".to_owned(), "control character"),
            ("a\u{85}b".to_owned(), "control character"),
            ("x".repeat(65), "65 bytes"),
        ] {
            let error = Module::new(&name, Reach::Mappings).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        Module::new(&"-".repeat(64), Reach::Grants).unwrap();
    }
}
