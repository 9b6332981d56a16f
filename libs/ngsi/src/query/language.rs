//! The simple query language: grammar and parser.
//!
//! ```text
//! q     = item *( ";" item ) [ ";" ]
//! item  = path | "!" path | path op value        op = == : != > < >= <= ~=
//! value = single | single,single… | single..single
//! ```

use super::{
    Pattern,
    value::{Literal, RightHandSide, literal},
};
use crate::{Error, parse::has_forbidden};

/// Longest query text in bytes.
pub const MAX_QUERY_LEN: usize = 8192;
/// Most items in a query, and most elements in a list.
pub const MAX_TERMS: usize = 100;

/// Which language: `q` tests attributes, `mq` metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    Attributes,
    Metadata,
}

/// A parsed query. All its items must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    pub(super) items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) path: Path,
    pub(super) test: Test,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    pub(super) attribute: String,
    pub(super) metadata: Option<String>,
    pub(super) keys: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Exists,
    NotExists,
    Equal(RightHandSide),
    NotEqual(RightHandSide),
    Greater(Literal),
    Less(Literal),
    GreaterOrEqual(Literal),
    LessOrEqual(Literal),
    Match(Pattern),
}

#[derive(Clone, Copy)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    Match,
}

impl Expression {
    pub fn parse(text: &str, kind: QueryKind) -> Result<Self, Error> {
        if text.len() > MAX_QUERY_LEN {
            return Err(Error::bad_request(format!("query is longer than {MAX_QUERY_LEN} bytes")));
        }
        if text.trim().is_empty() {
            return Err(Error::bad_request("empty q"));
        }
        let mut parts = split_outside_quotes(text, ';');
        if parts.len() > 1 && parts.last().is_some_and(|last| last.trim().is_empty()) {
            parts.pop();
        }
        if parts.len() > MAX_TERMS {
            return Err(Error::bad_request(format!("query has more than {MAX_TERMS} items")));
        }
        let mut items: Vec<Item> =
            parts.into_iter().map(|part| item(part.trim(), kind)).collect::<Result<_, _>>()?;
        // Mostly one, and kept as long as a subscription.
        items.shrink_to_fit();
        Ok(Self { text: text.to_owned(), items })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

pub(super) fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c: char| {
        quoted ^= c == '\'';
        c == separator && !quoted
    })
    .collect()
}

fn item(text: &str, kind: QueryKind) -> Result<Item, Error> {
    if text.is_empty() {
        return Err(Error::bad_request("empty q-item"));
    }
    if let Some(rest) = text.strip_prefix('!') {
        return existence(rest.trim(), Test::NotExists, kind);
    }
    let Some((left, operator, right)) = split_operator(text) else {
        return existence(text, Test::Exists, kind);
    };
    let (left, right) = (left.trim(), right.trim());
    if left.is_empty() {
        return Err(Error::bad_request("empty left-hand-side in q-item"));
    }
    let path = path(left, kind)?;
    if right.is_empty() {
        return Err(Error::bad_request("empty right-hand-side in q-item"));
    }
    if kind == QueryKind::Metadata && path.metadata.is_none() {
        return Err(Error::bad_request("no metadata in right-hand-side of q-item"));
    }
    Ok(Item { path, test: comparison(operator, right)? })
}

fn existence(text: &str, test: Test, kind: QueryKind) -> Result<Item, Error> {
    if text.is_empty() {
        return Err(Error::bad_request("empty right-hand-side in q-item"));
    }
    let path = path(text, kind)?;
    if kind == QueryKind::Metadata && path.metadata.is_none() {
        return Err(Error::bad_request("no metadata in right-hand-side of q-item"));
    }
    Ok(Item { path, test })
}

