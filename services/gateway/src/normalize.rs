//! One spelling for each path, the same as Envoy's with `normalize_path`, `merge_slashes` and
//! `path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD`, which is what Istio makes of `DECODE_AND_MERGE_SLASHES`.
//!
//! In this order: `%2F` and `%5C` are decoded · parameters of literal dot segments are dropped (`..;x`) · letters, digits
//! and `-._~` are decoded, `"<>^` and the like are encoded, a backslash is a slash · dot segments are resolved · slashes
//! are merged. The query stays as it is.

use std::borrow::Cow;

/// A path that Envoy answers with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed path")]
pub struct BadPath;

/// Normalises the path of a request target in origin form, such as `/a/../b?x=1`.
pub fn normalize(target: &str) -> Result<Cow<'_, str>, BadPath> {
    if is_normal(target) {
        return Ok(Cow::Borrowed(target));
    }
    if target.contains('#') {
        return Err(BadPath);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if !path.starts_with('/') {
        return Err(BadPath);
    }
    let slashes = unescape_slashes(path.as_bytes());
    let decoded = decode(&without_dot_parameters(&slashes))?;
    let mut normal = merge_slashes(&resolve_dots(&decoded));
    if let Some(query) = query {
        normal.push('?');
        normal.push_str(query);
    }
    Ok(Cow::Owned(normal))
}

/// Whether nothing in the path could need a change: true for nearly every request.
fn is_normal(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_~!$&'()*+,:;=@.[]".contains(&byte);
    let no_runs = |pair: &[u8]| !matches!(pair, b"//" | b"/.");
    path.starts_with('/')
        && path.bytes().all(plain)
        && path.as_bytes().windows(2).all(no_runs)
        && !target.contains('#')
}

fn unescape_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        let slash = match rest.get(..3) {
            Some(b"%2F" | b"%2f") => Some(b'/'),
            Some(b"%5C" | b"%5c") => Some(b'\\'),
            _ => None,
        };
        match slash {
            Some(slash) => {
                out.push(slash);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// `/a/..;x/b` is `/a/../b` to some servers; only what is spelt so literally counts.
fn without_dot_parameters(path: &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').map(without_parameters).collect();
    segments.join(&b'/')
}

fn without_parameters(segment: &[u8]) -> &[u8] {
    match segment {
        [b'.', b'.', b';', ..] => b"..",
        [b'.', b';', ..] => b".",
        other => other,
    }
}

fn decode(path: &[u8]) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len() + 8);
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'\\' => out.push('/'),
            b'%' => match escaped(tail) {
                Some(0) => return Err(BadPath),
                Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                    out.push(char::from(byte));
                    rest = tail.get(2..).unwrap_or_default();
                }
                _ => out.push('%'),
            },
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => out.push_str(&format!("%{first:02X}")),
            b'!'..=b'~' => out.push(char::from(*first)),
            _ => return Err(BadPath),
        }
    }
    Ok(out)
}

/// The byte behind a percent sign whose two digits start `digits`.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |index: usize| digits.get(index).and_then(|digit| char::from(*digit).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn resolve_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

fn merge_slashes(path: &str) -> String {
    if !path.contains("//") {
        return path.to_owned();
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    // Envoy leaves two slashes of a path that has nothing else.
    let end = if path.ends_with('/') { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Measured on Envoy 1.40; the edge tests run many more against the real one.
    #[test]
    fn paths_are_normalised_as_envoy_does() {
        for (given, expected) in [
            ("/a/../b", "/b"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/..", "/"),
            ("/a/../../b", "/b"),
            ("/a/.//..//b", "/a/b"),
            ("//../b", "/b"),
            ("//", "//"),
            ("///", "//"),
            ("/a//", "/a/"),
            ("/a%2F..%2fb", "/b"),
            ("/a%5C..%5cb", "/b"),
            (r"/a\..\b", "/b"),
            ("/%2e%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/%252e%252e/b", "/%252e%252e/b"),
            ("/%68ealthz", "/healthz"),
            ("/a%3fb", "/a%3fb"),
            ("/%zz%", "/%zz%"),
            ("/a\"<>^`{|}b", "/a%22%3C%3E%5E%60%7B%7C%7Db"),
            ("/a/..;x/b", "/b"),
            ("/a/..;%2fb", "/b"),
            ("/a/%2e%2e;/b", "/a/..;/b"),
            ("/a;b/../c", "/c"),
            ("/a/..?x=/../y%2f", "/?x=/../y%2f"),
        ] {
            assert_eq!(normalize(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        for bad in ["", "*", "a", "?x", "/a#x", "/a?b#x", "/a%00b", "/a\u{e9}", "/a\tb", "/a\u{7f}"] {
            assert_eq!(normalize(bad), Err(BadPath), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_dot_segment_and_no_double_slash_is_left(path in "/[a./;%2eEfF5cC\\\\]{0,24}") {
            if let Ok(normal) = normalize(&path) {
                prop_assert!(normal.starts_with('/'));
                prop_assert!(normal == "//" || !normal.contains("//"), "{normal}");
                prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."), "{normal}");
            }
        }

        #[test]
        fn the_quick_way_agrees_with_the_long_one(path in "/[a-c.;/-]{0,16}(\\?[a/.]{0,4})?") {
            if is_normal(&path) {
                let (head, query) = path.split_once('?').map_or((path.as_str(), None), |(a, b)| (a, Some(b)));
                let decoded = decode(&without_dot_parameters(&unescape_slashes(head.as_bytes())));
                let mut long = merge_slashes(&resolve_dots(&decoded.unwrap()));
                if let Some(query) = query {
                    long = format!("{long}?{query}");
                }
                prop_assert_eq!(long, path);
            }
        }
    }
}
