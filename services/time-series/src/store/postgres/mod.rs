//! The server engine: plain rows in PostgreSQL. Any number of replicas may read and write at once.
//!
//! Invariants
//! - A stream record is stored once for (entity, time, version), whoever delivers it.
//! - Rows and the stream position that they belong to are one transaction.
//! - What is known of types and attributes in a process is checked against `catalog_epoch` in every append.

mod append;
mod cells;
mod dictionary;
mod read;
mod schema;

use std::sync::Arc;

use async_trait::async_trait;
use scope::{QueryScope, Tenant};
use service_kit::Tasks;
use sqlx::{PgConnection, PgPool};
use store::{
    GroupCommit, PostgresConfig, StoreError, group_commit::GroupCommitOptions, open_postgres, position,
};

use self::{
    append::{Append, Appender},
    dictionary::{Dictionary, LOCK},
};
use super::{Appended, HistoryStore};
use crate::{
    metrics::Metrics,
    query::{Deletion, EntitySummary, Query, Selection, TypeRows, Window, fold},
    row::{Position, Row},
};

/// Rows deleted by one statement, so that none runs into the time limit of statements.
const DELETE_AT_ONCE: i64 = 50_000;

pub struct PostgresStore {
    pool: PgPool,
    appends: GroupCommit<Appender>,
}

impl PostgresStore {
    /// Connects, migrates and starts the writer.
    pub async fn open(
        config: &PostgresConfig,
        schema: &str,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, StoreError> {
        let pool = open_postgres(config, schema, schema::COMPONENT, schema::MIGRATIONS).await?;
        let observed = metrics.clone();
        let observer = move |report: store::group_commit::BatchReport| {
            observed.group_requests.observe(u32::try_from(report.requests).map_or(f64::MAX, f64::from));
        };
        let appender = Arc::new(Appender { pool: pool.clone(), dictionary: Dictionary::new(), metrics });
        let options =
            GroupCommitOptions { observer: Some(Arc::new(observer)), ..GroupCommitOptions::default() };
        let (appends, work) = GroupCommit::new(appender, options);
        let stop = tasks.stop_token();
        tasks.spawn("time-series writer", async move {
            work.run(stop).await;
            Ok::<(), std::convert::Infallible>(())
        });
        Ok(Arc::new(Self { pool, appends }))
    }

    async fn series_of(&self, selection: &Selection) -> Result<Vec<i64>, StoreError> {
        let mut series = Vec::new();
        for known in read::types(&self.pool, selection).await? {
            series.extend(read::series(&self.pool, known.id, selection).await?);
        }
        Ok(series)
    }
}

/// Deletes rows of the series in the range, piece by piece; answers how many.
async fn delete_rows(
    connection: &mut PgConnection,
    series: &[i64],
    from_us: i64,
    to_us: i64,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let done = sqlx::query(
            "DELETE FROM history_row WHERE ctid = ANY(ARRAY(SELECT ctid FROM history_row \
             WHERE series = ANY($1::bigint[]) AND time_us BETWEEN $2 AND $3 LIMIT $4))",
        )
        .bind(series)
        .bind(from_us)
        .bind(to_us)
        .bind(DELETE_AT_ONCE)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        removed += done;
        if done == 0 {
            return Ok(removed);
        }
    }
}

#[async_trait]
impl HistoryStore for PostgresStore {
    async fn append(&self, rows: Vec<Row>, position: Option<Position>) -> Result<Appended, StoreError> {
        self.appends.submit(Append { rows, position }).await.map_err(|error| error.0)
    }

    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        position::load_postgres(&mut connection, topic, partition).await
    }

    async fn query(&self, query: &Query) -> Result<Vec<TypeRows>, StoreError> {
        read::query(&self.pool, query).await
    }

    async fn entities(
        &self,
        selection: &Selection,
        window: Window,
    ) -> Result<Vec<EntitySummary>, StoreError> {
        read::entities(&self.pool, selection, window).await
    }

    async fn types_of(&self, scope: &QueryScope, id: &str) -> Result<Vec<String>, StoreError> {
        read::types_of(&self.pool, scope, id).await
    }

    async fn delete(&self, deletion: &Deletion) -> Result<u64, StoreError> {
        let selection = Selection {
            types: deletion.entity_type.clone().map(|name| vec![name]),
            ids: deletion.entity_id.clone().map(|id| vec![id]),
            from_us: deletion.from_us,
            to_us: deletion.to_us,
            ..Selection::all(deletion.scope.clone())
        };
        let series = self.series_of(&selection).await?;
        let mut transaction = self.pool.begin().await?;
        let removed = delete_rows(&mut transaction, &series, selection.from(), selection.to()).await?;
        transaction.commit().await?;
        Ok(removed)
    }

    async fn drop_type(&self, tenant: &Tenant, entity_type: &str) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Waits for the appends in hand, and holds back new ones.
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
        let selection = Selection {
            types: Some(vec![entity_type.to_owned()]),
            ..Selection::all(QueryScope::whole_tenant(tenant.clone()))
        };
        let series = self.series_of(&selection).await?;
        delete_rows(&mut transaction, &series, i64::MIN, i64::MAX).await?;
        sqlx::query(
            "DELETE FROM attribute WHERE type IN (SELECT id FROM entity_type WHERE tenant = $1 AND folded = $2)",
        )
        .bind(tenant.as_str())
        .bind(fold(entity_type))
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE catalog_epoch SET epoch = epoch + 1").execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    async fn expire(
        &self,
        tenant: &Tenant,
        only: Option<&str>,
        keep: &[String],
        before_us: i64,
    ) -> Result<u64, StoreError> {
        let keep: Vec<String> = keep.iter().map(|name| fold(name)).collect();
        let mut removed = 0;
        loop {
            let done = sqlx::query(
                "DELETE FROM history_row WHERE ctid = ANY(ARRAY(SELECT r.ctid FROM entity_type t \
                 JOIN history_row r ON r.type = t.id WHERE t.tenant = $1 AND ($2::text IS NULL OR t.folded = $2) \
                 AND t.folded <> ALL($3::text[]) AND r.time_us < $4 LIMIT $5))",
            )
            .bind(tenant.as_str())
            .bind(only.map(fold))
            .bind(&keep)
            .bind(before_us)
            .bind(DELETE_AT_ONCE)
            .execute(&self.pool)
            .await?
            .rows_affected();
            removed += done;
            if done == 0 {
                return Ok(removed);
            }
        }
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let names: Vec<String> =
            sqlx::query_scalar("SELECT DISTINCT tenant FROM entity_type").fetch_all(&self.pool).await?;
        let read = |name: &String| Tenant::from_header(Some(name));
        names
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(|error| StoreError::Internal(error.to_string()))
    }

    async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT epoch FROM catalog_epoch").fetch_one(&self.pool).await?;
        Ok(())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
