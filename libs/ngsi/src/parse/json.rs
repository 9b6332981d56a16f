//! JSON text to values, with a bound on nesting that is checked before the recursive parser sees the text, and with
//! repeated keys still visible where the API refuses them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::Error;

/// Most levels of arrays and objects in one attribute or metadata value.
pub const MAX_NESTING: usize = 50;
/// Levels that a body may have around a value: batch object, entities, entity, attribute, metadata, its object.
const MAX_BODY_NESTING: usize = MAX_NESTING + 8;

/// Members of an object in the order of the text; a key may occur twice.
pub type Members = Vec<(String, Node)>;

/// A JSON value whose objects, on the levels that the API knows, still show repeated keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Object(Members),
    Array(Vec<Node>),
    Scalar(Value),
}

impl Node {
    /// As a plain value; of repeated keys the last wins. Numbers get their one form.
    pub fn into_value(self) -> Value {
        match self {
            Self::Object(members) => Value::Object(
                members.into_iter().map(|(key, node)| (key, node.into_value())).collect::<Map<_, _>>(),
            ),
            Self::Array(nodes) => Value::Array(nodes.into_iter().map(Node::into_value).collect()),
            Self::Scalar(value) => value,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether arrays and objects nest deeper than `limit`.
    pub fn is_deeper_than(&self, limit: usize) -> bool {
        match self {
            Self::Scalar(_) => false,
            Self::Object(_) | Self::Array(_) if limit == 0 => true,
            Self::Object(members) => members.iter().any(|(_, node)| node.is_deeper_than(limit - 1)),
            Self::Array(nodes) => nodes.iter().any(|node| node.is_deeper_than(limit - 1)),
        }
    }
}

/// Parses a body.
pub(super) fn node(body: &[u8]) -> Result<Node, Error> {
    let too_deep = nests_deeper_than(body, MAX_BODY_NESTING);
    if too_deep {
        return Err(Error::too_deep());
    }
    serde_json::from_slice(body).map_err(|_| Error::json_syntax())
}

/// Parses a body that must be an object.
pub fn members(body: &[u8]) -> Result<Members, Error> {
    match node(body)? {
        Node::Object(members) => Ok(members),
        _ => Err(Error::bad_request("not a JSON object")),
    }
}

/// Counts brackets outside strings; does not care whether the text is JSON otherwise.
fn nests_deeper_than(body: &[u8], limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    false
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(Number::from_f64(value).map_or(Value::Null, super::canonical_number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element()? {
            nodes.push(node);
        }
        Ok(Node::Array(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = access.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_bounded_before_the_parser_recurses() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(node(deep.as_bytes()), Err(Error::too_deep()));
        let in_a_string = format!("\"{}\"", "[".repeat(1000));
        assert!(node(in_a_string.as_bytes()).is_ok());
        let escaped = format!(r#"["\"{}"]"#, "[".repeat(1000));
        assert!(node(escaped.as_bytes()).is_ok());
    }

    #[test]
    fn text_that_is_not_json_is_a_parse_error() {
        for text in [
            &b"{"[..],
            b"",
            b"{]",
            b"\xff\xfe",
            b"{\"a\":\"\xc3\x28\"}",
            b"nul",
            b"{\"a\":1}x",
            b"{\"a\":1,}",
        ] {
            assert_eq!(node(text), Err(Error::json_syntax()), "{text:?}");
        }
    }

    #[test]
    fn numbers_have_one_form() {
        for (text, expected) in [
            ("1.0", "1"),
            ("1e3", "1000"),
            ("-0.0", "0"),
            ("1.50", "1.5"),
            ("9007199254740993", "9007199254740993"),
            ("1e300", "1e+300"),
        ] {
            assert_eq!(node(text.as_bytes()).unwrap().into_value().to_string(), expected);
        }
    }

    #[test]
    fn repeated_keys_stay_visible() {
        let members = members(br#"{"a":1,"a":2}"#).unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(Node::Object(members).into_value(), serde_json::json!({"a":2}));
    }
}
