//! Text that somebody else wrote, made fit for one line of a log.

/// At most `max` characters of `text`, on one line, every unprintable one as `?`.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    let mut out: String = text
        .trim()
        .chars()
        .take(max)
        .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
        .collect();
    if text.trim().chars().nth(max).is_some() {
        out.push_str("...");
    }
    out
}

/// The text as one line that no terminal and no log takes for anything else: control characters, and those that
/// change the direction of what follows, as `?`.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { '?' }).collect()
}

fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The number in `text` if it is 1 to 12 decimal digits and nothing else.
#[must_use]
pub fn short_number(text: &str) -> Option<u64> {
    let digits = text.trim();
    (digits.len() <= 12 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// A TOML parser's error, as one line that quotes the offending line of the file.
#[must_use]
pub fn toml_error(file: &str, source: &str, error: &toml::de::Error) -> String {
    let message = printable(&error.message().replace('\n', ", "), 200);
    let Some(span) = error.span() else {
        return format!("{file}: {message}");
    };
    let before = source.get(..span.start).unwrap_or(source);
    let number = before.matches('\n').count() + 1;
    let line = source.lines().nth(number - 1).unwrap_or_default();
    format!("{file}:{number}: `{}`: {message}", printable(line, 120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_length_do_not_pass() {
        assert_eq!(printable("a\x1b[31m\nb\u{202e}c", 80), "a?[31m?b?c");
        assert_eq!(printable(&"x".repeat(5000), 5), "xxxxx...");
        assert_eq!(printable("  fine\n", 80), "fine");
    }

    #[test]
    fn what_becomes_a_line_of_the_log_is_one_line_without_control_characters() {
        assert_eq!(one_line("a\x1b[31m\nb\r\u{85}\u{202e}c\0"), "a?[31m?b???c?");
        assert_eq!(one_line(" /dev/gäst 1 "), " /dev/gäst 1 ");
    }

    #[test]
    fn only_short_plain_numbers_are_numbers() {
        assert_eq!(short_number(" 1234\n"), Some(1234));
        for bad in ["", "-1", "+1", "0x10", "1234567890123", "1 2"] {
            assert_eq!(short_number(bad), None, "{bad}");
        }
    }
}
