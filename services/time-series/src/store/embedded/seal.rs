//! From heads to chunks.

use std::{collections::BTreeSet, sync::Arc};

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};
use store::StoreError;

use super::{
    block::Block,
    chunk::{self, Unpacker},
    head::Head,
    stats,
    writer::{Writer, id_of},
};
use crate::cell::Kind;

/// A chunk about to be written.
pub(super) struct NewChunk {
    pub(super) id: i64,
    series: usize,
    type_no: usize,
    t0: i64,
    t1: i64,
    rows: i64,
    stats: Vec<u8>,
    body: Vec<u8>,
}

impl NewChunk {
    /// Encodes a sorted block that is not empty.
    pub(super) fn new(id: i64, series: usize, type_no: usize, block: &Block) -> Self {
        Self {
            id,
            series,
            type_no,
            t0: block.times.first().copied().unwrap_or_default(),
            t1: block.times.last().copied().unwrap_or_default(),
            rows: i64::try_from(block.rows()).unwrap_or(i64::MAX),
            stats: stats::encode(block),
            body: chunk::encode(block),
        }
    }
}

/// A head taken for sealing, with what is needed to encode it.
struct Opened {
    series: usize,
    type_no: usize,
    last_chunk: Option<i64>,
    head: Arc<Head>,
    attributes: Vec<(u32, Kind)>,
}

impl Writer {
    /// Turns the heads of these series into chunks, in one transaction.
    pub(super) async fn seal(&mut self, series: &BTreeSet<usize>) -> Result<(), StoreError> {
        let opened = self.take_heads(series)?;
        let mut transaction = self.shared.pools.begin().await?;
        let (chunks, merged) = self.encode_heads(&mut transaction, &opened).await?;
        delete_chunks(&mut transaction, &merged).await?;
        insert_chunks(&mut transaction, &chunks).await?;
        let sealed: Vec<usize> = opened.iter().map(|open| open.series).collect();
        self.finish_change(&mut transaction, &sealed).await?;
        transaction.commit().await?;
        self.shared.metrics.chunks_sealed.inc_by(chunks.len() as u64);
        let ends: Vec<(usize, i64)> = chunks.iter().map(|chunk| (chunk.series, chunk.id)).collect();
        self.publish_change(&sealed, |catalog| {
            for (series, id) in ends {
                catalog.series[series].last_chunk = Some(id);
            }
        });
        Ok(())
    }

    fn take_heads(&self, series: &BTreeSet<usize>) -> Result<Vec<Opened>, StoreError> {
        let live = self.shared.live.read();
        let mut opened = Vec::with_capacity(series.len());
        for no in series {
            let entry = &live.catalog.series[*no];
            let Some(head) = &entry.head else { continue };
            let attributes = head.attributes(|id| live.catalog.kinds.get(&id).copied());
            opened.push(Opened {
                series: *no,
                type_no: entry.type_no,
                last_chunk: entry.last_chunk,
                head: head.clone(),
                attributes: self.shared.check("a head", attributes)?,
            });
        }
        Ok(opened)
    }

    /// The new chunks, and the small ones that they take in.
    async fn encode_heads(
        &mut self,
        connection: &mut SqliteConnection,
        opened: &[Opened],
    ) -> Result<(Vec<NewChunk>, Vec<i64>), StoreError> {
        let (mut chunks, mut merged) = (Vec::new(), Vec::new());
        for open in opened {
            let mut block = self.shared.check("a head", open.head.decode(&open.attributes))?;
            // A slow series is sealed by the log's age, a few rows at a time: they join the chunk before them.
            if block.rows() < self.chunk_rows()
                && let Some(last) = open.last_chunk
                && let Some(before) =
                    self.small_chunk(connection, last, self.chunk_rows() - block.rows()).await?
            {
                block = before.merged(&block);
                merged.push(last);
            }
            let rows: Vec<usize> = (0..block.rows()).collect();
            for some in rows.chunks(self.chunk_rows()) {
                let id = self.tail.next_chunk;
                self.tail.next_chunk += 1;
                let part = if some.len() == block.rows() { None } else { Some(block.pick(some)) };
                chunks.push(NewChunk::new(id, open.series, open.type_no, part.as_ref().unwrap_or(&block)));
            }
        }
        Ok((chunks, merged))
    }

