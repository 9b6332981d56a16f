//! Literals of the query language.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::{Error, parse::has_forbidden, time};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Number(Number),
    /// Microseconds since 1970.
    Date(i64),
    Text(String),
    Bool(bool),
    Null,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum RightHandSide {
    Single(Literal),
    List(Vec<Literal>),
    /// Both ends included.
    Range(Literal, Literal),
}

impl RightHandSide {
    pub(super) fn names_null(&self) -> bool {
        match self {
            Self::Single(literal) => *literal == Literal::Null,
            Self::List(list) => list.contains(&Literal::Null),
            Self::Range(..) => false,
        }
    }
}

impl Literal {
    /// Whether `>` and ranges work on it.
    pub(super) fn is_ordered(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Date(_) | Self::Text(_))
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Number(_) => "Number",
            Self::Date(_) => "Date",
            Self::Text(_) => "String",
            Self::Bool(_) => "Bool",
            Self::Null => "Null",
        }
    }

    /// Where a stored value stands relative to this literal. None: of another kind. `is_date`: the stored value is an
    /// instant in its canonical text.
    pub(super) fn compare(&self, value: &Value, is_date: bool) -> Option<Ordering> {
        match (self, value) {
            (Self::Number(own), Value::Number(number)) => Some(compare_numbers(number, own)),
            (Self::Date(own), Value::String(text)) if is_date => Some(time::parse_us(text)?.cmp(own)),
            (Self::Text(own), Value::String(text)) if !is_date => Some(text.as_str().cmp(own.as_str())),
            (Self::Bool(own), Value::Bool(flag)) => Some(flag.cmp(own)),
            (Self::Null, Value::Null) if !is_date => Some(Ordering::Equal),
            _ => None,
        }
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
    }
}

/// Reads a literal: quoted string, number, date, `true`, `false`, `null`, text, in this order.
pub(super) fn literal(text: &str) -> Result<Literal, Error> {
    if let Some(rest) = text.strip_prefix('\'') {
        let inner =
            rest.strip_suffix('\'').ok_or_else(|| Error::bad_request("non-terminated forced string"))?;
        if inner.contains('\'') {
            return Err(Error::bad_request("quote in forced string"));
        }
        return checked_text(inner);
    }
    if let Some(number) = number(text) {
        return Ok(Literal::Number(number));
    }
    if let Some(micros) = time::parse_us(text) {
        return Ok(Literal::Date(micros));
    }
    match text {
        "true" => Ok(Literal::Bool(true)),
        "false" => Ok(Literal::Bool(false)),
        "null" => Ok(Literal::Null),
        _ => checked_text(text),
    }
}

fn checked_text(text: &str) -> Result<Literal, Error> {
    if has_forbidden(text) {
        return Err(Error::bad_request("forbidden characters in String Filter"));
    }
    Ok(Literal::Text(text.to_owned()))
}

fn number(text: &str) -> Option<Number> {
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if !numeric {
        return None;
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Number::from(whole));
    }
    match crate::parse::canonical_number(Number::from_f64(text.parse().ok()?)?) {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_tried_in_the_order_of_the_contract() {
        for (text, expected) in [
            ("'20'", Literal::Text("20".to_owned())),
            ("20", Literal::Number(20.into())),
            ("20.0", Literal::Number(20.into())),
            ("-1.5", Literal::Number(Number::from_f64(-1.5).unwrap())),
            ("2026-01-31T10:00:00Z", Literal::Date(1_769_853_600_000_000)),
            ("true", Literal::Bool(true)),
            ("null", Literal::Null),
            ("inf", Literal::Text("inf".to_owned())),
            ("word", Literal::Text("word".to_owned())),
        ] {
            assert_eq!(literal(text).unwrap(), expected, "{text}");
        }
    }
}
