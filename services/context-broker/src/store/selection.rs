//! The part of a query that SQL answers: places, ids and types, and conditions that each store writes in its own way.
//! What else a query asks is decided in Rust.

use ngsi::{EntityText, query::Condition};
use scope::{PathPattern, QueryScope};
use sqlx::{Database, Encode, QueryBuilder, Type};
use tokio::time::Instant;

/// Which entities; empty lists mean any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    pub ids: Vec<String>,
    pub types: Vec<String>,
    /// On attributes; what meets them is still to be matched with the query.
    pub conditions: Vec<Condition>,
    /// When reading it is given up, where it may take long; None: never.
    pub until: Option<Instant>,
}

/// A place in the order of lists: creation time, then id, path and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub created_us: i64,
    pub id: String,
    pub path: String,
    pub entity_type: String,
}

impl Cursor {
    pub fn of(entity: &EntityText) -> Self {
        Self {
            created_us: entity.created_us,
            id: (*entity.id).to_owned(),
            path: entity.path.as_str().to_owned(),
            entity_type: (*entity.entity_type).to_owned(),
        }
    }
}

/// Writes ` WHERE …` for what `scope` may see of `selection` and has not expired at `now_us`.
pub(super) fn push_where<DB>(
    query: &mut QueryBuilder<DB>,
    scope: &QueryScope,
    selection: &Selection,
    now_us: i64,
) where
    DB: Database,
    String: Type<DB> + for<'q> Encode<'q, DB>,
    i64: Type<DB> + for<'q> Encode<'q, DB>,
{
    query.push(" WHERE tenant = ");
    push_text(query, scope.tenant.as_str());
    push_any(query, "id", &selection.ids);
    push_any(query, "type", &selection.types);
    push_paths(query, &scope.patterns);
    // Not as an alternative of two conditions: planners would leave the order of the index for it.
    query
        .push(" AND coalesce(expires_us, 9223372036854775807) > CAST(")
        .push_bind(now_us)
        .push(" AS BIGINT)");
}

/// A value to compare with. Cast, because SQLite prepares a statement anew each time if a bare parameter might say that a
/// partial index can be used.
fn push_text<DB>(query: &mut QueryBuilder<DB>, value: &str)
where
    DB: Database,
    String: Type<DB> + for<'q> Encode<'q, DB>,
{
    query.push("CAST(").push_bind(value.to_owned()).push(" AS TEXT)");
}

fn push_any<DB>(query: &mut QueryBuilder<DB>, column: &str, values: &[String])
where
    DB: Database,
    String: Type<DB> + for<'q> Encode<'q, DB>,
{
    match values {
        [] => {}
        [one] => {
            query.push(" AND ").push(column).push(" = ");
            push_text(query, one);
        }
        many => {
            query.push(" AND ").push(column).push(" IN (");
            for (place, value) in many.iter().enumerate() {
                query.push(if place == 0 { "" } else { ", " });
                push_text(query, value);
            }
            query.push(")");
        }
    }
}

fn push_paths<DB>(query: &mut QueryBuilder<DB>, patterns: &[PathPattern])
where
    DB: Database,
    String: Type<DB> + for<'q> Encode<'q, DB>,
{
    let everything =
        |pattern: &PathPattern| matches!(pattern, PathPattern::Tree(path) if path.as_str() == "/");
    if patterns.iter().any(everything) {
        return;
    }
    // No pattern at all sees nothing.
    query.push(" AND (FALSE");
    for pattern in patterns {
        match pattern {
            PathPattern::Exact(path) => {
                query.push(" OR path = ");
                push_text(query, path.as_str());
            }
            PathPattern::Tree(path) => {
                query.push(" OR path = ");
                push_text(query, path.as_str());
                // `0` is the character after `/`: everything that begins with `path/`.
                query.push(" OR (path > ");
                push_text(query, &format!("{path}/"));
                query.push(" AND path < ");
                push_text(query, &format!("{path}0"));
                query.push(")");
            }
        }
    }
    query.push(")");
}

/// Writes the condition that a row comes after `cursor`.
pub(super) fn push_after<DB>(query: &mut QueryBuilder<DB>, cursor: &Cursor)
where
    DB: Database,
    String: Type<DB> + for<'q> Encode<'q, DB>,
    i64: Type<DB> + for<'q> Encode<'q, DB>,
{
    query.push(" AND (created_us, id, path, type) > (").push_bind(cursor.created_us);
    query.push(", ").push_bind(cursor.id.clone());
    query.push(", ").push_bind(cursor.path.clone());
    query.push(", ").push_bind(cursor.entity_type.clone()).push(")");
}

/// The order of lists.
pub(super) const ORDER: &str = " ORDER BY created_us, id, path, type";
