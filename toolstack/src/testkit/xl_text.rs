//! An xl configuration, read back: the little of its syntax that the daemon writes.

use std::collections::BTreeMap;

/// The keys with their values; a list has any number of them.
///
/// # Panics
/// On anything else than lines `key = number`, `key = "text"` and `key = [ "text", ... ]`, each key once.
pub fn read(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut keys = BTreeMap::new();
    for line in text.lines() {
        let (key, value) = line.split_once(" = ").unwrap_or_else(|| panic!("no key: {line:?} in {text:?}"));
        assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line:?}");
        let values = match value.strip_prefix("[ ").and_then(|list| list.strip_suffix(" ]")) {
            Some(list) => strings(list),
            None if value.starts_with('"') => strings(value),
            None => {
                assert!(value.parse::<u64>().is_ok(), "{line:?}");
                vec![value]
            }
        };
        assert!(keys.insert(key, values).is_none(), "{key} twice in {text:?}");
    }
    keys
}

/// Strings between commas. xl's strings have escapes, and end at either quote or at a line's end: none of these may
/// be in one.
fn strings(list: &str) -> Vec<&str> {
    let inner = list.strip_prefix('"').and_then(|list| list.strip_suffix('"'));
    let inner = inner.unwrap_or_else(|| panic!("not quoted: {list:?}"));
    let found: Vec<&str> = inner.split("\", \"").collect();
    for one in &found {
        assert!(
            !one.chars().any(|c| c.is_control() || matches!(c, '"' | '\'' | '\\')),
            "{one:?} in {list:?}"
        );
    }
    found
}
