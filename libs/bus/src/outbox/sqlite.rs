use std::sync::OnceLock;

use futures::TryStreamExt;
use sqlx::{Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use store::StoreError;

use super::{headers_of, headers_text};
use crate::{Outgoing, Record};

/// Statements exist for these numbers of rows, so that a few texts stay in the statement cache.
const ROWS: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

/// Appends `records` in the caller's transaction; answers the offset of the last one (0 when there is none).
pub async fn append_sqlite(
    connection: &mut SqliteConnection,
    topic: &str,
    records: &[Outgoing],
) -> Result<i64, StoreError> {
    let mut last = 0;
    let mut rest = records;
    while let Some((statement, rows)) = statements().iter().find(|(_, rows)| *rows <= rest.len()) {
        let (chunk, tail) = rest.split_at(*rows);
        let mut query = sqlx::query(*statement);
        for record in chunk {
            query = query
                .bind(topic)
                .bind(record.tenant.as_str())
                .bind(&*record.key)
                .bind(&*record.payload)
                .bind(headers_text(record));
        }
        last = query.execute(&mut *connection).await?.last_insert_rowid();
        rest = tail;
    }
    Ok(last)
}

fn statements() -> &'static [(&'static str, usize)] {
    static STATEMENTS: OnceLock<Vec<(&'static str, usize)>> = OnceLock::new();
    STATEMENTS.get_or_init(|| {
        let text = |rows: usize| {
            let values = vec!["(?,?,?,?,?)"; rows].join(",");
            format!("INSERT INTO bus_log (topic, tenant, key, payload, headers) VALUES {values}")
        };
        ROWS.iter().map(|rows| (&*text(*rows).leak(), *rows)).collect()
    })
}

/// Reads records of `topic` from offset `from` on: at most `max_records`, and no more after `max_bytes`.
pub(crate) async fn read_from(
    reader: &SqlitePool,
    topic: &str,
    from: i64,
    max_records: usize,
    max_bytes: usize,
) -> Result<Vec<Record>, StoreError> {
    let mut rows = sqlx::query(
        "SELECT seq, tenant, key, payload, headers, at_us FROM bus_log WHERE topic = ? AND seq >= ? \
         ORDER BY seq LIMIT ?",
    )
    .bind(topic)
    .bind(from)
    .bind(i64::try_from(max_records).unwrap_or(i64::MAX))
    .fetch(reader);
    let mut records = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let record = record(&row)?;
        bytes += record.payload.len() + record.key.len();
        records.push(record);
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(records)
}

fn record(row: &SqliteRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        offset: row.try_get(0)?,
        headers: headers_of(row.try_get(1)?, row.try_get(4)?),
        key: row.try_get::<Vec<u8>, _>(2)?.into(),
        payload: row.try_get::<Vec<u8>, _>(3)?.into(),
        time_us: row.try_get(5)?,
    })
}

/// How far a log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogBounds {
    /// Offset of the oldest row; of the next one when the log is empty.
    pub(crate) first: i64,
    /// Offset that the next row gets.
    pub(crate) next: i64,
    /// Bytes of a row on average, from the newest rows.
    pub(crate) row_bytes: i64,
}

/// Bounds of the whole table (a file owns one topic as a rule; several share the offsets).
pub(crate) async fn bounds(reader: &SqlitePool) -> Result<LogBounds, StoreError> {
    let (first, next, row_bytes): (Option<i64>, i64, i64) = sqlx::query_as(
        "SELECT (SELECT min(seq) FROM bus_log), \
         coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'bus_log'), 0) + 1, \
         CAST(coalesce((SELECT avg(length(key) + length(payload) + coalesce(length(headers), 0) + 64) FROM \
         (SELECT * FROM bus_log ORDER BY seq DESC LIMIT 256)), 0) AS INTEGER)",
    )
    .fetch_one(reader)
    .await?;
    Ok(LogBounds { first: first.unwrap_or(next), next, row_bytes })
}

pub(crate) async fn count_from(reader: &SqlitePool, topic: &str, from: i64) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM bus_log WHERE topic = ? AND seq >= ?")
        .bind(topic)
        .bind(from)
        .fetch_one(reader)
        .await?;
    Ok(count.unsigned_abs())
}

/// Deletes up to `max` of the oldest rows of `topic` that are below `below` and written before `before_us`.
pub(crate) async fn delete_below(
    writer: &SqlitePool,
    topic: &str,
    below: i64,
    before_us: i64,
    max: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        // The inner limit keeps the search short when the oldest rows are too young.
        "DELETE FROM bus_log WHERE seq IN (SELECT seq FROM (SELECT seq, at_us FROM bus_log \
         WHERE topic = ? AND seq < ? ORDER BY seq LIMIT ?) WHERE at_us < ?)",
    )
    .bind(topic)
    .bind(below)
    .bind(max)
    .bind(before_us)
    .execute(writer)
    .await?;
    Ok(done.rows_affected())
}
