//! Deletes: whole chunks go, chunks that are hit in part are rewritten in place, heads become chunks of what stays.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use scope::Tenant;
use sqlx::{Row as _, SqliteConnection};
use store::StoreError;

use super::{
    chunk::{self, Unpacker},
    head::Head,
    seal::{NewChunk, delete_chunks, insert_chunks},
    writer::{Writer, id_of},
};
use crate::query::Deletion;

/// What to remove.
#[derive(Clone, Debug)]
pub(crate) enum Removal {
    Rows(Deletion),
    DropType {
        tenant: Tenant,
        folded: String,
    },
    /// Of these types (folded; `None` = all but `keep`), whatever lies in chunks that end before the instant.
    Expired {
        tenant: Tenant,
        only: Option<String>,
        keep: Vec<String>,
        before_us: i64,
    },
}

impl Writer {
    pub(super) async fn remove(&mut self, removal: &Removal) -> Result<u64, StoreError> {
        match removal {
            Removal::Rows(deletion) => {
                let series = self.series_of(deletion);
                let range = (deletion.from_us.unwrap_or(i64::MIN), deletion.to_us.unwrap_or(i64::MAX));
                self.remove_rows(&series, range, None).await
            }
            Removal::DropType { tenant, folded } => {
                let type_no = self.shared.live.read().catalog.find_type(tenant, folded);
                let Some(type_no) = type_no else { return Ok(0) };
                let series = self.shared.live.read().catalog.types[type_no].series.clone();
                self.remove_rows(&series, (i64::MIN, i64::MAX), Some(type_no)).await
            }
            Removal::Expired { tenant, only, keep, before_us } => {
                self.expire(tenant, only.as_deref(), keep, *before_us).await
            }
        }
    }

    fn series_of(&self, deletion: &Deletion) -> Vec<usize> {
        let live = self.shared.live.read();
        let selection = crate::query::Selection {
            types: deletion.entity_type.clone().map(|name| vec![name]),
            ids: deletion.entity_id.clone().map(|id| vec![id]),
            ..crate::query::Selection::all(deletion.scope.clone())
        };
        let types = live.catalog.select_types(&selection);
        types.into_iter().flat_map(|type_no| live.catalog.select_series(type_no, &selection)).collect()
    }

    /// Removes the rows of the series within the range, and with `drop` also the attributes of that type.
    async fn remove_rows(
        &mut self,
        series: &[usize],
        range: (i64, i64),
        drop: Option<usize>,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.shared.pools.begin().await?;
        let mut removed = self.cut_chunks(&mut transaction, series, range).await?;
        let (touched, chunks, from_heads) = self.cut_heads(series, range)?;
        removed += from_heads;
        if removed == 0 && drop.is_none() {
            return Ok(0);
        }
        insert_chunks(&mut transaction, &chunks).await?;
        if let Some(type_no) = drop {
            let delete = sqlx::query("DELETE FROM attribute WHERE type = ?").bind(id_of(type_no));
            delete.execute(&mut *transaction).await?;
        }
        self.finish_change(&mut transaction, &touched).await?;
        let ends = self.chunk_ends(&mut transaction, series).await?;
        transaction.commit().await?;
        let all = series.to_vec();
        let gone: BTreeSet<usize> = touched.iter().copied().collect();
        self.publish_change(&touched, |catalog| {
            for no in all {
                let series = &mut catalog.series[no];
                let open = series.head.as_ref().filter(|_| !gone.contains(&no)).map(|head| head.newest_us);
                let end = ends.get(&no);
                series.newest_us = end.map_or(i64::MIN, |(t1, _)| *t1).max(open.unwrap_or(i64::MIN));
                series.last_chunk = end.map(|(_, id)| *id);
            }
            if let Some(type_no) = drop {
                catalog.types[type_no].attributes.clear();
            }
        });
        Ok(removed)
    }