/// Finds the first operator outside quotes.
fn split_operator(text: &str) -> Option<(&str, Operator, &str)> {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for (at, byte) in bytes.iter().enumerate() {
        quoted ^= *byte == b'\'';
        if quoted {
            continue;
        }
        let with_equals = bytes.get(at + 1) == Some(&b'=');
        let (operator, length) = match (byte, with_equals) {
            (b'=', true) => (Operator::Equal, 2),
            (b'~', true) => (Operator::Match, 2),
            (b'!', true) => (Operator::NotEqual, 2),
            (b'>', true) => (Operator::GreaterOrEqual, 2),
            (b'<', true) => (Operator::LessOrEqual, 2),
            (b'>', false) => (Operator::Greater, 1),
            (b'<', false) => (Operator::Less, 1),
            (b':', _) => (Operator::Equal, 1),
            _ => continue,
        };
        return Some((text.get(..at)?, operator, text.get(at + length..)?));
    }
    None
}

fn path(text: &str, kind: QueryKind) -> Result<Path, Error> {
    let name = match kind {
        QueryKind::Attributes => "q",
        QueryKind::Metadata => "mq",
    };
    let invalid = || Error::bad_request(format!("invalid character found in URI param /{name}/"));
    let mut tokens = Vec::new();
    for token in split_outside_quotes(text, '.') {
        let bare = match token.strip_prefix('\'') {
            Some(rest) => rest.strip_suffix('\'').ok_or_else(invalid)?,
            None => token,
        };
        if bare.is_empty() || has_forbidden(bare) {
            return Err(invalid());
        }
        tokens.push(bare.to_owned());
    }
    if tokens.len() > crate::parse::MAX_NESTING {
        return Err(invalid());
    }
    let mut tokens = tokens.into_iter();
    let attribute = tokens.next().ok_or_else(invalid)?;
    let metadata = if kind == QueryKind::Metadata { tokens.next() } else { None };
    Ok(Path { attribute, metadata, keys: tokens.collect() })
}

fn comparison(operator: Operator, right: &str) -> Result<Test, Error> {
    Ok(match operator {
        Operator::Equal => Test::Equal(right_hand_side(right)?),
        Operator::NotEqual => Test::NotEqual(right_hand_side(right)?),
        Operator::Greater => Test::Greater(ordered(right, "GreaterThan")?),
        Operator::Less => Test::Less(ordered(right, "LessThan")?),
        Operator::GreaterOrEqual => Test::GreaterOrEqual(ordered(right, "GreaterThanOrEqual")?),
        Operator::LessOrEqual => Test::LessOrEqual(ordered(right, "LessThanOrEqual")?),
        Operator::Match => {
            let bare = right.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(right);
            let pattern = Pattern::parse(bare)
                .map_err(|_| Error::bad_request(format!("error compiling filter regex: '{bare}'")))?;
            Test::Match(pattern)
        }
    })
}

fn right_hand_side(text: &str) -> Result<RightHandSide, Error> {
    if let Some((from, to)) = split_range(text) {
        return range(from.trim(), to.trim());
    }
    let parts = split_outside_quotes(text, ',');
    if parts.len() == 1 {
        return Ok(RightHandSide::Single(literal(text)?));
    }
    if parts.len() > MAX_TERMS {
        return Err(Error::bad_request(format!("list has more than {MAX_TERMS} items")));
    }
    let mut list = Vec::with_capacity(parts.len());
    for part in parts {
        let part = part.trim();
        if part.is_empty() {
            return Err(Error::bad_request("empty item in list"));
        }
        list.push(literal(part)?);
    }
    Ok(RightHandSide::List(list))
}

/// Splits at the first `..` outside quotes.
fn split_range(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for (at, byte) in bytes.iter().enumerate() {
        quoted ^= *byte == b'\'';
        if !quoted && bytes.get(at..at + 2) == Some(b"..") {
            return Some((text.get(..at)?, text.get(at + 2..)?));
        }
    }
    None
}

fn range(from: &str, to: &str) -> Result<RightHandSide, Error> {
    if from.is_empty() || to.is_empty() {
        return Err(Error::bad_request("empty item in range"));
    }
    let (from, to) = (literal(from)?, literal(to)?);
    if !from.is_ordered() {
        return Err(Error::bad_request("invalid data type for /range-from/"));
    }
    if !to.is_ordered() {
        return Err(Error::bad_request("invalid data type for /range-to/"));
    }
    if std::mem::discriminant(&from) != std::mem::discriminant(&to) {
        return Err(Error::bad_request("invalid range: types mixed"));
    }
    Ok(RightHandSide::Range(from, to))
}