    async fn small_chunk(
        &self,
        connection: &mut SqliteConnection,
        id: i64,
        most_rows: usize,
    ) -> Result<Option<Block>, StoreError> {
        let row = sqlx::query("SELECT body FROM chunk WHERE id = ? AND n <= ?")
            .bind(id)
            .bind(i64::try_from(most_rows).unwrap_or_default())
            .fetch_optional(connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let decoded = Unpacker::new().and_then(|mut unpacker| chunk::decode(row.get(0), None, &mut unpacker));
        self.shared.check("a chunk", decoded).map(Some)
    }

    /// In the transaction that changed chunks: notes what of the log is done for these series, cuts the log, and starts
    /// a new epoch.
    pub(super) async fn finish_change(
        &self,
        connection: &mut SqliteConnection,
        sealed: &[usize],
    ) -> Result<(), StoreError> {
        let newest = self.tail.next_batch - 1;
        let versions: Vec<(i64, i64)> = {
            let live = self.shared.live.read();
            sealed.iter().map(|no| (id_of(*no), live.catalog.series[*no].version)).collect()
        };
        let versions =
            serde_json::to_string(&versions).map_err(|error| StoreError::Internal(error.to_string()))?;
        sqlx::query(
            "UPDATE series SET sealed_batch = ?1, version = j.value ->> 1 FROM json_each(?2) AS j \
             WHERE series.id = j.value ->> 0",
        )
        .bind(newest)
        .bind(versions)
        .execute(&mut *connection)
        .await?;
        sqlx::query("DELETE FROM log WHERE batch < ?")
            .bind(self.oldest_needed(sealed))
            .execute(&mut *connection)
            .await?;
        sqlx::query("UPDATE history_state SET epoch = epoch + 1").execute(connection).await?;
        Ok(())
    }

    /// The oldest log batch that holds a row which is in no chunk, once the heads of `sealed` are gone.
    fn oldest_needed(&self, sealed: &[usize]) -> i64 {
        let gone: BTreeSet<usize> = sealed.iter().copied().collect();
        let open = self.tail.open.iter().find(|(_, series)| !gone.contains(series));
        open.map_or(self.tail.next_batch, |(batch, _)| *batch)
    }

    /// After the commit: the heads of `sealed` are gone, and readers that still hold them are told by the epoch.
    pub(super) fn publish_change(
        &mut self,
        sealed: &[usize],
        change: impl FnOnce(&mut super::catalog::Catalog),
    ) {
        let oldest = self.oldest_needed(sealed);
        let newest = self.tail.next_batch - 1;
        let mut live = self.shared.live.write();
        let live = &mut *live;
        for no in sealed {
            let series = &mut live.catalog.series[*no];
            series.sealed_batch = newest;
            if let Some(head) = series.head.take() {
                live.head_bytes = live.head_bytes.saturating_sub(head.weight());
                self.tail.open.remove(&(head.batch, *no));
            }
            self.full.remove(no);
        }
        change(&mut live.catalog);
        live.epoch += 1;
        while let Some((batch, bytes)) = self.tail.log.front().copied().filter(|(batch, _)| *batch < oldest) {
            self.tail.log.pop_front();
            self.tail.log_bytes -= bytes;
            debug_assert!(batch < oldest);
        }
    }
}

pub(super) async fn delete_chunks(connection: &mut SqliteConnection, ids: &[i64]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids = serde_json::to_string(ids).map_err(|error| StoreError::Internal(error.to_string()))?;
    sqlx::query("DELETE FROM chunk WHERE id IN (SELECT value FROM json_each(?))")
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn insert_chunks(
    connection: &mut SqliteConnection,
    chunks: &[NewChunk],
) -> Result<(), StoreError> {
    for some in chunks.chunks(64) {
        let mut sql =
            QueryBuilder::<Sqlite>::new("INSERT INTO chunk (id, type, series, t0, t1, n, stats, body) ");
        sql.push_values(some, |mut row, chunk| {
            row.push_bind(chunk.id).push_bind(id_of(chunk.type_no)).push_bind(id_of(chunk.series));
            row.push_bind(chunk.t0).push_bind(chunk.t1).push_bind(chunk.rows);
            row.push_bind(chunk.stats.as_slice()).push_bind(chunk.body.as_slice());
        });
        sql.build().execute(&mut *connection).await?;
    }
    Ok(())
}
