//! Conditions on attributes as SQLite reads JSON.

use ngsi::{
    query::{Condition, Range, Scalar, StoreTest},
    time,
};
use sqlx::{QueryBuilder, Sqlite};

/// Writes ` AND …` for each condition.
pub(super) fn push_conditions(query: &mut QueryBuilder<Sqlite>, conditions: &[Condition]) {
    for Condition { path, test } in conditions {
        match test {
            StoreTest::Exists => {
                push_type(query.push(" AND "), path);
                query.push(" IS NOT NULL");
            }
            StoreTest::Missing => {
                push_type(query.push(" AND "), path);
                query.push(" IS NULL");
            }
            StoreTest::Within(ranges) => {
                push_literals(query, ranges);
                push_type(query.push(" AND CASE "), path);
                query.push(" WHEN 'array' THEN TRUE ELSE (FALSE");
                for range in ranges {
                    push_range(query, path, range);
                }
                query.push(") END");
            }
        }
    }
}

/// A text that is looked for stands in the JSON as it is: to search for its bytes costs a fraction of reading the JSON.
fn push_literals(query: &mut QueryBuilder<Sqlite>, ranges: &[Range]) {
    let literals: Option<Vec<&str>> = ranges.iter().map(literal).collect();
    let Some(literals) = literals.filter(|literals| !literals.is_empty()) else { return };
    query.push(" AND (FALSE");
    for literal in literals {
        query.push(" OR instr(attributes, ").push_bind(literal.as_bytes().to_vec()).push(") > 0");
    }
    query.push(")");
}

/// The text that is the whole range. None: another range, a text that JSON escapes, or an instant, which has many forms.
fn literal(range: &Range) -> Option<&str> {
    let (Some(Scalar::Text(low)), true) = (&range.low, range.low == range.high) else { return None };
    let is_plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    (!low.is_empty() && low.chars().all(is_plain) && time::parse_us(low).is_none()).then_some(low)
}

fn push_type(query: &mut QueryBuilder<Sqlite>, path: &[String]) {
    query.push("json_type(CAST(attributes AS TEXT), ").push_bind(json_path(path)).push(")");
}

fn push_range(query: &mut QueryBuilder<Sqlite>, path: &[String], range: &Range) {
    query.push(" OR (TRUE");
    for (end, operator) in [(&range.low, " >= "), (&range.high, " <= ")] {
        let Some(end) = end else { continue };
        query.push(" AND json_extract(CAST(attributes AS TEXT), ").push_bind(json_path(path)).push(")");
        query.push(operator);
        match end {
            Scalar::Number(number) => query.push_bind(*number),
            Scalar::Text(text) => query.push_bind(text.clone()),
            Scalar::Bool(flag) => query.push_bind(*flag),
        };
    }
    query.push(")");
}

/// `$."level"."value"`; the keys hold nothing that would have to be escaped.
pub(super) fn json_path(keys: &[String]) -> String {
    keys.iter().fold("$".to_owned(), |path, key| format!("{path}.\"{key}\""))
}
