//! From a table that was the log to a journal that is.

use std::path::Path;

use scope::Tenant;
use store::{SqlitePools, StoreError};

use super::sqlite::{bounds, read_from};
use crate::{AppendError, Journal, Outgoing, Record, header};

/// Rows moved at once.
const AT_ONCE: usize = 500;
const BYTES_AT_ONCE: usize = 8 << 20;

/// Copies the records of a table that holds one topic into a new journal in folder `dir`, at the same offsets; answers the
/// last offset that the table has given out, `None` when it never did. A journal that is there is thrown away: it is from an
/// attempt that was broken off.
pub async fn copy_to_journal(
    pools: &SqlitePools,
    topic: &str,
    dir: &Path,
) -> Result<Option<i64>, StoreError> {
    let bounds = bounds(&pools.writer).await?;
    if bounds.next <= 1 {
        return Ok(None);
    }
    let (dir, first) = (dir.to_owned(), bounds.first);
    let opened = tokio::task::spawn_blocking(move || {
        if dir.exists() {
            std::fs::remove_dir_all(&dir).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        }
        Journal::open(&dir, first - 1)
    });
    let (_, mut appender) = opened.await.map_err(|error| StoreError::Internal(error.to_string()))??;
    let mut from = first;
    loop {
        let rows = read_from(&pools.writer, topic, from, AT_ONCE, BYTES_AT_ONCE).await?;
        let Some(time_us) = rows.last().map(|row| row.time_us) else { return Ok(Some(bounds.next - 1)) };
        if !(from..).zip(&rows).all(|(offset, row)| offset == row.offset) {
            return Err(StoreError::Internal(format!("rows are missing in the log of topic {topic}")));
        }
        let records: Vec<Outgoing> = rows.into_iter().map(outgoing).collect::<Result<_, _>>()?;
        let entries = records.iter().map(|record| (record, [].as_slice()));
        let appended = match appender.append(time_us, entries) {
            Ok(appending) => appending.durable().await,
            Err(error) => Err(error),
        };
        let last = appended.map_err(|error| match error {
            AppendError::NotWritten(error) | AppendError::Unknown(error) => error,
        })?;
        from = last + 1;
    }
}

fn outgoing(record: Record) -> Result<Outgoing, StoreError> {
    let tenant = Tenant::from_header(record.header(header::TENANT))
        .map_err(|_| StoreError::Internal(format!("record {} belongs to no tenant", record.offset)))?;
    let mut headers = record.headers.to_vec();
    headers.retain(|(name, _)| name != header::TENANT);
    Ok(Outgoing { tenant, key: record.key, payload: record.payload, headers })
}
