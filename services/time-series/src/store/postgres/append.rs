//! Appends: many requests in one transaction, a handful of statements for all their rows.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::PgPool;
use store::{GroupCommitError, StoreError, group_commit::BatchExecutor, position};

use super::{
    super::again,
    cells,
    dictionary::{Dictionary, Resolved},
};
use crate::{
    ingest::cast,
    metrics::Metrics,
    row::{Position, Row},
    store::Appended,
};

/// How often a transaction that met another is repeated.
const ATTEMPTS: u32 = 8;

pub(super) struct Append {
    pub(super) rows: Vec<Row>,
    pub(super) position: Option<Position>,
}

/// A failure, or the group commit's own.
pub(super) struct AppendError(pub(super) StoreError);

impl From<GroupCommitError> for AppendError {
    fn from(error: GroupCommitError) -> Self {
        Self(StoreError::Unavailable(error.to_string()))
    }
}

pub(super) struct Appender {
    pub(super) pool: PgPool,
    pub(super) dictionary: Dictionary,
    pub(super) metrics: Arc<Metrics>,
}

/// The columns of the rows to insert, and which request each came from.
#[derive(Default)]
struct Columns {
    request: Vec<i32>,
    series: Vec<i64>,
    types: Vec<i64>,
    times: Vec<i64>,
    versions: Vec<Option<i64>>,
    cells: Vec<String>,
}

#[async_trait]
impl BatchExecutor for Appender {
    type Request = Append;
    type Response = Appended;
    type Error = AppendError;

    async fn execute(&self, batch: Vec<Append>) -> Vec<Result<Appended, AppendError>> {
        let mut attempt = 1;
        loop {
            match self.try_append(&batch).await {
                Ok(outcomes) => return outcomes.into_iter().map(Ok).collect(),
                Err(StoreError::Retry(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => {
                    tracing::warn!(%error, requests = batch.len(), "rows were not stored");
                    return batch.iter().map(|_| Err(AppendError(again(&error)))).collect();
                }
            }
        }
    }
}

impl Appender {
    async fn try_append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for append in batch {
            let moved = match &append.position {
                None => false,
                Some(at) => {
                    let connection = &mut *transaction;
                    !position::advance_postgres(connection, &at.topic, at.partition, at.expected, at.next)
                        .await?
                }
            };
            outcomes.push(if moved {
                Appended::Moved
            } else {
                Appended::Stored { rows: 0, repeated: 0, nulled: 0 }
            });
        }
        let requests =
            batch.iter().zip(&outcomes).zip(0..).filter(|((_, outcome), _)| **outcome != Appended::Moved);
        let rows: Vec<(i32, &Row)> =
            requests.flat_map(|((append, _), no)| append.rows.iter().map(move |row| (no, row))).collect();
        if !rows.is_empty() {
            let plain: Vec<&Row> = rows.iter().map(|(_, row)| *row).collect();
            let resolved = self.dictionary.resolve(&mut transaction, &plain).await?;
            let columns = columns(&rows, &resolved, &mut outcomes)?;
            self.insert(&mut transaction, &columns, &mut outcomes).await?;
            transaction.commit().await?;
            self.dictionary.keep(resolved);
        } else {
            transaction.commit().await?;
        }
        Ok(outcomes)
    }

    async fn insert(
        &self,
        connection: &mut sqlx::PgConnection,
        columns: &Columns,
        outcomes: &mut [Appended],
    ) -> Result<(), StoreError> {
        // `arrival` is drawn row by row in the order of the arrays. What conflicts was stored before.
        let stored: Vec<(i64, i64, Option<i64>)> = sqlx::query_as(
            "INSERT INTO history_row (series, type, time_us, version, arrival, cells) \
             SELECT s, t, at, v, nextval('arrival'), c::jsonb \
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) k(s, t, at, v, c) \
             ON CONFLICT DO NOTHING RETURNING series, time_us, version",
        )
        .bind(&columns.series)
        .bind(&columns.types)
        .bind(&columns.times)
        .bind(&columns.versions)
        .bind(&columns.cells)
        .fetch_all(connection)
        .await?;
        self.metrics.rows.inc_by(stored.len() as u64);
        let mut left: std::collections::HashMap<(i64, i64, Option<i64>), u64> =
            std::collections::HashMap::new();
        for key in stored {
            *left.entry(key).or_default() += 1;
        }
        for (no, request) in columns.request.iter().enumerate() {
            let key = (columns.series[no], columns.times[no], columns.versions[no]);
            let is_new = left.get_mut(&key).filter(|left| **left > 0).map(|left| *left -= 1).is_some();
            let outcome = usize::try_from(*request).ok().and_then(|request| outcomes.get_mut(request));
            if let Some(Appended::Stored { rows, repeated, .. }) = outcome {
                if is_new {
                    *rows += 1;
                } else {
                    *repeated += 1;
                }
            }
        }
        Ok(())
    }
}

fn columns(
    rows: &[(i32, &Row)],
    resolved: &Resolved,
    outcomes: &mut [Appended],
) -> Result<Columns, StoreError> {
    let lost = || StoreError::Retry("a series vanished".into());
    let mut columns = Columns::default();
    for (request, row) in rows {
        let type_id = resolved.type_id(row).ok_or_else(lost)?;
        let series = resolved.series(type_id, row).ok_or_else(lost)?;
        let mut not_fitting = 0;
        let found = row.attributes.iter().filter_map(|attribute| {
            let (id, kind) = resolved.attribute(type_id, &attribute.name)?;
            let cell = cast(kind, &attribute.value);
            if cell.is_null() && !attribute.value.is_null() && attribute.value != "" {
                not_fitting += 1;
            }
            Some((id, cell))
        });
        columns.cells.push(cells::encode(found));
        columns.request.push(*request);
        columns.series.push(series);
        columns.types.push(type_id);
        columns.times.push(row.time_us);
        columns.versions.push(row.version);
        let outcome = usize::try_from(*request).ok().and_then(|request| outcomes.get_mut(request));
        if let Some(Appended::Stored { nulled, .. }) = outcome {
            *nulled += not_fitting;
        }
    }
    Ok(columns)
}
