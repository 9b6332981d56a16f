//! The language and its transforms, seen from outside: tables of expressions with their results.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod broker;
mod language;
mod limits;
mod properties;
mod templates;

use jexl::{Dialect, Expression, Moment};
use serde_json::Value;

/// 2026-01-31T10:00:00.250Z.
const NOW: Moment = Moment::from_micros(1_769_853_600_250_000);

/// Null when it is no expression or fails.
fn result(dialect: Dialect, text: &str, names: &Value) -> Value {
    Expression::parse(text, dialect).map_or(Value::Null, |expression| expression.evaluate(names, NOW))
}

/// Checks rows of expression and result, and tells all that differ.
fn check(dialect: Dialect, names: &Value, rows: &[(&str, Value)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(text, expected)| {
            let found = result(dialect, text, names);
            // 1 and 1.0 are not the same here
            (found != *expected).then(|| format!("{text}: {found} instead of {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
