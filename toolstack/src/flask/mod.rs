//! The FLASK policy of one guest and its stub: a module for Xen's own policy.
//!
//! The names of its types follow from the guest's name alone, so that a policy can be written before
//! the guest exists, and no two guests share a type.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

/// The module, with `@NAME@`, `@MODULE@`, `@GUEST@` and `@STUB@` to be filled in.
const TEMPLATE: &str = include_str!("module.te");

/// The longest guest name, in bytes. An escaped byte has three characters, and a type's name should still
/// fit on a line.
const NAME_MAX: usize = 64;

/// Returns the policy module of the guest called `name`.
///
/// # Errors
/// No type can be named after this guest; one line why.
pub fn module(name: &str) -> Result<String> {
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
    // The name is only in a comment. It goes last, since it may hold a placeholder itself.
    Ok(TEMPLATE
        .replace("@MODULE@", &format!("pf_{word}"))
        .replace("@GUEST@", &format!("pf_guest_{word}_t"))
        .replace("@STUB@", &format!("pf_stub_{word}_t"))
        .replace("@NAME@", &name.escape_default().to_string()))
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

    #[test]
    fn a_guest_and_its_stub_have_types_of_their_own() {
        let text = module("web1").unwrap();
        assert!(text.contains("\nallow pf_stub_web1_t pf_guest_web1_t:hvm dm;\n"), "{text}");
        assert!(text.contains("\"pf_web1 = on\""), "{text}");
        assert!(text.contains("system_u:system_r:pf_stub_web1_t\n"), "{text}");
        assert!(!text.contains('@'), "{text}");
        assert!(!text.contains("set_target"), "{text}");
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
            let text = module(name).unwrap();
            let rules = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(rules(&text), rules(TEMPLATE), "{text}");
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
            let error = module(&name).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        module(&"-".repeat(64)).unwrap();
    }
}
