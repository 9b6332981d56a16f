//! Reads of committed entities, and the sweep of expired ones.

use std::sync::Arc;

use ngsi::{EntityText, geo::CellRange};
use scope::{QueryScope, Tenant};
use sqlx::{QueryBuilder, Sqlite};
use store::StoreError;

use super::{
    SqliteStore,
    cache::IdKey,
    condition::push_conditions,
    packed::{column, paged, unpack_page},
};
use crate::{
    store::{
        Cursor, Place, Selection,
        selection::{ORDER, push_after, push_where},
    },
    update::Stored,
};

/// Rows that one sweep deletes, at most: the writer waits meanwhile.
const SWEEP: i64 = 1000;

/// Where a selection is looked for. Ids are named as what to look with: the planner, which knows nothing of how many entities
/// there are, would read all of them to save itself the sorting.
pub(super) fn table(selection: &Selection) -> &'static str {
    if selection.ids.is_empty() { "entity" } else { "entity INDEXED BY entity_key" }
}

impl SqliteStore {
    pub(super) async fn find_cached(
        &self,
        scope: &QueryScope,
        id: &str,
        entity_type: Option<&str>,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        let key = IdKey::new(scope.tenant.clone(), id.into());
        let group = match self.overlay.get(&key).or_else(|| self.cache.get(&key)) {
            Some(group) => group,
            None => self.finder.submit(key).await?,
        };
        let now_us = self.clock.now_us();
        let wanted = |stored: &&Stored| {
            entity_type.is_none_or(|wanted| *stored.entity.entity_type == *wanted)
                && scope.matches(&stored.entity.path)
                && stored.is_alive(now_us)
        };
        let mut found: Vec<Arc<EntityText>> =
            group.iter().filter(wanted).map(|stored| stored.entity.clone()).collect();
        found.sort_by_key(|entity| entity.created_us);
        Ok(found)
    }

