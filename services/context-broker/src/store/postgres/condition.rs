//! Conditions on attributes as PostgreSQL reads JSON.

use ngsi::query::{Condition, Range, Scalar, StoreTest};
use sqlx::{Postgres, QueryBuilder};

/// Writes ` AND …` for each condition. Attributes that hold the character 0 pass: PostgreSQL has no text for it.
pub(super) fn push_conditions(query: &mut QueryBuilder<Postgres>, conditions: &[Condition]) {
    for Condition { path, test } in conditions {
        query.push(r" AND CASE WHEN position('\x5c7530303030'::bytea IN attributes) > 0 THEN TRUE ELSE ");
        match test {
            StoreTest::Exists => {
                push_value(query, path);
                query.push(" IS NOT NULL");
            }
            StoreTest::Missing => {
                push_value(query, path);
                query.push(" IS NULL");
            }
            StoreTest::Within(ranges) => push_within(query, path, ranges),
        }
        query.push(" END");
    }
}

fn push_value(query: &mut QueryBuilder<Postgres>, path: &[String]) {
    query.push("(convert_from(attributes, 'UTF8')::json #> ").push_bind(path.to_vec()).push(")");
}

type IsKind = fn(&Scalar) -> bool;

/// The value is taken out once: `OFFSET 0` keeps the inner query apart.
fn push_within(query: &mut QueryBuilder<Postgres>, path: &[String], ranges: &[Range]) {
    query.push("(SELECT CASE json_typeof(v) WHEN 'array' THEN TRUE");
    let is_of = |range: &&Range, kind: IsKind| range.low.as_ref().or(range.high.as_ref()).is_some_and(kind);
    let kinds: [(&str, &str, IsKind); 3] = [
        ("number", "(v #>> '{}')::numeric", |end| matches!(end, Scalar::Number(_))),
        ("string", "(v #>> '{}') COLLATE \"C\"", |end| matches!(end, Scalar::Text(_))),
        ("boolean", "(v #>> '{}')", |end| matches!(end, Scalar::Bool(_))),
    ];
    for (name, value, kind) in kinds {
        let mut ranges = ranges.iter().filter(|range| is_of(range, kind)).peekable();
        if ranges.peek().is_none() {
            continue;
        }
        query.push(format!(" WHEN '{name}' THEN (FALSE"));
        for range in ranges {
            push_range(query, value, range);
        }
        query.push(")");
    }
    query.push(" ELSE FALSE END FROM (SELECT ");
    push_value(query, path);
    query.push(" AS v OFFSET 0) AS found)");
}

fn push_range(query: &mut QueryBuilder<Postgres>, value: &str, range: &Range) {
    query.push(" OR (TRUE");
    for (end, operator) in [(&range.low, ">="), (&range.high, "<=")] {
        let Some(end) = end else { continue };
        query.push(format!(" AND {value} {operator} "));
        match end {
            Scalar::Number(number) => query.push_bind(*number).push("::float8::numeric"),
            Scalar::Text(text) => query.push_bind(text.clone()),
            Scalar::Bool(flag) => query.push_bind(flag.to_string()),
        };
    }
    query.push(")");
}
