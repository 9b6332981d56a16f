//! POSIX extended regular expressions, as clients of the original write them, on the `regex` crate.
//!
//! Rewritten: bracket expressions (a backslash or `&&` in them is literal), `{,n}`, unknown escapes (the letter itself),
//! `` \` `` and `\'` (start and end of text); a dot matches a line break. `\d`, `\w`, `\s`, `\b` keep their Perl meaning:
//! people write them, and the original's database understands them so in queries. Back references do not exist.

use std::fmt;

use super::pattern_matcher::{Matcher, literal_prefix};

/// Longest pattern text in bytes.
const MAX_PATTERN_LEN: usize = 1024;

/// A compiled, unanchored pattern.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a regular expression, or too large")]
pub struct PatternError;

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN_LEN || text.starts_with("(?") {
            return Err(PatternError);
        }
        let matcher = match Matcher::plain(text) {
            Some(plain) => plain,
            None => Matcher::regex(&translate(text))?,
        };
        Ok(Self { text: text.to_owned(), matcher })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.matcher.is_match(text)
    }

    /// What every text begins with that it matches; empty if nothing is known.
    pub fn literal_prefix(&self) -> &str {
        literal_prefix(&self.text)
    }

    /// Whether it surely matches everything, so that a store needs no check.
    pub fn matches_all(&self) -> bool {
        matches!(self.text.as_str(), "" | ".*" | "^.*$" | "^.*" | ".*$")
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    out.push_str("(?s)");
    let mut chars = text.chars().peekable();
    let mut open_groups = 0_usize;
    while let Some(c) = chars.next() {
        match c {
            '[' => bracket(&mut chars, &mut out),
            '\\' => escape(chars.next(), &mut out),
            '(' => {
                open_groups += 1;
                out.push(c);
                if chars.peek() == Some(&'?') {
                    // a group can't begin with a repetition in POSIX: make the regex crate refuse it as well
                    out.push('*');
                }
            }
            ')' if open_groups == 0 => out.push_str("\\)"),
            ')' => {
                open_groups -= 1;
                out.push(c);
            }
            '{' if chars.peek() == Some(&',') => out.push_str("{0"),
            other => out.push(other),
        }
    }
    out
}

fn escape(next: Option<char>, out: &mut String) {
    match next {
        Some('`') => out.push_str("\\A"),
        Some('\'') => out.push_str("\\z"),
        // ASCII only, as in the C locale, and far smaller when compiled.
        Some(c @ ('d' | 'w' | 's' | 'b' | 'B')) => {
            out.push_str("(?-u:\\");
            out.push(c);
            out.push(')');
        }
        Some('D') => out.push_str("[^0-9]"),
        Some('W') => out.push_str("[^0-9A-Za-z_]"),
        Some('S') => out.push_str("[^ \\t\\n\\r\\x0B\\x0C]"),
        Some(c) if c.is_ascii_digit() => {
            // a back reference: the regex crate refuses it
            out.push('\\');
            out.push(c);
        }
        Some(c) if c.is_alphanumeric() => out.push(c),
        Some(c) => push_literal(c, out),
        None => out.push('\\'),
    }
}

/// Rewrites what follows `[` up to its closing bracket.
fn bracket(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    out.push('[');
    if chars.peek() == Some(&'^') {
        chars.next();
        out.push('^');
    }
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            ']' if !first => {
                out.push(']');
                return;
            }
            '[' if matches!(chars.peek(), Some(':')) => {
                out.push('[');
                class_name(chars, out);
            }
            '-' => out.push('-'),
            other => push_literal(other, out),
        }
        first = false;
    }
    // no closing bracket: the regex crate refuses it
}

fn class_name(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    for c in chars.by_ref() {
        out.push(c);
        if c == ']' {
            return;
        }
    }
}

fn push_literal(c: char, out: &mut String) {
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn posix_patterns_match_as_posix_says() {
        for (pattern, text, expected) in [
            (".*", "anything", true),
            ("^Room[0-9]+$", "Room12", true),
            ("^Room[0-9]+$", "Room", false),
            ("oom", "Room", true),
            ("[[:alpha:]]+", "123", false),
            ("[^[:digit:]]", "123", false),
            ("a{,3}b", "aab", true),
            ("[[]", "[", true),
            ("a)", "a)", true),
            ("[a&&b]", "&", true),
            ("[a~~b]", "~", true),
            ("[\\d]", "\\", true),
            ("[\\d]", "5", false),
            ("[]a]", "]", true),
            ("[a-c]", "b", true),
            ("[a-]", "-", true),
            ("\\d", "5", true),
            ("\\d", "٣", false),
            ("^\\W\\D\\S$", "éé\u{e9}", true),
            ("^\\w+\\s\\w\\b", "ab c", true),
            ("a\\Bb", "ab", true),
            ("\\e", "e", true),
            ("\\.", "a", false),
            ("a.b", "a\nb", true),
            ("\\`a", "ba", false),
            ("a|b", "b", true),
            ("urn:ngsi:.*", "urn:ngsi:bot:1", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().is_match(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn bad_and_oversized_patterns_are_refused() {
        for bad in ["(", "[", "(a)\\1", "(?i)x", "*", "a{1001}{1001}", "a\\", "x(?i)y"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        assert!(Pattern::parse(&"a".repeat(1025)).is_err());
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "\\PC{0,40}", text in "\\PC{0,20}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _ignored = pattern.is_match(&text);
            }
        }

        #[test]
        fn a_literal_matches_itself(text in "[a-zA-Z0-9:_ -]{0,30}") {
            prop_assert!(Pattern::parse(&text).unwrap().is_match(&text));
        }
    }
}