    /// Deletes or rewrites the chunks that the range touches; answers how many rows went.
    async fn cut_chunks(
        &self,
        connection: &mut SqliteConnection,
        series: &[usize],
        (from, to): (i64, i64),
    ) -> Result<u64, StoreError> {
        let list = ids_json(series)?;
        let whole: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(n), 0) FROM chunk WHERE series IN (SELECT value FROM json_each(?1)) \
             AND t0 >= ?2 AND t1 <= ?3",
        )
        .bind(&list)
        .bind(from)
        .bind(to)
        .fetch_one(&mut *connection)
        .await?;
        sqlx::query(
            "DELETE FROM chunk WHERE series IN (SELECT value FROM json_each(?1)) AND t0 >= ?2 AND t1 <= ?3",
        )
        .bind(&list)
        .bind(from)
        .bind(to)
        .execute(&mut *connection)
        .await?;
        let parts: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM chunk WHERE series IN (SELECT value FROM json_each(?1)) AND t1 >= ?2 AND t0 <= ?3",
        )
        .bind(&list)
        .bind(from)
        .bind(to)
        .fetch_all(&mut *connection)
        .await?;
        let mut removed = u64::try_from(whole).unwrap_or_default();
        for id in parts {
            removed += self.cut_chunk(connection, id, (from, to)).await?;
        }
        Ok(removed)
    }

    /// Rewrites one chunk under its own id, so that the order of arrival stays.
    async fn cut_chunk(
        &self,
        connection: &mut SqliteConnection,
        id: i64,
        (from, to): (i64, i64),
    ) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT series, type, body FROM chunk WHERE id = ?")
            .bind(id)
            .fetch_one(&mut *connection)
            .await?;
        let decoded = Unpacker::new().and_then(|mut unpacker| chunk::decode(row.get(2), None, &mut unpacker));
        let block = self.shared.check("a chunk", decoded)?;
        let hit = block.range(from, to);
        if hit.is_empty() {
            return Ok(0);
        }
        let kept: Vec<usize> = (0..block.rows()).filter(|row| !hit.contains(row)).collect();
        delete_chunks(connection, &[id]).await?;
        let no = |id: i64| usize::try_from(id - 1).unwrap_or_default();
        let rewritten = NewChunk::new(id, no(row.get(0)), no(row.get(1)), &block.pick(&kept));
        if !kept.is_empty() {
            insert_chunks(connection, &[rewritten]).await?;
        }
        Ok(hit.len() as u64)
    }

    /// The heads that the range touches are sealed without the rows in it. Answers these series, the chunks of what
    /// stays, and how many rows went.
    fn cut_heads(
        &mut self,
        series: &[usize],
        (from, to): (i64, i64),
    ) -> Result<(Vec<usize>, Vec<NewChunk>, u64), StoreError> {
        let shared = self.shared.clone();
        let live = shared.live.read();
        let (mut touched, mut chunks, mut removed) = (Vec::new(), Vec::new(), 0);
        for no in series {
            let entry = &live.catalog.series[*no];
            let Some(head) = entry.head.as_ref().filter(|head| overlaps(head, from, to)) else { continue };
            let attributes = head.attributes(|id| live.catalog.kinds.get(&id).copied());
            let block = shared.check("a head", attributes.and_then(|attributes| head.decode(&attributes)))?;
            let hit = block.range(from, to);
            if hit.is_empty() {
                continue;
            }
            removed += hit.len() as u64;
            touched.push(*no);
            let kept: Vec<usize> = (0..block.rows()).filter(|row| !hit.contains(row)).collect();
            for some in kept.chunks(self.chunk_rows()) {
                let id = self.tail.next_chunk;
                self.tail.next_chunk += 1;
                chunks.push(NewChunk::new(id, *no, entry.type_no, &block.pick(some)));
            }
        }
        Ok((touched, chunks, removed))
    }

    /// Latest time index and last chunk of those of the series that have chunks.
    async fn chunk_ends(
        &self,
        connection: &mut SqliteConnection,
        series: &[usize],
    ) -> Result<HashMap<usize, (i64, i64)>, StoreError> {
        let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT series, max(t1), max(id) FROM chunk WHERE series IN (SELECT value FROM json_each(?)) GROUP BY series",
        )
        .bind(ids_json(series)?)
        .fetch_all(connection)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, t1, last)| (usize::try_from(id - 1).unwrap_or_default(), (t1, last)))
            .collect())
    }

    /// Retention is by whole chunks: what is still in a head or in a chunk with younger rows stays a little longer.
    async fn expire(
        &mut self,
        tenant: &Tenant,
        only: Option<&str>,
        keep: &[String],
        before_us: i64,
    ) -> Result<u64, StoreError> {
        let types: Vec<(usize, Vec<usize>)> = {
            let live = self.shared.live.read();
            let concerned = |folded: &str| match only {
                Some(only) => only == folded,
                None => keep.iter().all(|kept| kept != folded),
            };
            let types = live.catalog.types.iter().enumerate();
            types
                .filter(|(_, owner)| owner.tenant == *tenant && concerned(&owner.folded))
                .map(|(no, owner)| (no, owner.series.clone()))
                .collect()
        };
        let mut removed = 0;
        for (type_no, series) in types {
            let mut transaction = self.shared.pools.begin().await?;
            let rows: i64 =
                sqlx::query_scalar("SELECT coalesce(sum(n), 0) FROM chunk WHERE type = ? AND t1 < ?")
                    .bind(id_of(type_no))
                    .bind(before_us)
                    .fetch_one(&mut *transaction)
                    .await?;
            if rows == 0 {
                continue;
            }
            let delete = sqlx::query("DELETE FROM chunk WHERE type = ? AND t1 < ?")
                .bind(id_of(type_no))
                .bind(before_us);
            delete.execute(&mut *transaction).await?;
            self.finish_change(&mut transaction, &[]).await?;
            let ends = self.chunk_ends(&mut transaction, &series).await?;
            transaction.commit().await?;
            self.publish_change(&[], |catalog| {
                for no in &series {
                    let entry = &mut catalog.series[*no];
                    let end = ends.get(no);
                    let open = entry.head.as_ref().map_or(i64::MIN, |head| head.newest_us);
                    entry.newest_us = end.map_or(i64::MIN, |(t1, _)| *t1).max(open);
                    entry.last_chunk = end.map(|(_, id)| *id);
                }
            });
            removed += u64::try_from(rows).unwrap_or_default();
        }
        Ok(removed)
    }
}

fn overlaps(head: &Arc<Head>, from: i64, to: i64) -> bool {
    head.newest_us >= from && head.first_us <= to
}

fn ids_json(series: &[usize]) -> Result<String, StoreError> {
    let ids: Vec<i64> = series.iter().map(|no| id_of(*no)).collect();
    serde_json::to_string(&ids).map_err(|error| StoreError::Internal(error.to_string()))
}
