//! Queries. Names and values are bound; only attribute ids, which are numbers, become part of a statement's text.

use std::collections::BTreeMap;

use scope::{PathPattern, QueryScope};
use sqlx::{AssertSqlSafe, PgPool, Row as _};
use store::StoreError;

use super::cells;
use crate::{
    cell::{Cell, Form, Kind},
    query::{
        Aggregation, AttributeInfo, EntityRows, EntitySummary, Method, Query, Selection, TypeRows, Window,
        fold,
    },
    store::choose,
    time::Period,
};

/// A type of the tenant.
pub(super) struct KnownType {
    pub(super) id: i64,
    pub(super) name: String,
}

pub(super) async fn types(pool: &PgPool, selection: &Selection) -> Result<Vec<KnownType>, StoreError> {
    let names: Option<Vec<String>> =
        selection.types.as_ref().map(|names| names.iter().map(|name| fold(name)).collect());
    let found: Vec<(i64, String)> = sqlx::query_as(
        "SELECT id, name FROM entity_type WHERE tenant = $1 AND ($2::text[] IS NULL OR folded = ANY($2)) ORDER BY folded",
    )
    .bind(selection.scope.tenant.as_str())
    .bind(names)
    .fetch_all(pool)
    .await?;
    Ok(found.into_iter().map(|(id, name)| KnownType { id, name }).collect())
}

async fn attributes(pool: &PgPool, type_id: i64) -> Result<Vec<AttributeInfo>, StoreError> {
    let found: Vec<(i32, String, i64, String)> =
        sqlx::query_as("SELECT id, name, kind, declared FROM attribute WHERE type = $1")
            .bind(type_id)
            .fetch_all(pool)
            .await?;
    let wrong = || StoreError::Internal("an attribute's id or kind".into());
    let read = |(id, name, kind, declared): (i32, String, i64, String)| {
        let id = u32::try_from(id).map_err(|_| wrong())?;
        Ok(AttributeInfo { id, name, kind: Kind::from_code(kind).ok_or_else(wrong)?, declared })
    };
    found.into_iter().map(read).collect()
}

/// Service paths that match exactly, and prefixes of those that match.
fn paths(scope: &QueryScope) -> (Vec<String>, Vec<String>) {
    let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
    for pattern in &scope.patterns {
        match pattern {
            PathPattern::Exact(path) => exact.push(path.to_string()),
            PathPattern::Tree(path) => {
                exact.push(path.to_string());
                prefixes.push(format!("{}/", path.as_str().trim_end_matches('/')));
            }
        }
    }
    (exact, prefixes)
}

fn is_everything(selection: &Selection) -> bool {
    let root = |pattern: &PathPattern| matches!(pattern, PathPattern::Tree(path) if path.as_str() == "/");
    selection.ids.is_none() && selection.id_pattern.is_none() && selection.scope.patterns.iter().any(root)
}

/// The series of a type that the selection names.
pub(super) async fn series(
    pool: &PgPool,
    type_id: i64,
    selection: &Selection,
) -> Result<Vec<i64>, StoreError> {
    let (exact, prefixes) = paths(&selection.scope);
    let found: Vec<(i64, String)> = sqlx::query_as(
        "SELECT id, entity FROM series WHERE type = $1 AND ($2::text[] IS NULL OR entity = ANY($2)) \
         AND (path = ANY($3) OR EXISTS (SELECT FROM unnest($4::text[]) p WHERE starts_with(path, p)))",
    )
    .bind(type_id)
    .bind(selection.ids.as_ref())
    .bind(exact)
    .bind(prefixes)
    .fetch_all(pool)
    .await?;
    Ok(found.into_iter().filter(|(_, id)| selection.matches_id(id)).map(|(series, _)| series).collect())
}

/// Which rows of a type a statement reads.
enum From {
    Type(i64),
    Series(Vec<i64>),
}

pub(super) async fn query(pool: &PgPool, query: &Query) -> Result<Vec<TypeRows>, StoreError> {
    let mut answers = Vec::new();
    for KnownType { id, name } in types(pool, &query.selection).await? {
        let known = attributes(pool, id).await?;
        let Some(mut chosen) = choose(known.iter(), &query.attributes) else { continue };
        let from = if is_everything(&query.selection) {
            From::Type(id)
        } else {
            From::Series(series(pool, id, &query.selection).await?)
        };
        let entities = match query.aggregation {
            None => rows(pool, &from, query, &chosen).await?,
            Some(aggregation) => {
                let entities = aggregates(pool, &from, query, aggregation, &chosen).await?;
                for info in &mut chosen {
                    info.kind = aggregation.method.result(info.kind);
                }
                entities
            }
        };
        if !entities.is_empty() {
            answers.push(TypeRows { name, attributes: chosen, entities });
        }
    }
    Ok(answers)
}

