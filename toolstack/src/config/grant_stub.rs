//! The entries of `grant-stubs`.

use anyhow::{Context, Result, bail};
use pilotfish_flask::{Module, Reach};
use serde::Deserialize;

use crate::text::printable;

/// Domain names longer than this are refused.
const NAME_MAX: usize = 64;

/// A stub that waits for a guest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "Entry")]
pub struct GrantStubEntry {
    /// The name under which it waits.
    pub name: String,
    /// The name of its guest in the FLASK policy: that of `pilotfishd --policy`. `None`: it gets no label of a
    /// guest's stub.
    pub guest: Option<String>,
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a name, or { name = \"...\", guest = \"...\" }")]
enum Entry {
    Name(String),
    Whole(Whole),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    name: String,
    guest: String,
}

impl From<Entry> for GrantStubEntry {
    fn from(entry: Entry) -> GrantStubEntry {
        match entry {
            Entry::Name(name) => GrantStubEntry { name, guest: None },
            Entry::Whole(Whole { name, guest }) => GrantStubEntry { name, guest: Some(guest) },
        }
    }
}

/// Checks what the types alone do not say.
///
/// # Errors
/// One line that names the entry.
pub fn check(entries: &[GrantStubEntry]) -> Result<()> {
    for (at, GrantStubEntry { name, guest }) in entries.iter().enumerate() {
        check_name(name)?;
        let mut before = entries.iter().take(at);
        if before.any(|other| other.name == *name) {
            bail!("grant-stubs: \"{name}\": is named twice");
        }
        let Some(guest) = guest else { continue };
        Module::new(guest, Reach::Grants).with_context(|| format!("grant-stubs: \"{name}\""))?;
        // Both stubs would have the label of the guest's one stub.
        if entries.iter().take(at).any(|other| other.guest.as_ref() == Some(guest)) {
            bail!("grant-stubs: \"{name}\": its guest has another stub in the list");
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // All digits would be a domain's number to xl.
    let number = name.chars().all(|c| c.is_ascii_digit());
    if number || name.len() > NAME_MAX || !name.chars().all(fit) || name.starts_with("pilotfish-") {
        bail!(
            "grant-stubs: \"{}\": must be a domain's name: letters, digits, '.', '_', '-'; not only digits, \
             and not pilotfish-...",
            printable(name, NAME_MAX)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(list: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let config =
            Config::parse("c.toml", &format!("grant-stubs = {list}")).map_err(|e| format!("{e:#}"))?;
        Ok(config.grant_stubs.into_iter().map(|entry| (entry.name, entry.guest)).collect())
    }

    #[test]
    fn an_entry_is_a_name_or_a_name_and_a_guest() {
        let of = |name: &str, guest: Option<&str>| (name.to_owned(), guest.map(str::to_owned));
        assert_eq!(
            parse(r#"["any", { name = "web1-disk", guest = "web1" }]"#).unwrap(),
            [of("any", None), of("web1-disk", Some("web1"))]
        );
        assert_eq!(parse("[]").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (list, why) in [
            (r#"["7"]"#, "\"7\": must be a domain's name"),
            (r#"["pilotfish-7"]"#, "must be a domain's name"),
            (r#"["a b"]"#, "must be a domain's name"),
            (r#"["a", "a"]"#, "named twice"),
            (r#"["a", { name = "a", guest = "web1" }]"#, "named twice"),
            (
                r#"[{ name = "a", guest = "web1" }, { name = "b", guest = "web1" }]"#,
                "\"b\": its guest has another",
            ),
            (r#"[{ name = "a", guest = "" }]"#, "\"a\": a guest without a name"),
            (r#"[{ name = "a" }]"#, "must be a name, or { name"),
            (r#"[{ name = "a", gest = "web1" }]"#, "must be a name, or { name"),
            ("[7]", "must be a name, or { name"),
        ] {
            let error = parse(list).unwrap_err();
            assert!(error.contains(why) && error.starts_with("c.toml") && !error.contains('\n'), "{error}");
        }
    }
}
