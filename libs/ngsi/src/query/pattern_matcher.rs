//! What a pattern is compiled to. Most are plain texts, perhaps anchored: they need no regular expression. Equal ones share
//! one, because a hundred thousand subscriptions tend to be written alike.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use regex::{Regex, RegexBuilder};

use super::pattern::PatternError;

/// Most memory for a compiled pattern, in bytes.
const MAX_COMPILED: usize = 256 * 1024;

#[derive(Clone)]
pub(super) enum Matcher {
    All,
    Contains(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Exact(Box<str>),
    Regex(Arc<Regex>),
}

impl Matcher {
    /// The plain matcher of a pattern text, if it needs no more.
    pub(super) fn plain(text: &str) -> Option<Self> {
        let (rest, at_start) = strip_start(text);
        let (rest, at_end) = strip_end(rest);
        if !rest.chars().all(is_literal) {
            return None;
        }
        Some(match (rest, at_start, at_end) {
            ("", false, _) | ("", _, false) => Self::All,
            (rest, true, true) => Self::Exact(rest.into()),
            (rest, true, false) => Self::Prefix(rest.into()),
            (rest, false, true) => Self::Suffix(rest.into()),
            (rest, false, false) => Self::Contains(rest.into()),
        })
    }

    /// The regular expression `translated`, shared with all patterns of the same text.
    pub(super) fn regex(translated: &str) -> Result<Self, PatternError> {
        static SHARED: LazyLock<Mutex<HashMap<String, Weak<Regex>>>> = LazyLock::new(Mutex::default);
        let known =
            SHARED.lock().unwrap_or_else(PoisonError::into_inner).get(translated).and_then(Weak::upgrade);
        if let Some(known) = known {
            return Ok(Self::Regex(known));
        }
        let regex = RegexBuilder::new(translated)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .nest_limit(50)
            .build()
            .map_err(|_| PatternError)?;
        let regex = Arc::new(regex);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody has any more go when the table would grow anyway.
        if shared.len() == shared.capacity() {
            shared.retain(|_, one| one.strong_count() > 0);
        }
        shared.insert(translated.to_owned(), Arc::downgrade(&regex));
        Ok(Self::Regex(regex))
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Self::All => true,
            Self::Contains(part) => text.contains(&**part),
            Self::Prefix(part) => text.starts_with(&**part),
            Self::Suffix(part) => text.ends_with(&**part),
            Self::Exact(whole) => text == &**whole,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

fn is_literal(c: char) -> bool {
    !".[]\\()*+?{}|^$".contains(c)
}

/// Without an anchor or what stands for anything at the start; whether it was anchored.
fn strip_start(text: &str) -> (&str, bool) {
    match text.strip_prefix("^.*").or_else(|| text.strip_prefix(".*")) {
        Some(rest) => (rest, false),
        None => text.strip_prefix('^').map_or((text, false), |rest| (rest, true)),
    }
}

fn strip_end(text: &str) -> (&str, bool) {
    match text.strip_suffix(".*$").or_else(|| text.strip_suffix(".*")) {
        Some(rest) => (rest, false),
        None => text.strip_suffix('$').map_or((text, false), |rest| (rest, true)),
    }
}

/// The text that everything begins with which the pattern matches; empty if there is none.
pub(super) fn literal_prefix(text: &str) -> &str {
    let Some(rest) = text.strip_prefix('^').filter(|rest| !rest.contains('|')) else { return "" };
    let end = rest.find(|c| !is_literal(c)).unwrap_or(rest.len());
    let (literal, after) = rest.split_at_checked(end).unwrap_or(("", ""));
    // A repetition belongs to the character before it.
    match after.chars().next() {
        Some('*' | '?' | '{' | '+') => {
            let mut chars = literal.chars();
            chars.next_back();
            chars.as_str()
        }
        _ => literal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Pattern;
    use proptest::prelude::*;

    #[test]
    fn prefixes_are_what_all_matches_begin_with() {
        for (pattern, prefix) in [
            ("^Room[0-9]", "Room"),
            ("^Room", "Room"),
            ("^Roo*", "Ro"),
            ("^Roo{2}", "Ro"),
            ("^a|b", ""),
            ("Room", ""),
            ("^.*", ""),
            ("^R\\d", "R"),
        ] {
            assert_eq!(literal_prefix(pattern), prefix, "{pattern}");
        }
    }

    #[test]
    fn equal_patterns_share_their_regular_expression() {
        let regex = |text: &str| match Matcher::regex(text) {
            Ok(Matcher::Regex(regex)) => regex,
            _ => panic!("{text} is no regular expression"),
        };
        assert!(Arc::ptr_eq(&regex("(?s)a[0-9]"), &regex("(?s)a[0-9]")));
    }

    proptest! {
        #[test]
        fn a_plain_matcher_says_what_the_regular_expression_says(
            start in prop::sample::select(vec!["", "^", ".*", "^.*"]),
            middle in "[ab:_]{0,3}",
            end in prop::sample::select(vec!["", "$", ".*", ".*$"]),
            text in "[ab:_\n]{0,5}",
        ) {
            let pattern = format!("{start}{middle}{end}");
            let plain = Matcher::plain(&pattern).unwrap();
            let regex = Matcher::regex(&format!("(?s){pattern}")).unwrap();
            prop_assert_eq!(plain.is_match(&text), regex.is_match(&text), "{}", pattern);
        }

        #[test]
        fn what_matches_begins_with_the_prefix(pattern in "\\^?[ab.*+?|]{0,5}", text in "[ab]{0,5}") {
            if let Ok(compiled) = Pattern::parse(&pattern)
                && compiled.is_match(&text)
            {
                prop_assert!(text.starts_with(literal_prefix(&pattern)), "{}", pattern);
            }
        }
    }
}
