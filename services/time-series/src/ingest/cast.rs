//! Values against kinds (contract section 3, "Casting"): the first value fixes the kind, later ones are cast to it.

use serde_json::Value;

use super::geo;
use crate::{
    cell::{Cell, Kind},
    time,
};

/// The kind that an attribute gets with its first value. `None`: neither the type nor the value says anything, so the
/// choice is left to a later value.
pub fn kind_for(name: &str, declared: &str, value: &Value) -> Option<Kind> {
    if name.eq_ignore_ascii_case("location") && (value.is_object() || declared.starts_with("geo:")) {
        return Some(Kind::GeoJson);
    }
    Some(match declared {
        "Number" => Kind::Number,
        "Integer" => Kind::Integer,
        "Boolean" => Kind::Boolean,
        "DateTime" | "ISO8601" => Kind::DateTime,
        "Text" | "Relationship" => Kind::Text,
        "StructuredValue" => Kind::Structured,
        "Array" => Kind::Array,
        "geo:json" | "GeoProperty" => Kind::GeoJson,
        "geo:point" => Kind::GeoPoint,
        "geo:line" | "geo:polygon" | "geo:box" => Kind::GeoShape,
        _ => return inferred(value),
    })
}

fn inferred(value: &Value) -> Option<Kind> {
    Some(match value {
        Value::Null => return None,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Structured,
        Value::Bool(_) => Kind::Boolean,
        Value::Number(number) if number.is_f64() => Kind::Number,
        Value::Number(_) => Kind::Integer,
        Value::String(text) if text.len() >= 10 && time::parse_iso(text).is_some() => Kind::DateTime,
        Value::String(_) => Kind::Text,
    })
}

/// The stored form of `value` in an attribute of `kind`; null when it does not fit.
pub fn cast(kind: Kind, value: &Value) -> Cell {
    if value.is_null() {
        return Cell::Null;
    }
    match kind {
        Kind::Number => number(value).map(Cell::Float),
        Kind::Integer => integer(value).map(Cell::Int),
        Kind::Boolean => boolean(value).map(Cell::Bool),
        Kind::DateTime => value.as_str().and_then(time::parse_iso).map(Cell::Int),
        Kind::Text => Some(Cell::Text(match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })),
        Kind::Structured => (value.is_object() || value.is_array()).then(|| Cell::Text(value.to_string())),
        Kind::Array => value.is_array().then(|| Cell::Text(value.to_string())),
        Kind::GeoJson => geo::to_geojson(value).map(|json| Cell::Text(json.to_string())),
        Kind::GeoPoint => geo::to_point(value).map(Cell::Text),
        Kind::GeoShape => geo::to_shape(value).map(|json| Cell::Text(json.to_string())),
    }
    .unwrap_or_default()
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

#[allow(clippy::cast_possible_truncation, reason = "the contract truncates, and the range is checked")]
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            (float.abs() < 9.2e18).then_some(float as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn casting_follows_the_table_of_the_contract() {
        for (kind, value, stored) in [
            (Kind::Number, json!(1.5), Cell::Float(1.5)),
            (Kind::Number, json!(1), Cell::Float(1.0)),
            (Kind::Number, json!("1.5"), Cell::Float(1.5)),
            (Kind::Number, json!(0.0), Cell::Float(0.0)),
            (Kind::Number, json!(true), Cell::Null),
            (Kind::Number, json!("warm"), Cell::Null),
            (Kind::Number, json!("nan"), Cell::Null),
            (Kind::Number, json!(""), Cell::Null),
            (Kind::Integer, json!(7), Cell::Int(7)),
            (Kind::Integer, json!(7.9), Cell::Int(7)),
            (Kind::Integer, json!(-7.9), Cell::Int(-7)),
            (Kind::Integer, json!("7"), Cell::Int(7)),
            (Kind::Integer, json!(1e300), Cell::Null),
            (Kind::Integer, json!("x"), Cell::Null),
            (Kind::Boolean, json!(true), Cell::Bool(true)),
            (Kind::Boolean, json!("TRUE"), Cell::Bool(true)),
            (Kind::Boolean, json!(1), Cell::Bool(true)),
            (Kind::Boolean, json!("yes"), Cell::Null),
            (Kind::DateTime, json!("2030-01-01T00:00:00Z"), Cell::Int(1_893_456_000_000_000)),
            (Kind::DateTime, json!("soon"), Cell::Null),
            (Kind::DateTime, json!(5), Cell::Null),
            (Kind::Text, json!(true), Cell::Text("true".into())),
            (Kind::Text, json!({"a": 1}), Cell::Text("{\"a\":1}".into())),
            (Kind::Text, json!(""), Cell::Text(String::new())),
            (Kind::Structured, json!({"a": 1}), Cell::Text("{\"a\":1}".into())),
            (Kind::Structured, json!([1]), Cell::Text("[1]".into())),
            (Kind::Structured, json!(1), Cell::Null),
            (Kind::Array, json!([1, "a"]), Cell::Text("[1,\"a\"]".into())),
            (Kind::Array, json!({}), Cell::Null),
        ] {
            assert_eq!(cast(kind, &value), stored, "{kind:?} {value}");
        }
    }

    #[test]
    fn a_kind_comes_from_the_declared_type_or_the_value() {
        for (declared, value, kind) in [
            ("Number", json!("x"), Some(Kind::Number)),
            ("", json!(1), Some(Kind::Integer)),
            ("Percentage", json!(1.5), Some(Kind::Number)),
            ("", json!("2030-01-01T00:00:00Z"), Some(Kind::DateTime)),
            ("", json!("2030"), Some(Kind::Text)),
            ("", json!([1]), Some(Kind::Array)),
            ("", json!({}), Some(Kind::Structured)),
            ("", json!(false), Some(Kind::Boolean)),
            ("", Value::Null, None),
            ("geo:point", json!("1, 2"), Some(Kind::GeoPoint)),
        ] {
            assert_eq!(kind_for("a", declared, &value), kind, "{declared} {value}");
        }
        assert_eq!(kind_for("Location", "geo:point", &json!("1, 2")), Some(Kind::GeoJson));
    }

    proptest! {
        #[test]
        fn any_value_is_cast_or_nulled(text in "\\PC{0,20}", number in any::<f64>(), which in 0i64..10) {
            let kind = Kind::from_code(which).unwrap();
            for value in [json!(text), json!(number), json!({"type": text, "coordinates": [number, text]})] {
                cast(kind, &value);
            }
        }
    }
}
