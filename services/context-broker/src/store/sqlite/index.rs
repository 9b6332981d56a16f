//! Indexes on attributes in SQLite: on the value as SQLite takes it out of the JSON.

use std::sync::Arc;

use ngsi::{
    EntityText,
    query::{Range, Scalar},
};
use scope::QueryScope;
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite};
use store::{SqlitePools, StoreError};

use super::{
    SqliteStore,
    condition::push_conditions,
    packed::{column, paged},
};
use crate::store::{
    Selection,
    index::{AttributeIndex, PREFIX, serving},
    selection::push_where,
};

/// Makes the indexes that are declared and drops those that no longer are.
pub(super) async fn prepare(pools: &SqlitePools, indexes: &[AttributeIndex]) -> Result<(), StoreError> {
    let known: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'entity' AND substr(name, 1, 10) = ?",
    )
    .bind(PREFIX)
    .fetch_all(&pools.writer)
    .await?;
    let wanted: Vec<String> = indexes.iter().map(AttributeIndex::name).collect();
    for name in known.iter().filter(|name| !wanted.contains(name)) {
        sqlx::query(AssertSqlSafe(format!("DROP INDEX {name}"))).execute(&pools.writer).await?;
    }
    for index in indexes {
        let (name, condition, value) = (index.name(), index.condition(), value(index));
        let statement = format!("CREATE INDEX IF NOT EXISTS {name} ON entity ({value}) WHERE {condition}");
        sqlx::query(AssertSqlSafe(statement)).execute(&pools.writer).await?;
    }
    Ok(())
}

fn value(index: &AttributeIndex) -> String {
    format!("json_extract(CAST(attributes AS TEXT), '$.\"{}\".\"value\"')", index.attribute)
}

impl SqliteStore {
    pub(super) async fn indexed_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        limit: u32,
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError> {
        let Some((index, ranges)) = serving(&self.indexes, scope, selection) else { return Ok(None) };
        let (name, condition, value) = (index.name(), index.condition(), value(index));
        let from = format!("SELECT rowid FROM entity INDEXED BY {name} WHERE {condition} AND {value} ");
        // Arrays are text that begins with a bracket.
        let mut query = QueryBuilder::new("");
        paged(&mut query, |query| {
            query.push(format!("WITH found (row) AS ({from} >= '[' AND {value} < '\\'"));
            for range in ranges {
                query.push(format!(" UNION {from}"));
                push_range(query, &value, range);
            }
            query.push(format!(
                ") SELECT {} FROM found CROSS JOIN entity ON entity.rowid = found.row",
                column("")
            ));
            push_where(query, scope, selection, self.clock.now_us());
            push_conditions(query, &selection.conditions);
            query.push(" LIMIT ").push_bind(i64::from(limit));
        });
        self.fetch(query).await.map(Some)
    }
}

/// Numbers come before texts: an open end stops at its kind.
fn push_range(query: &mut QueryBuilder<Sqlite>, value: &str, range: &Range) {
    match (&range.low, &range.high) {
        (Some(low), _) => push_scalar(query.push(">= "), low),
        (None, Some(Scalar::Text(_))) => {
            query.push(">= ''");
        }
        (None, _) => {
            query.push("IS NOT NULL");
        }
    }
    query.push(format!(" AND {value} "));
    match (&range.high, &range.low) {
        (Some(high), _) => push_scalar(query.push("<= "), high),
        (None, Some(Scalar::Text(_))) => {
            query.push("IS NOT NULL");
        }
        (None, _) => {
            query.push("< ''");
        }
    }
}

fn push_scalar(query: &mut QueryBuilder<Sqlite>, scalar: &Scalar) {
    match scalar {
        Scalar::Number(number) => query.push_bind(*number),
        Scalar::Text(text) => query.push_bind(text.clone()),
        Scalar::Bool(flag) => query.push_bind(*flag),
    };
}
