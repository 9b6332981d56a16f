//! The one writer: takes jobs from a queue, many appends in one transaction, and seals heads when they are full or when
//! heads or log take too much.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use store::{StoreError, position};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Options,
    head::Head,
    live::Shared,
    load::Tail,
    stage::{Counts, Stage, Staged},
};
use crate::{
    row::{Position, Row},
    store::Appended,
};

/// Rows in one transaction, at most (unless one request has more).
const GROUP_ROWS: usize = 20_000;
/// Heads sealed in one transaction, so that appends are not kept waiting.
const SEAL_AT_ONCE: usize = 64;
const BULK: usize = 1_000;
/// Once the service stops: how long requests in flight may still come with rows.
const LAST_CALL: Duration = Duration::from_millis(150);

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Arc<StoreError>>>;

pub(crate) enum Job {
    Append {
        rows: Vec<Row>,
        position: Option<Position>,
        reply: Reply<Appended>,
    },
    Remove {
        removal: super::remove::Removal,
        reply: Reply<u64>,
    },
    /// Seals everything: for tests and measurements.
    Seal {
        reply: Reply<()>,
    },
}

pub(crate) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) options: Options,
    pub(super) tail: Tail,
    /// Heads that have the rows of a chunk.
    pub(super) full: BTreeSet<usize>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) stop: CancellationToken,
}

struct Append {
    rows: Vec<Row>,
    position: Option<Position>,
    reply: Reply<Appended>,
}

impl Writer {
    /// Works until all senders are gone, or the service stops and no job comes any more.
    pub(crate) async fn run(mut self) {
        self.work().await;
        self.jobs.close();
        while let Some(job) = self.jobs.recv().await {
            // Whoever asked is told that the outcome is not known; nothing was done.
            drop(job);
        }
        self.shared.pools.close().await;
    }

    /// The next job; `None` when there will be none.
    async fn next(&mut self) -> Option<Job> {
        tokio::select! {
            biased;
            job = self.jobs.recv() => job,
            () = async {
                self.stop.cancelled().await;
                tokio::time::sleep(LAST_CALL).await;
            } => None,
        }
    }