fn big(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Collects cells by entity; `newest_first` rows are turned round at the end.
#[derive(Default)]
struct Collected(BTreeMap<String, EntityRows>);

impl Collected {
    fn push(&mut self, id: String, at_us: Option<i64>, cells: Vec<Cell>) {
        let entity = self.0.entry(id.clone()).or_insert_with(|| EntityRows {
            id,
            times: Vec::new(),
            columns: vec![Vec::new(); cells.len()],
        });
        entity.times.extend(at_us);
        for (column, cell) in entity.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
    }

    fn finish(self, window: Window) -> Vec<EntityRows> {
        let mut entities: Vec<EntityRows> = self.0.into_values().collect();
        if window.newest_first() {
            for entity in &mut entities {
                entity.times.reverse();
                entity.columns.iter_mut().for_each(|column| column.reverse());
            }
        }
        entities
    }
}

async fn rows(
    pool: &PgPool,
    from: &From,
    query: &Query,
    chosen: &[AttributeInfo],
) -> Result<Vec<EntityRows>, StoreError> {
    let direction = if query.window.newest_first() { "DESC" } else { "ASC" };
    let order = format!("ORDER BY r.time_us {direction}, r.arrival {direction}");
    let sql = match from {
        From::Type(_) => format!(
            "SELECT s.entity, r.time_us, r.cells::text FROM (SELECT * FROM history_row r WHERE type = $1 \
             AND time_us BETWEEN $2 AND $3 {order} LIMIT $4 OFFSET $5) r JOIN series s ON s.id = r.series {order}"
        ),
        // Each series by its own index, so that the newest rows of a long one are found at once.
        From::Series(_) => format!(
            "SELECT s.entity, r.time_us, r.cells::text FROM unnest($1::bigint[]) k(id) JOIN series s ON s.id = k.id \
             CROSS JOIN LATERAL (SELECT * FROM history_row r WHERE r.series = k.id AND r.time_us BETWEEN $2 AND $3 \
             {order} LIMIT $4::bigint + $5::bigint) r {order} LIMIT $4 OFFSET $5"
        ),
    };
    let (window, selection) = (query.window, &query.selection);
    let statement = sqlx::query(AssertSqlSafe(sql));
    let statement = match from {
        From::Type(id) => statement.bind(id),
        From::Series(ids) => statement.bind(ids),
    };
    let found = statement
        .bind(selection.from())
        .bind(selection.to())
        .bind(big(window.rows_of(chosen.len())))
        .bind(big(window.offset).min(1 << 40))
        .fetch_all(pool)
        .await?;
    let mut collected = Collected::default();
    for row in found {
        let stored: String = row.try_get(2)?;
        collected.push(row.try_get(0)?, Some(row.try_get(1)?), cells::decode(&stored, chosen)?);
    }
    Ok(collected.finish(window))
}

/// One attribute's aggregate, as text; null where the method does not apply.
fn expression(method: Method, info: &AttributeInfo) -> String {
    let id = info.id;
    if method == Method::Count {
        return format!("count(r.cells -> '{id}')::text");
    }
    if !method.applies_to(info.kind) {
        return "NULL::text".into();
    }
    let value = match info.kind.form() {
        Form::Float => format!("(r.cells ->> '{id}')::float8"),
        Form::Int => format!("(r.cells ->> '{id}')::bigint"),
        Form::Bool | Form::Text => format!("(r.cells ->> '{id}') COLLATE \"C\""),
    };
    match method {
        Method::Avg => format!("avg({value})::float8::text"),
        Method::Sum => format!("sum({value})::text"),
        Method::Min => format!("min({value})::text"),
        Method::Max | Method::Count => format!("max({value})::text"),
    }
}

/// Start of the bucket of a row.
fn bucket(period: Option<Period>) -> String {
    let calendar = |unit: &str| {
        format!(
            "(extract(epoch FROM date_trunc('{unit}', timestamp 'epoch' + r.time_us * interval '1 microsecond')) \
             * 1000000)::bigint"
        )
    };
    match period {
        None => "0::bigint".into(),
        Some(Period::Month) => calendar("month"),
        Some(Period::Year) => calendar("year"),
        Some(fixed) => {
            let slot = fixed.fixed_us();
            format!("(r.time_us - ((r.time_us % {slot}) + {slot}) % {slot})")
        }
    }
}

async fn aggregates(
    pool: &PgPool,
    from: &From,
    query: &Query,
    aggregation: Aggregation,
    chosen: &[AttributeInfo],
) -> Result<Vec<EntityRows>, StoreError> {
    let source = match from {
        From::Type(_) => "r.type = $1",
        From::Series(_) => "r.series = ANY($1::bigint[])",
    };
    let direction = if query.window.newest_first() { "DESC" } else { "ASC" };
    let columns: String =
        chosen.iter().map(|info| format!(", {}", expression(aggregation.method, info))).collect();
    let sql = format!(
        "SELECT s.entity, {} AS start{columns} FROM history_row r JOIN series s ON s.id = r.series \
         WHERE {source} AND r.time_us BETWEEN $2 AND $3 GROUP BY 1, 2 ORDER BY 2 {direction}, 1 LIMIT $4 OFFSET $5",
        bucket(aggregation.period)
    );
    let (window, selection) = (query.window, &query.selection);
    let statement = sqlx::query(AssertSqlSafe(sql));
    let statement = match from {
        From::Type(id) => statement.bind(id),
        From::Series(ids) => statement.bind(ids),
    };
    let found = statement
        .bind(selection.from())
        .bind(selection.to())
        .bind(big(window.rows()))
        .bind(big(window.offset).min(1 << 40))
        .fetch_all(pool)
        .await?;
    let mut collected = Collected::default();
    for row in found {
        let mut values = Vec::with_capacity(chosen.len());
        for (no, info) in chosen.iter().enumerate() {
            values.push(cells::aggregate(row.try_get(no + 2)?, aggregation.method.result(info.kind)));
        }
        let start: i64 = row.try_get(1)?;
        collected.push(row.try_get(0)?, aggregation.period.map(|_| start), values);
    }
    Ok(collected.finish(window))
}

pub(super) async fn entities(
    pool: &PgPool,
    selection: &Selection,
    window: Window,
) -> Result<Vec<EntitySummary>, StoreError> {
    let mut all = Vec::new();
    for known in types(pool, selection).await? {
        all.extend(series(pool, known.id, selection).await?);
    }
    let found: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT s.entity, t.name, max(r.time_us) AS newest FROM unnest($1::bigint[]) k(id) \
         JOIN series s ON s.id = k.id JOIN entity_type t ON t.id = s.type \
         CROSS JOIN LATERAL (SELECT time_us FROM history_row r WHERE r.series = k.id AND r.time_us BETWEEN $2 AND $3 \
             ORDER BY r.time_us DESC LIMIT 1) r \
         GROUP BY s.entity, t.name ORDER BY newest DESC, t.name, s.entity LIMIT $4 OFFSET $5",
    )
    .bind(all)
    .bind(selection.from())
    .bind(selection.to())
    .bind(big(window.rows()))
    .bind(big(window.offset).min(1 << 40))
    .fetch_all(pool)
    .await?;
    let summary = |(id, entity_type, newest_us)| EntitySummary { id, entity_type, newest_us };
    Ok(found.into_iter().map(summary).collect())
}

pub(super) async fn types_of(pool: &PgPool, scope: &QueryScope, id: &str) -> Result<Vec<String>, StoreError> {
    let (exact, prefixes) = paths(scope);
    let found = sqlx::query_scalar(
        "SELECT t.name FROM entity_type t WHERE t.tenant = $1 AND EXISTS (SELECT FROM series s \
         WHERE s.entity = $2 AND s.type = t.id \
         AND (s.path = ANY($3) OR EXISTS (SELECT FROM unnest($4::text[]) p WHERE starts_with(s.path, p))) \
         AND EXISTS (SELECT FROM history_row r WHERE r.series = s.id)) ORDER BY t.folded",
    )
    .bind(scope.tenant.as_str())
    .bind(id)
    .bind(exact)
    .bind(prefixes)
    .fetch_all(pool)
    .await?;
    Ok(found)
}
