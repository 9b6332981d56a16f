//! Conditions on attributes as SQLite reads JSON.

use ngsi::query::{Condition, Range, Scalar, StoreTest};
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
fn json_path(keys: &[String]) -> String {
    keys.iter().fold("$".to_owned(), |path, key| format!("{path}.\"{key}\""))
}
