//! Indexes on attributes in PostgreSQL: on the value as `jsonb`, whose order is strings, numbers, booleans, arrays, objects.

use std::sync::Arc;

use ngsi::{
    EntityText,
    query::{Range, Scalar},
    time,
};
use scope::QueryScope;
use sqlx::{AssertSqlSafe, PgPool, Postgres, QueryBuilder};
use store::StoreError;

use super::{PostgresStore, condition::push_conditions};
use crate::store::{
    Selection,
    index::{AttributeIndex, PREFIX, serving},
    row::COLUMNS,
    selection::push_where,
};

/// Any constant: replicas that start together make the indexes one after the other.
const LOCK: i64 = 0x7468_6d69_6478;

/// Makes the indexes that are declared and drops those that no longer are.
pub(super) async fn prepare(pool: &PgPool, indexes: &[AttributeIndex]) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    let known: Vec<String> = sqlx::query_scalar(
        "SELECT indexname::text FROM pg_indexes WHERE schemaname = current_schema() AND tablename = 'entity' \
         AND starts_with(indexname, $1)",
    )
    .bind(PREFIX)
    .fetch_all(&mut *transaction)
    .await?;
    let wanted: Vec<String> = indexes.iter().map(AttributeIndex::name).collect();
    for name in known.iter().filter(|name| !wanted.contains(name)) {
        sqlx::query(AssertSqlSafe(format!("DROP INDEX {name}"))).execute(&mut *transaction).await?;
    }
    for index in indexes.iter().filter(|index| !known.contains(&index.name())) {
        let (name, condition, value) = (index.name(), index.condition(), value(index));
        let statement = format!("CREATE INDEX IF NOT EXISTS {name} ON entity (({value})) WHERE {condition}");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

fn value(index: &AttributeIndex) -> String {
    format!("attribute_value(attributes, '{{\"{}\",\"value\"}}')", index.attribute)
}

impl PostgresStore {
    pub(super) async fn indexed_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        limit: u32,
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError> {
        let Some((index, ranges)) = serving(&self.indexes, scope, selection) else { return Ok(None) };
        if !ranges.iter().all(is_ordered_alike) {
            return Ok(None);
        }
        let (condition, value) = (index.condition(), value(index));
        // `OFFSET 0` keeps the inner query apart, so that it is about nothing but the index.
        let mut query = QueryBuilder::new(format!(
            "SELECT {COLUMNS} FROM (SELECT * FROM entity WHERE {condition} \
             AND ({value} = '[]' OR ({value} > 'true' AND {value} < '{{}}')"
        ));
        for range in ranges {
            push_range(&mut query, &value, range);
        }
        query.push(") OFFSET 0) AS entity");
        push_where(&mut query, scope, selection, self.clock.now_us());
        push_conditions(&mut query, &selection.conditions);
        query.push(" LIMIT ").push_bind(i64::from(limit));
        self.fetch(query).await.map(Some)
    }
}

/// Texts have the order of the database's language here; only those that are equal, and instants, are the same in both.
fn is_ordered_alike(range: &Range) -> bool {
    let is_instant = |end: &Option<Scalar>| match end {
        Some(Scalar::Text(text)) => {
            time::parse_us(text).is_some_and(|micros| time::format_us(micros) == *text)
        }
        _ => true,
    };
    range.low == range.high || (is_instant(&range.low) && is_instant(&range.high))
}

fn push_range(query: &mut QueryBuilder<Postgres>, value: &str, range: &Range) {
    query.push(" OR (TRUE");
    for (end, other, operator) in [(&range.low, &range.high, ">="), (&range.high, &range.low, "<=")] {
        match (end, other) {
            (Some(end), _) => push_scalar(query.push(format!(" AND {value} {operator} ")), end),
            // Above the numbers are the booleans; texts, which are below, are sorted out afterwards.
            (None, Some(Scalar::Number(_))) if operator == "<=" => {
                query.push(format!(" AND {value} < 'false'"));
            }
            (None, _) => {}
        }
    }
    query.push(")");
}

fn push_scalar(query: &mut QueryBuilder<Postgres>, scalar: &Scalar) {
    match scalar {
        Scalar::Number(number) => query.push("to_jsonb(").push_bind(*number).push("::float8::numeric)"),
        Scalar::Text(text) => query.push("to_jsonb(").push_bind(text.clone()).push("::text)"),
        Scalar::Bool(flag) => query.push("to_jsonb(").push_bind(*flag).push("::bool)"),
    };
}
