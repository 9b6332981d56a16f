//! Equality and order.

use serde_json::Value;

use super::{Number, Operand, number_of, text_of};

/// Numbers closer than this are equal for the broker.
const CLOSE: f64 = 0.000_001;

/// The broker's `==`: values of different kinds are never equal, nearly equal numbers are.
pub(crate) fn equal(left: &Operand<'_>, right: &Operand<'_>) -> bool {
    match (left.as_number(), right.as_number()) {
        (Some(a), Some(b)) => a == b || (a.float() - b.float()).abs() < CLOSE,
        (None, None) => same(left, right),
        _ => false,
    }
}

/// The same kind and the same value (`===`, but arrays and objects by their content).
pub(crate) fn same(left: &Operand<'_>, right: &Operand<'_>) -> bool {
    match (left, right) {
        (Operand::Undefined, Operand::Undefined) => true,
        (Operand::Json(a), Operand::Json(b)) => same_value(a, b),
        _ => match (left.as_number(), right.as_number()) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
    }
}

fn same_value(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => Number::of(left) == Number::of(right),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_value(a, b)))
        }
        _ => left == right,
    }
}

/// JavaScript's `==`.
pub(crate) fn loosely_equal(left: &Operand<'_>, right: &Operand<'_>) -> bool {
    let (a, b) = (kind(left), kind(right));
    match (a, b) {
        (Kind::Nothing, Kind::Nothing) => true,
        (Kind::Nothing, _) | (_, Kind::Nothing) => false,
        _ if a == b => same(left, right),
        (Kind::Structure, Kind::Text) => text_of(left) == text_of(right),
        (Kind::Text, Kind::Structure) => text_of(left) == text_of(right),
        _ => primitive_number(left) == primitive_number(right),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Bool,
    Number,
    Text,
    Structure,
}

fn kind(operand: &Operand<'_>) -> Kind {
    match operand {
        Operand::Undefined => Kind::Nothing,
        Operand::Number(_) => Kind::Number,
        Operand::Json(value) => match value.as_ref() {
            Value::Null => Kind::Nothing,
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::Text,
            Value::Array(_) | Value::Object(_) => Kind::Structure,
        },
    }
}

/// A structure is a number when its text is one.
fn primitive_number(operand: &Operand<'_>) -> Number {
    match kind(operand) {
        Kind::Structure => number_of(&Operand::text(text_of(operand))),
        _ => number_of(operand),
    }
}

/// JavaScript's `<`: texts by their UTF-16 units, everything else as numbers.
pub(crate) fn is_less(left: &Operand<'_>, right: &Operand<'_>) -> bool {
    let as_texts = |operand: &Operand<'_>| matches!(kind(operand), Kind::Text | Kind::Structure);
    if as_texts(left) && as_texts(right) {
        return text_of(left).encode_utf16().lt(text_of(right).encode_utf16());
    }
    primitive_number(left).is_less(primitive_number(right))
}
