//! Attribute and metadata values: one form of numbers, derived types, dates, forbidden characters.

use serde_json::{Number, Value};

use super::{MAX_NESTING, Node, has_forbidden};
use crate::{Error, time};

/// Gives a number its one form: what is whole is an integer, so that `1.0` and `1` are equal.
pub fn canonical_number(number: Number) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
            #[allow(clippy::cast_possible_truncation, reason = "whole and within the exact range")]
            let whole = float as i64;
            Value::from(whole)
        }
        _ => Value::Number(number),
    }
}

/// The type of an attribute or metadata that was sent without one.
pub fn type_of_value(value: &Value) -> &'static str {
    match value {
        Value::Null => "None",
        Value::Bool(_) => "Boolean",
        Value::Number(_) => "Number",
        Value::String(_) => "Text",
        Value::Array(_) | Value::Object(_) => "StructuredValue",
    }
}

/// The value of a DateTime attribute in its stored form.
pub fn date_value(value: Value) -> Result<Value, Error> {
    match instant(value) {
        Some(value) => Ok(value),
        None => Err(Error::bad_request("date has invalid format in attribute value")),
    }
}

/// The value of a DateTime metadata in its stored form.
pub(super) fn date_metadata_value(value: Value) -> Result<Value, Error> {
    match instant(value) {
        Some(value) => Ok(value),
        None => Err(Error::bad_request("date has invalid format in metadata value")),
    }
}

fn instant(value: Value) -> Option<Value> {
    match value {
        Value::Null => Some(Value::Null),
        Value::String(text) => Some(Value::String(time::canonical(&text)?)),
        _ => None,
    }
}

/// Checks nesting and, unless `unrestricted`, the characters of every string and key.
pub(super) fn checked(node: Node, unrestricted: bool, invalid: &'static str) -> Result<Value, Error> {
    if node.is_deeper_than(MAX_NESTING) {
        return Err(Error::too_deep());
    }
    if !unrestricted && holds_forbidden(&node) {
        return Err(Error::bad_request(invalid));
    }
    Ok(node.into_value())
}

fn holds_forbidden(node: &Node) -> bool {
    match node {
        Node::Scalar(Value::String(text)) => has_forbidden(text),
        Node::Scalar(_) => false,
        Node::Array(nodes) => nodes.iter().any(holds_forbidden),
        Node::Object(members) => {
            members.iter().any(|(key, node)| has_forbidden(key) || holds_forbidden(node))
        }
    }
}