    async fn work(&mut self) {
        let mut waiting: Option<Job> = None;
        loop {
            let job = match waiting.take() {
                Some(job) => Some(job),
                // Between bursts there is time to seal.
                None => match self.jobs.try_recv() {
                    Ok(job) => Some(job),
                    Err(mpsc::error::TryRecvError::Empty) if self.wants_sealing() => None,
                    Err(_) => match self.next().await {
                        Some(job) => Some(job),
                        None => return,
                    },
                },
            };
            match job {
                Some(Job::Append { rows, position, reply }) => {
                    let (group, next) = self.gather(Append { rows, position, reply });
                    waiting = next;
                    self.append(group).await;
                }
                Some(Job::Remove { removal, reply }) => {
                    let removed = self.remove(&removal).await.map_err(|error| self.named(error));
                    drop(reply.send(removed));
                }
                Some(Job::Seal { reply }) => {
                    let sealed = self.seal_everything().await.map_err(|error| self.named(error));
                    drop(reply.send(sealed));
                }
                None => {}
            }
            if self.wants_sealing()
                && let Err(error) = self.seal_some().await
            {
                // The rows are durable in the log; it is tried again with the next append.
                tracing::warn!(%error, "sealing failed");
                self.shared.metrics.seal_failures.inc();
                self.full.clear();
                if waiting.is_none() {
                    waiting = self.next().await;
                    if waiting.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// The file's name belongs into an error about the file.
    pub(super) fn named(&self, error: StoreError) -> Arc<StoreError> {
        let file = self.shared.file.display().to_string();
        Arc::new(match error {
            StoreError::Corrupt { reason, .. } => StoreError::Corrupt { file, reason },
            StoreError::Full(text) => StoreError::Full(format!("{file}: {text}")),
            other => other,
        })
    }

    fn gather(&mut self, first: Append) -> (Vec<Append>, Option<Job>) {
        let mut rows = first.rows.len();
        let mut group = vec![first];
        while rows < GROUP_ROWS {
            match self.jobs.try_recv() {
                Ok(Job::Append { rows: more, position, reply }) => {
                    rows += more.len();
                    group.push(Append { rows: more, position, reply });
                }
                Ok(other) => return (group, Some(other)),
                Err(_) => break,
            }
        }
        (group, None)
    }

    /// Stores a group in one transaction and answers each of its requests.
    async fn append(&mut self, group: Vec<Append>) {
        self.shared.metrics.group_requests.observe(u32::try_from(group.len()).map_or(f64::MAX, f64::from));
        match self.try_append(&group).await {
            Ok(outcomes) => {
                for (append, outcome) in group.into_iter().zip(outcomes) {
                    drop(append.reply.send(Ok(outcome)));
                }
            }
            Err(error) => {
                let error = self.named(error);
                tracing::warn!(%error, requests = group.len(), "rows were not stored");
                for append in group {
                    drop(append.reply.send(Err(error.clone())));
                }
            }
        }
    }

    async fn try_append(&mut self, group: &[Append]) -> Result<Vec<Appended>, StoreError> {
        let mut transaction = self.shared.pools.begin().await?;
        let mut moved = Vec::with_capacity(group.len());
        for append in group {
            moved.push(match &append.position {
                None => false,
                Some(at) => {
                    !position::advance_sqlite(&mut transaction, &at.topic, at.partition, at.expected, at.next)
                        .await?
                }
            });
        }
        let (staged, outcomes) = self.stage(group, &moved);
        let batch = self.tail.next_batch;
        self.write_staged(&mut transaction, &staged).await?;
        let body = staged.log_body();
        if let Some(body) = &body {
            sqlx::query("INSERT INTO log (batch, body) VALUES (?, ?)")
                .bind(batch)
                .bind(body.as_slice())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        if let Some(body) = body {
            self.tail.next_batch += 1;
            self.tail.log.push_back((batch, body.len()));
            self.tail.log_bytes += body.len();
        }
        self.publish(staged, batch);
        Ok(outcomes)
    }

    fn stage(&self, group: &[Append], moved: &[bool]) -> (Staged, Vec<Appended>) {
        let live = self.shared.live.read();
        let mut stage = Stage::new(&live.catalog);
        let outcomes = group.iter().zip(moved).map(|(append, moved)| {
            if *moved {
                return Appended::Moved;
            }
            let mut counts = Counts::default();
            for row in &append.rows {
                stage.add(row, &mut counts);
            }
            let Counts { stored, repeated, nulled } = counts;
            Appended::Stored { rows: stored, repeated, nulled }
        });
        let outcomes = outcomes.collect();
        (stage.finish(), outcomes)
    }

    async fn write_staged(
        &self,
        connection: &mut SqliteConnection,
        staged: &Staged,
    ) -> Result<(), StoreError> {
        let (types, series) = {
            let live = self.shared.live.read();
            (id_of(live.catalog.types.len()), id_of(live.catalog.series.len()))
        };
        for (some, first) in staged.types.chunks(BULK).zip((types..).step_by(BULK)) {
            let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO entity_type (id, tenant, folded, name) ");
            sql.push_values(some.iter().zip(first..), |mut row, ((tenant, folded, name), id)| {
                row.push_bind(id).push_bind(tenant.as_str()).push_bind(folded).push_bind(name);
            });
            sql.build().execute(&mut *connection).await?;
        }
        for some in staged.attributes.chunks(BULK) {
            let mut sql =
                QueryBuilder::<Sqlite>::new("INSERT INTO attribute (id, type, name, kind, declared) ");
            sql.push_values(some, |mut row, (type_no, info)| {
                row.push_bind(info.id).push_bind(id_of(*type_no)).push_bind(&info.name);
                row.push_bind(info.kind.code()).push_bind(&info.declared);
            });
            sql.build().execute(&mut *connection).await?;
        }
        for (some, first) in staged.series.chunks(BULK).zip((series..).step_by(BULK)) {
            let mut sql = QueryBuilder::<Sqlite>::new(
                "INSERT INTO series (id, type, path, entity, version, sealed_batch) ",
            );
            sql.push_values(some.iter().zip(first..), |mut row, ((type_no, path, entity), id)| {
                row.push_bind(id).push_bind(id_of(*type_no)).push_bind(path.as_str()).push_bind(&**entity);
                row.push_bind(i64::MIN).push_bind(0_i64);
            });
            sql.build().execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Makes what was committed visible.
    fn publish(&mut self, staged: Staged, batch: i64) {
        let chunk_rows = self.chunk_rows();
        let mut live = self.shared.live.write();
        let live = &mut *live;
        for (tenant, folded, name) in &staged.types {
            live.catalog.add_type(tenant.clone(), folded.clone(), name.clone());
        }
        for (type_no, info) in &staged.attributes {
            live.catalog.add_attribute(*type_no, info.clone());
        }
        for (type_no, path, entity) in &staged.series {
            live.catalog.add_series(*type_no, path.clone(), entity.clone());
        }
        for row in &staged.rows {
            let series = &mut live.catalog.series[row.series];
            series.version = series.version.max(row.version.unwrap_or(i64::MIN));
            series.newest_us = series.newest_us.max(row.at_us);
            if series.head.is_none() {
                self.tail.open.insert((batch, row.series));
            }
            let head = Arc::make_mut(series.head.get_or_insert_with(|| Arc::new(Head::new(batch))));
            live.head_bytes += head.push(row.at_us, staged.cells(row));
            if head.rows as usize >= chunk_rows {
                self.full.insert(row.series);
            }
        }
        let metrics = &self.shared.metrics;
        metrics.rows.inc_by(staged.rows.len() as u64);
        metrics.head_bytes.set(i64::try_from(live.head_bytes).unwrap_or(i64::MAX));
        metrics.series.set(i64::try_from(live.catalog.series.len()).unwrap_or(i64::MAX));
        metrics.log_bytes.set(i64::try_from(self.tail.log_bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn chunk_rows(&self) -> usize {
        self.options.chunk_rows.max(1)
    }

    fn over_budget(&self) -> bool {
        self.tail.log_bytes > self.options.log_bytes
            || self.shared.live.read().head_bytes > self.options.head_bytes
    }

    fn wants_sealing(&self) -> bool {
        !self.full.is_empty() || (!self.tail.open.is_empty() && self.over_budget())
    }

    /// Full heads first; over the budget, also those that hold on to the oldest part of the log.
    async fn seal_some(&mut self) -> Result<(), StoreError> {
        let mut series: BTreeSet<usize> = self.full.iter().copied().take(SEAL_AT_ONCE).collect();
        if self.over_budget() {
            series.extend(self.tail.open.iter().map(|(_, series)| *series).take(SEAL_AT_ONCE));
        }
        self.seal(&series).await
    }

    async fn seal_everything(&mut self) -> Result<(), StoreError> {
        while !self.tail.open.is_empty() {
            let series = self.tail.open.iter().map(|(_, series)| *series).take(SEAL_AT_ONCE).collect();
            self.seal(&series).await?;
        }
        Ok(())
    }
}

/// The id under which the file holds the type or series at this place of the catalogue.
pub(crate) fn id_of(no: usize) -> i64 {
    i64::try_from(no).unwrap_or(i64::MAX - 1) + 1
}
