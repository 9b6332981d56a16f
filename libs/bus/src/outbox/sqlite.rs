use std::sync::LazyLock;

use futures::TryStreamExt;
use sqlx::{Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use store::StoreError;

use super::{headers_of, headers_text};
use crate::{Outgoing, Record};

/// Rows of the largest statement. Each number up to it has its own, so that they stay prepared.
const MOST_ROWS: usize = 64;

/// Appends `records` in the caller's transaction; answers the offset of the last one (0 when there is none).
pub async fn append_sqlite(
    connection: &mut SqliteConnection,
    topic: &str,
    records: &[Outgoing],
) -> Result<i64, StoreError> {
    static STATEMENTS: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| (1..=MOST_ROWS).map(|rows| &*append_statement(rows).leak()).collect());
    let mut last = 0;
    for chunk in records.chunks(MOST_ROWS) {
        let Some(statement) = STATEMENTS.get(chunk.len() - 1) else { continue };
        let query = chunk.iter().fold(sqlx::query(*statement), |query, record| {
            query
                .bind(topic)
                .bind(record.tenant.as_str())
                .bind(&*record.key)
                .bind(&*record.payload)
                .bind(headers_text(record))
        });
        last = query.execute(&mut *connection).await?.last_insert_rowid();
    }
    Ok(last)
}

fn append_statement(rows: usize) -> String {
    let values = vec!["(?,?,?,?,?)"; rows].join(",");
    format!("INSERT INTO bus_log (topic, tenant, key, payload, headers) VALUES {values}")
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
        headers: headers_of(row.try_get(1)?, row.try_get(4)?).into(),
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

/// The offset below which up to `max` of the oldest rows of `topic` lie that are below `below` and were written before
/// `before_us`, and how many they are.
pub(crate) async fn oldest(
    reader: &SqlitePool,
    topic: &str,
    below: i64,
    before_us: i64,
    max: i64,
) -> Result<Oldest, StoreError> {
    // From the first row that is too young on, all stay.
    let (last, young): (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT max(seq), min(CASE WHEN at_us >= ? THEN seq END) FROM \
         (SELECT seq, at_us FROM bus_log WHERE topic = ? AND seq < ? ORDER BY seq LIMIT ?)",
    )
    .bind(before_us)
    .bind(topic)
    .bind(below)
    .bind(max)
    .fetch_one(reader)
    .await?;
    Ok(Oldest { below: young.or(last.map(|last| last + 1)).unwrap_or(0), all: young.is_none() })
}

/// What [`oldest`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oldest {
    pub(crate) below: i64,
    /// None was left out for its age: there may be more.
    pub(crate) all: bool,
}

/// Deletes the rows of `topic` below an offset; how many.
pub(crate) async fn delete_below(writer: &SqlitePool, topic: &str, below: i64) -> Result<u64, StoreError> {
    let done = sqlx::query("DELETE FROM bus_log WHERE seq < ? AND topic = ?")
        .bind(below)
        .bind(topic)
        .execute(writer)
        .await?;
    Ok(done.rows_affected())
}
