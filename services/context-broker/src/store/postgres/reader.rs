//! Reads of committed entities, and the sweep of expired ones.

use std::sync::Arc;

use ngsi::{EntityText, geo::CellRange};
use scope::QueryScope;
use sqlx::{AssertSqlSafe, Postgres, QueryBuilder};
use store::StoreError;
use tokio::time::Instant;

use super::{PostgresStore, condition::push_conditions};
use crate::store::{
    Cursor, Selection,
    row::{COLUMNS, Row},
    selection::{ORDER, push_after, push_where},
};

/// Offsets above this are skipped within the index.
const FAR_OFFSET: u64 = 1000;
/// Rows that one sweep deletes, at most.
const SWEEP: i64 = 1000;

impl PostgresStore {
    pub(super) async fn find_rows(
        &self,
        scope: &QueryScope,
        id: &str,
        entity_type: Option<&str>,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        let selection = Selection {
            ids: vec![id.to_owned()],
            types: entity_type.map(str::to_owned).into_iter().collect(),
            ..Selection::default()
        };
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM entity"));
        push_where(&mut query, scope, &selection, self.clock.now_us());
        query.push(ORDER);
        self.fetch(query).await
    }

    pub(super) async fn list_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        // A far offset is skipped within the index, and only the page's rows are read; for a near one the plain
        // statement is quicker and does not depend on statistics.
        let far = offset > FAR_OFFSET;
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM entity"));
        if far {
            query.push(" WHERE (tenant, id, path, type) IN (SELECT tenant, id, path, type FROM entity");
        }
        push_where(&mut query, scope, selection, self.clock.now_us());
        push_conditions(&mut query, &selection.conditions);
        query.push(ORDER).push(" LIMIT ").push_bind(i64::from(limit));
        query.push(" OFFSET ").push_bind(i64::try_from(offset).unwrap_or(i64::MAX));
        if far {
            query.push(")").push(ORDER);
        }
        self.fetch(query).await
    }

    pub(super) async fn scan_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM entity"));
        push_where(&mut query, scope, selection, self.clock.now_us());
        push_conditions(&mut query, &selection.conditions);
        if let Some(cursor) = after {
            push_after(&mut query, cursor);
        }
        query.push(ORDER).push(" LIMIT ").push_bind(i64::from(limit));
        self.fetch_until(query, selection.until).await
    }

    pub(super) async fn located_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        let mut query = QueryBuilder::new("");
        self.push_located(&mut query, scope, selection, cells, (COLUMNS, limit));
        self.fetch(query).await
    }

    pub(super) async fn count_located_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut query = QueryBuilder::new("SELECT count(*) FROM (");
        self.push_located(&mut query, scope, selection, cells, ("1", limit));
        query.push(") AS located");
        let count: i64 = query.build_query_scalar().fetch_one(&self.pool).await?;
        Ok(count.unsigned_abs())
    }

    fn push_located(
        &self,
        query: &mut QueryBuilder<Postgres>,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        (columns, limit): (&str, u32),
    ) {
        let (low, high): (Vec<i64>, Vec<i64>) = cells.iter().copied().unzip();
        query.push(format!("SELECT {columns} FROM unnest("));
        query.push_bind(low).push("::int8[], ").push_bind(high);
        // `OFFSET 0` keeps the inner query apart, so that the index of cells serves it: the planner knows nothing of how
        // the cells are spread and would take another.
        query
            .push("::int8[]) AS places (low, high) CROSS JOIN LATERAL (SELECT * FROM entity WHERE tenant = ");
        query.push_bind(scope.tenant.as_str().to_owned());
        query.push(" AND cell >= low AND cell <= high OFFSET 0) AS entity");
        push_where(query, scope, selection, self.clock.now_us());
        push_conditions(query, &selection.conditions);
        query.push(" LIMIT ").push_bind(i64::from(limit));
    }

    pub(super) async fn fetch(
        &self,
        mut query: QueryBuilder<Postgres>,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        let rows: Vec<Row> = query.build_query_as().fetch_all(&self.pool).await?;
        rows.into_iter().map(|row| Ok(row.decode()?.entity)).collect()
    }

    /// The same for what may take long: the server gives it up when the time is over.
    pub(super) async fn fetch_until(
        &self,
        mut query: QueryBuilder<Postgres>,
        until: Option<Instant>,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        let Some(until) = until else { return self.fetch(query).await };
        // Not before `until`: an error that comes earlier is not about the time.
        let left_ms = until.saturating_duration_since(Instant::now()).as_millis() + 1;
        let mut transaction = self.pool.begin().await?;
        let limit = AssertSqlSafe(format!("SET LOCAL statement_timeout = {left_ms}"));
        sqlx::query(limit).execute(&mut *transaction).await?;
        let rows: Vec<Row> = query.build_query_as().fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        rows.into_iter().map(|row| Ok(row.decode()?.entity)).collect()
    }

    pub(super) async fn count_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
    ) -> Result<u64, StoreError> {
        let mut query = QueryBuilder::<Postgres>::new("SELECT count(*) FROM entity");
        push_where(&mut query, scope, selection, self.clock.now_us());
        push_conditions(&mut query, &selection.conditions);
        let count: i64 = query.build_query_scalar().fetch_one(&self.pool).await?;
        Ok(count.unsigned_abs())
    }

    pub(super) async fn sweep_rows(&self, now_us: i64) -> Result<u64, StoreError> {
        // Rows that a writer holds are left for the next sweep.
        let done = sqlx::query(
            "DELETE FROM entity WHERE ctid IN (SELECT ctid FROM entity WHERE expires_us <= $1 \
             ORDER BY expires_us LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .bind(now_us)
        .bind(SWEEP)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