/// The operand of `>` and its like.
fn ordered(text: &str, operator: &str) -> Result<Literal, Error> {
    if split_range(text).is_some() {
        return Err(Error::bad_request("ranges only valid for equal and not equal ops"));
    }
    if split_outside_quotes(text, ',').len() > 1 {
        return Err(Error::bad_request("lists only valid for equal and not equal ops"));
    }
    let literal = literal(text)?;
    if !literal.is_ordered() {
        let name = literal.type_name();
        return Err(Error::bad_request(format!(
            "values of type /{name}/ not supported for operator /{operator}/"
        )));
    }
    Ok(literal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_have_the_texts_of_the_contract() {
        let q = QueryKind::Attributes;
        let mq = QueryKind::Metadata;
        for (text, kind, expected) in [
            ("", q, "empty q"),
            (";", q, "empty q-item"),
            ("a;;b", q, "empty q-item"),
            ("==3", q, "empty left-hand-side in q-item"),
            ("a==", q, "empty right-hand-side in q-item"),
            ("!", q, "empty right-hand-side in q-item"),
            ("a(b==1", q, "invalid character found in URI param /q/"),
            ("a(b.c==1", mq, "invalid character found in URI param /mq/"),
            ("a==b(c", q, "forbidden characters in String Filter"),
            ("a=='b", q, "non-terminated forced string"),
            ("a=='b'c'", q, "quote in forced string"),
            ("a>1..3", q, "ranges only valid for equal and not equal ops"),
            ("a>1,3", q, "lists only valid for equal and not equal ops"),
            ("a==1..", q, "empty item in range"),
            ("a==1,,3", q, "empty item in list"),
            ("a==1..b", q, "invalid range: types mixed"),
            ("a==true..false", q, "invalid data type for /range-from/"),
            ("a==1..true", q, "invalid data type for /range-to/"),
            ("a", mq, "no metadata in right-hand-side of q-item"),
            ("a==1", mq, "no metadata in right-hand-side of q-item"),
            ("a>true", q, "values of type /Bool/ not supported for operator /GreaterThan/"),
            ("a<=null", q, "values of type /Null/ not supported for operator /LessThanOrEqual/"),
            ("a~=[", q, "error compiling filter regex: '['"),
        ] {
            let error = Expression::parse(text, kind).unwrap_err();
            assert_eq!(error.description, expected, "{text}");
        }
    }

    #[test]
    fn queries_are_bounded() {
        assert!(Expression::parse(&"a;".repeat(MAX_TERMS), QueryKind::Attributes).is_ok());
        assert!(Expression::parse(&"a;".repeat(MAX_TERMS + 1), QueryKind::Attributes).is_err());
        assert!(
            Expression::parse(&format!("a=={}", "1,".repeat(MAX_TERMS + 1)), QueryKind::Attributes).is_err()
        );
        assert!(Expression::parse(&"a".repeat(MAX_QUERY_LEN + 1), QueryKind::Attributes).is_err());
    }

    #[test]
    fn quotes_protect_separators_and_dots() {
        let parsed = Expression::parse("'a.b'.c=='x;y'", QueryKind::Attributes);
        assert_eq!(parsed.unwrap_err().description, "forbidden characters in String Filter");
        let parsed = Expression::parse("'a.b'.c=='x,y'", QueryKind::Attributes).unwrap();
        assert_eq!(parsed.items[0].path.attribute, "a.b");
        assert_eq!(parsed.items[0].path.keys, ["c"]);
        assert_eq!(parsed.items[0].test, Test::Equal(RightHandSide::Single(Literal::Text("x,y".to_owned()))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ignored = Expression::parse(&text, QueryKind::Attributes);
            let _ignored = Expression::parse(&text, QueryKind::Metadata);
        }

        #[test]
        fn no_mix_of_its_own_characters_makes_it_panic(text in "[a-c1-3.,;:!<>=~' ]{0,40}") {
            let _ignored = Expression::parse(&text, QueryKind::Attributes);
            let _ignored = Expression::parse(&text, QueryKind::Metadata);
        }
    }
}
