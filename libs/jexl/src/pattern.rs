//! Regular expressions in transforms, bounded in size and in what a search may cost.

use regex::{Captures, Regex, RegexBuilder};

use crate::{EvaluationError, budget::Budget};

/// Longest pattern text in bytes.
const MAX_PATTERN_LEN: usize = 1024;
/// Most memory for a compiled pattern, and for its cache, in bytes.
const MAX_COMPILED: usize = 64 * 1024;

/// A compiled pattern. Look-around and back references do not exist.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// How a replacement names what was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `$1`, `${name}` of the regex crate.
    Broker,
    /// `$1`, `$&`, `$$` of JavaScript.
    Agent,
}

impl Pattern {
    /// None: no regular expression, or too large.
    pub(crate) fn compile(text: &str) -> Option<Self> {
        if text.len() > MAX_PATTERN_LEN {
            return None;
        }
        let regex = RegexBuilder::new(text)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .nest_limit(50)
            .build();
        regex.ok().map(Self)
    }

    /// Calls `found` for each match until it says stop. A search from one place may read all that follows, so each is paid
    /// for with the whole rest.
    fn each<'h>(
        &self,
        haystack: &'h str,
        budget: &mut Budget,
        mut found: impl FnMut(Captures<'h>, &mut Budget) -> Result<bool, EvaluationError>,
    ) -> Result<(), EvaluationError> {
        budget.search(haystack.len())?;
        for captures in self.0.captures_iter(haystack) {
            let end = captures.get_match().end();
            if !found(captures, budget)? {
                break;
            }
            budget.search(haystack.len() - end)?;
        }
        Ok(())
    }

    pub(crate) fn matches(
        &self,
        haystack: &str,
        budget: &mut Budget,
    ) -> Result<Vec<String>, EvaluationError> {
        let mut texts = Vec::new();
        self.each(haystack, budget, |captures, budget| {
            let text = captures.get_match().as_str();
            budget.elements(1)?;
            budget.bytes(text.len())?;
            texts.push(text.to_owned());
            Ok(true)
        })?;
        Ok(texts)
    }

    pub(crate) fn replace(
        &self,
        haystack: &str,
        replacement: &str,
        (style, all): (Style, bool),
        budget: &mut Budget,
    ) -> Result<String, EvaluationError> {
        let mut out = String::new();
        let mut copied = 0;
        let names = replacement.matches('$').count();
        self.each(haystack, budget, |captures, budget| {
            let found = captures.get_match();
            // what a name stands for lies in what was found
            let longest = replacement.len().saturating_add(names.saturating_mul(found.len()));
            budget.bytes(longest.saturating_add(found.start() - copied))?;
            out.push_str(haystack.get(copied..found.start()).unwrap_or_default());
            match style {
                Style::Broker => captures.expand(replacement, &mut out),
                Style::Agent => expand(&mut out, replacement, found.as_str(), Some(&captures)),
            }
            copied = found.end();
            Ok(all)
        })?;
        let rest = haystack.get(copied..).unwrap_or_default();
        budget.bytes(rest.len())?;
        out.push_str(rest);
        Ok(out)
    }
}

/// JavaScript's `$$`, `$&` and `$1` … `$99` in a replacement.
pub(crate) fn expand(out: &mut String, replacement: &str, found: &str, groups: Option<&Captures<'_>>) {
    let mut rest = replacement;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('&') {
            out.push_str(found);
            rest = after;
        } else if let Some((group, after)) = groups.and_then(|groups| group(groups, rest)) {
            out.push_str(group);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
}

/// The group that the digits at the beginning of `text` name, two digits before one, and what follows them.
fn group<'g, 't>(groups: &'g Captures<'_>, text: &'t str) -> Option<(&'g str, &'t str)> {
    [2, 1].into_iter().find_map(|digits| {
        let (number, rest) = text.split_at_checked(digits)?;
        let number: usize = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
        let is_group = (1..groups.len()).contains(&number);
        is_group.then(|| (groups.get(number).map_or("", |found| found.as_str()), rest))
    })
}
