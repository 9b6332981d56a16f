//! JavaScript's conversions between kinds.

use std::{borrow::Cow, fmt::Write};

use serde_json::Value;

use super::{Number, Operand};

/// JavaScript's `Number(value)`.
pub(crate) fn number_of(operand: &Operand<'_>) -> Number {
    match operand {
        Operand::Undefined => Number::NAN,
        Operand::Number(number) => *number,
        Operand::Json(value) => match value.as_ref() {
            Value::Null => Number::Int(0),
            Value::Bool(flag) => Number::Int(i64::from(*flag)),
            Value::String(text) => number_of_text(text),
            Value::Array(items) => match items.as_slice() {
                [] => Number::Int(0),
                [only] => number_of(&Operand::borrowed(only)),
                _ => Number::NAN,
            },
            Value::Object(_) => Number::NAN,
            value @ Value::Number(_) => Number::of(value).unwrap_or(Number::NAN),
        },
    }
}

fn number_of_text(text: &str) -> Number {
    let text = text.trim();
    if text.is_empty() {
        return Number::Int(0);
    }
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let good = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
            let whole = if good { i64::from_str_radix(digits, radix).ok() } else { None };
            return whole.map_or(Number::NAN, Number::Int);
        }
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Number::Int(whole);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = unsigned == "Infinity"
        || unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if is_number { text.parse().map_or(Number::NAN, Number::from_float) } else { Number::NAN }
}

/// JavaScript's `String(value)`.
pub(crate) fn text_of<'b>(operand: &'b Operand<'_>) -> Cow<'b, str> {
    match operand {
        Operand::Undefined => Cow::Borrowed("undefined"),
        Operand::Number(number) => Cow::Owned(text_of_number(*number)),
        Operand::Json(value) => text_of_value(value),
    }
}

pub(crate) fn text_of_value(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed("null"),
        Value::Bool(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Value::String(text) => Cow::Borrowed(text),
        Value::Object(_) => Cow::Borrowed("[object Object]"),
        Value::Number(_) => Cow::Owned(text_of_number(Number::of(value).unwrap_or(Number::NAN))),
        Value::Array(items) => Cow::Owned(joined(items, ",")),
    }
}

/// JavaScript's `join`: null is empty.
pub(crate) fn joined(items: &[Value], separator: &str) -> String {
    let mut out = String::new();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        if !item.is_null() {
            out.push_str(&text_of_value(item));
        }
    }
    out
}

/// Shortest digits that give the number back; an exponent from 1e21 and below 1e-6.
pub(crate) fn text_of_number(number: Number) -> String {
    let value = match number {
        Number::Int(whole) => return whole.to_string(),
        Number::Float(value) => value,
    };
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if value == 0.0 || (1e-6..1e21).contains(&value.abs()) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

/// Compact JSON with numbers in JavaScript's form.
pub(crate) fn json_text(value: &Value) -> String {
    let mut out = String::new();
    write_json(&mut out, value);
    out
}

fn write_json(out: &mut String, value: &Value) {
    match value {
        Value::Number(_) => out.push_str(&text_of_value(value)),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_json(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (at, (key, member)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_json_text(out, key);
                out.push(':');
                write_json(out, member);
            }
            out.push('}');
        }
        Value::String(text) => write_json_text(out, text),
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
    }
}

fn write_json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string never fails"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The length of a text as JavaScript counts it: UTF-16 units.
pub(crate) fn units_of(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_written_as_javascript_does() {
        for (value, expected) in [
            (1e21, "1e+21"),
            (1e-7, "1e-7"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (0.000_001, "0.000001"),
            (-0.0, "0"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (100.0, "100"),
            (-0.5, "-0.5"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text_of_number(Number::from_float(value)), expected);
        }
    }

    #[test]
    fn texts_become_numbers_as_in_javascript() {
        for (text, expected) in [
            (" 0x1f ", Some(31.0)),
            ("1e3", Some(1000.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("", Some(0.0)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("0b11", Some(3.0)),
            ("+7", Some(7.0)),
            ("1_0", None),
            ("+", None),
            ("inf", None),
            ("nan", None),
            ("0x", None),
            ("1 2", None),
        ] {
            let number = number_of(&Operand::text(text)).float();
            assert_eq!((!number.is_nan()).then_some(number), expected, "{text}");
        }
    }

    #[test]
    fn json_is_compact_and_escaped() {
        let value = json!({"a": [1.0, 1e300, null, true], "b\"": "x\n\u{1}é"});
        let text = json_text(&value);
        assert_eq!(text, "{\"a\":[1,1e+300,null,true],\"b\\\"\":\"x\\n\\u0001é\"}");
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({"a": [1, 1e300, null, true], "b\"": "x\n\u{1}é"})
        );
    }
}