    pub(super) async fn list_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.fetch(self.list_query(scope, selection, offset, limit)).await
    }

    pub(super) fn list_query(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        offset: u64,
        limit: u32,
    ) -> QueryBuilder<Sqlite> {
        // The offset is skipped within the index; only the page's rows are read.
        let mut query = QueryBuilder::new("");
        paged(&mut query, |query| {
            query.push(format!("SELECT {} FROM entity WHERE rowid IN (SELECT rowid FROM ", column("")));
            query.push(table(selection));
            push_where(query, scope, selection, self.clock.now_us());
            push_conditions(query, &selection.conditions);
            query.push(ORDER).push(" LIMIT ").push_bind(i64::from(limit));
            query.push(" OFFSET ").push_bind(i64::try_from(offset).unwrap_or(i64::MAX));
            query.push(")").push(ORDER);
        });
        query
    }

    pub(super) async fn scan_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        let mut query = QueryBuilder::new("");
        paged(&mut query, |query| {
            query.push(format!("SELECT {} FROM {}", column(""), table(selection)));
            push_where(query, scope, selection, self.clock.now_us());
            push_conditions(query, &selection.conditions);
            if let Some(cursor) = after {
                push_after(query, cursor);
            }
            query.push(ORDER).push(" LIMIT ").push_bind(i64::from(limit));
        });
        let mut scan = self.pools.scan(selection.until).await?;
        unpack_page(query.build_query_scalar().fetch_one(&mut *scan).await?)
    }

    pub(super) async fn located_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        if cells.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new("");
        paged(&mut query, |query| self.push_located(query, scope, selection, cells, (&column(""), limit)));
        self.fetch(query).await
    }

    pub(super) async fn count_located_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<u64, StoreError> {
        if cells.is_empty() {
            return Ok(0);
        }
        let mut query = self.count_located_query(scope, selection, cells, limit);
        let count: i64 = query.build_query_scalar().fetch_one(&self.pools.reader).await?;
        Ok(count.unsigned_abs())
    }

    pub(super) fn count_located_query(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> QueryBuilder<Sqlite> {
        let mut query = QueryBuilder::new("SELECT count(*) FROM (");
        self.push_located(&mut query, scope, selection, cells, ("1", limit));
        query.push(")");
        query
    }

    pub(super) async fn places_of_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<Vec<Place>, StoreError> {
        if cells.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = self.places_query(scope, selection, cells, limit);
        let text: Option<String> = query.build_query_scalar().fetch_one(&self.pools.reader).await?;
        let mut numbers = text.iter().flat_map(|text| text.split(' ')).map(str::parse);
        let mut places = Vec::new();
        while let Some((cell, row)) = numbers.next().zip(numbers.next()) {
            let (Ok(cell), Ok(row)) = (cell, row) else {
                return Err(StoreError::Internal("a place is not two numbers".to_owned()));
            };
            places.push(Place { cell, row });
        }
        Ok(places)
    }

    pub(super) fn places_query(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> QueryBuilder<Sqlite> {
        // As one text: each row by itself would be handed from thread to thread.
        let mut query = QueryBuilder::new("SELECT group_concat(place, ' ') FROM (");
        self.push_located(
            &mut query,
            scope,
            selection,
            cells,
            ("cell || ' ' || entity.rowid AS place", limit),
        );
        query.push(")");
        query
    }

    pub(super) async fn placed_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        rows: &[i64],
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.fetch(self.placed_query(scope, selection, rows)).await
    }

    pub(super) fn placed_query(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        rows: &[i64],
    ) -> QueryBuilder<Sqlite> {
        let mut query = QueryBuilder::new("");
        paged(&mut query, |query| {
            query.push("WITH chosen (place) AS (SELECT value FROM json_each(");
            query.push_bind(serde_json::to_string(rows).unwrap_or_default());
            query.push(format!(
                ")) SELECT {} FROM chosen CROSS JOIN entity NOT INDEXED ON entity.rowid = place",
                column("")
            ));
            push_where(query, scope, selection, self.clock.now_us());
        });
        query
    }

    fn push_located(
        &self,
        query: &mut QueryBuilder<Sqlite>,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        (columns, limit): (&str, u32),
    ) {
        // One statement for any number of ranges, so that it stays prepared.
        query.push("WITH places (low, high) AS (SELECT value ->> 0, value ->> 1 FROM json_each(");
        query.push_bind(serde_json::to_string(cells).unwrap_or_default());
        // The index is named: the planner knows nothing of how the cells are spread.
        query.push(format!(
            ")) SELECT {columns} FROM places CROSS JOIN entity INDEXED BY entity_cell ON cell >= low AND cell <= high",
        ));
        push_where(query, scope, selection, self.clock.now_us());
        push_conditions(query, &selection.conditions);
        query.push(" LIMIT ").push_bind(i64::from(limit));
    }

    /// The page of a statement of [`paged`].
    pub(super) async fn fetch(
        &self,
        mut query: QueryBuilder<Sqlite>,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        unpack_page(query.build_query_scalar().fetch_one(&self.pools.reader).await?)
    }

    pub(super) async fn count_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
    ) -> Result<u64, StoreError> {
        let mut query = self.count_query(scope, selection);
        let count: i64 = query.build_query_scalar().fetch_one(&self.pools.reader).await?;
        Ok(count.unsigned_abs())
    }

    pub(super) fn count_query(&self, scope: &QueryScope, selection: &Selection) -> QueryBuilder<Sqlite> {
        let mut query = QueryBuilder::new(format!("SELECT count(*) FROM {}", table(selection)));
        push_where(&mut query, scope, selection, self.clock.now_us());
        push_conditions(&mut query, &selection.conditions);
        query
    }

    /// Does not wait for the applier: a row with a change that waits is left to the next sweep. (What changes after its end
    /// begins anew, and its row is written whole.)
    pub(super) async fn sweep_rows(&self, now_us: i64) -> Result<u64, StoreError> {
        let expired: Vec<(i64, String, String)> = sqlx::query_as(
            "SELECT rowid, tenant, id FROM entity WHERE expires_us IS NOT NULL AND expires_us <= ? \
             ORDER BY expires_us LIMIT ?",
        )
        .bind(now_us)
        .bind(SWEEP)
        .fetch_all(&self.pools.reader)
        .await?;
        let waits = |tenant: &str, id: &str| {
            let key = Tenant::from_header(Some(tenant)).map(|tenant| IdKey::new(tenant, id.into()));
            key.is_ok_and(|key| self.overlay.get(&key).is_some())
        };
        let rows: Vec<i64> =
            expired.iter().filter(|(_, tenant, id)| !waits(tenant, id)).map(|(row, ..)| *row).collect();
        if rows.is_empty() {
            return Ok(0);
        }
        let gone: Vec<(String, String)> = sqlx::query_as(
            "DELETE FROM entity WHERE rowid IN (SELECT value FROM json_each(?)) AND expires_us <= ? \
             RETURNING tenant, id",
        )
        .bind(serde_json::to_string(&rows).unwrap_or_default())
        .bind(now_us)
        .fetch_all(&self.pools.writer)
        .await?;
        for (tenant, id) in &gone {
            if let Ok(tenant) = Tenant::from_header(Some(tenant)) {
                self.cache.forget(&IdKey::new(tenant, id.as_str().into()));
            }
        }
        Ok(gone.len() as u64)
    }
}
