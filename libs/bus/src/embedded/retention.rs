//! What the embedded log forgets, and when.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use store::{SqlitePools, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Log,
    source::{Source, aside},
};
use crate::{journal::Forget, outbox};

/// How much of a log is kept. A record that some known group has not read is kept until `hard_bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Read records are kept this long, for whoever wants to look back, milliseconds.
    pub keep_ms: u64,
    /// Beyond this size (estimated), read records go at once.
    pub soft_bytes: u64,
    /// Beyond this size the oldest records go even if a group has not read them: loudly, and counted. The disk of a
    /// device must not fill up because a consumer was switched off for ever.
    pub hard_bytes: u64,
    /// A group that was not seen for this long no longer holds records back, milliseconds.
    pub forget_group_ms: u64,
    /// Pause between sweeps, milliseconds.
    pub every_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep_ms: 3_600_000,
            soft_bytes: 256 << 20,
            hard_bytes: 16 << 30,
            forget_group_ms: 7 * 86_400_000,
            every_ms: 500,
        }
    }
}

/// Rows deleted by one statement: short enough not to be noticed by the writer.
const CHUNK: i64 = 250;
/// After a statement the writer belongs to others for this many times as long as that took.
const PAUSE: u32 = 4;

/// A group that is stored at least this often counts as seen.
const STORE_EVERY: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Group {
    /// Offset of the next record it reads.
    next: i64,
    /// Whether it reads in this process; a group known only from the table may be forgotten.
    live: bool,
}

/// The groups that read a log.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_name: BTreeMap<String, Group>,
    /// Changed since they were stored.
    dirty: bool,
}

impl Groups {
    pub(super) async fn load(pools: &SqlitePools, topic: &str) -> Result<Self, StoreError> {
        let stored: Vec<(String, i64)> = sqlx::query_as("SELECT name, next FROM bus_group WHERE topic = ?")
            .bind(topic)
            .fetch_all(&pools.reader)
            .await?;
        let by_name = stored.into_iter().map(|(name, next)| (name, Group { next, live: false })).collect();
        Ok(Self { by_name, dirty: true })
    }

    pub(super) fn moved(&mut self, group: &str, next: i64) {
        if group.starts_with(crate::OF_THE_MOMENT) {
            return;
        }
        self.dirty = true;
        match self.by_name.get_mut(group) {
            Some(known) => *known = Group { next, live: true },
            None => drop(self.by_name.insert(group.to_owned(), Group { next, live: true })),
        }
    }

    pub(super) fn position(&self, group: &str) -> Option<i64> {
        self.by_name.get(group).map(|group| group.next)
    }

    /// Everything below it was read by all groups. Without any group nothing counts as read.
    fn read_by_all(&self) -> i64 {
        self.by_name.values().map(|group| group.next).min().unwrap_or(0)
    }

    fn positions(&self) -> Vec<(String, i64)> {
        self.by_name.iter().map(|(name, group)| (name.clone(), group.next)).collect()
    }

    /// The live groups, to be stored; `None` when nothing changed.
    fn take_changes(&mut self) -> Option<Vec<(String, i64)>> {
        let live = self.by_name.iter().filter(|(_, group)| group.live);
        std::mem::take(&mut self.dirty)
            .then(|| live.map(|(name, group)| (name.clone(), group.next)).collect())
    }
}

/// Deletes what the retention no longer keeps, until stopped.
pub(super) async fn sweep(log: &Log, retention: &Retention, lost: &AtomicU64, stop: &CancellationToken) {
    let mut pause = tokio::time::interval(Duration::from_millis(retention.every_ms.max(1)));
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stored = Instant::now();
    loop {
        tokio::select! {
            _ = pause.tick() => {}
            () = stop.cancelled() => return,
        }
        if stored.elapsed() > STORE_EVERY {
            stored = Instant::now();
            log.groups.lock().dirty = true;
        }
        if let Err(error) = sweep_once(log, retention, lost, stop).await {
            tracing::warn!(topic = log.topic, %error, "log not swept");
        }
    }
}

async fn sweep_once(
    log: &Log,
    retention: &Retention,
    lost: &AtomicU64,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    store_groups(log, retention).await?;
    let now_us: i64 = sqlx::query_scalar("SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)")
        .fetch_one(&log.source.pools().reader)
        .await?;
    let read_by_all = log.groups.lock().read_by_all();
    let pools = match &log.source {
        Source::Table(pools) => pools,
        Source::Journal(journal, _) => {
            let what = Forget {
                read: read_by_all,
                before_us: now_us.saturating_sub(micros(retention.keep_ms)),
                soft_bytes: retention.soft_bytes,
                hard_bytes: retention.hard_bytes,
            };
            let journal = journal.clone();
            let gone = aside(move || journal.forget(what)).await?;
            if gone > 0 {
                lost.fetch_add(gone, Ordering::Relaxed);
                tell_lost(log, gone);
            }
            return Ok(());
        }
    };
    delete(log, read_by_all, now_us.saturating_sub(micros(retention.keep_ms)), stop).await?;

    let bounds = outbox::bounds(&pools.reader).await?;
    let fits = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX) / bounds.row_bytes.max(1);
    delete(log, read_by_all.min(bounds.next - fits(retention.soft_bytes)), i64::MAX, stop).await?;

    // The span of offsets tells cheaply that all is well; other topics in the file make it larger than the log is.
    let most = fits(retention.hard_bytes);
    if bounds.next - bounds.first > most {
        let count = outbox::count_from(&pools.reader, &log.topic, 0).await?;
        let excess = count.saturating_sub(most.unsigned_abs());
        if excess > 0 {
            delete_excess(log, excess, lost, stop).await?;
        }
    }
    Ok(())
}

fn micros(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1000)
}

async fn delete_excess(
    log: &Log,
    excess: u64,
    lost: &AtomicU64,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let mut left = excess;
    while left > 0 && !stop.is_cancelled() {
        let chunk = CHUNK.min(i64::try_from(left).unwrap_or(CHUNK));
        let (deleted, _) = delete_some(log, i64::MAX, i64::MAX, chunk).await?;
        lost.fetch_add(deleted, Ordering::Relaxed);
        if deleted == 0 {
            break;
        }
        left -= deleted.min(left);
    }
    tell_lost(log, excess - left);
    Ok(())
}

fn tell_lost(log: &Log, deleted: u64) {
    let groups: Vec<(String, i64)> = log.groups.lock().positions();
    tracing::error!(
        topic = log.topic,
        deleted,
        ?groups,
        "log is beyond its hard limit: records deleted that a group has not read"
    );
}

/// Deletes rows in short statements with pauses between them, so that the writer is never held up for long.
async fn delete(log: &Log, below: i64, before_us: i64, stop: &CancellationToken) -> Result<(), StoreError> {
    if below <= 0 {
        return Ok(());
    }
    loop {
        let started = Instant::now();
        let (_, more) = delete_some(log, below, before_us, CHUNK).await?;
        if !more {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(started.elapsed() * PAUSE) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// How many were deleted, and whether there may be more. Looked for by a reader, so that the writer only deletes.
async fn delete_some(log: &Log, below: i64, before_us: i64, max: i64) -> Result<(u64, bool), StoreError> {
    let found = outbox::oldest(&log.source.pools().reader, &log.topic, below, before_us, max).await?;
    if found.below == 0 {
        return Ok((0, false));
    }
    let deleted = outbox::delete_below(&log.source.pools().writer, &log.topic, found.below).await?;
    Ok((deleted, found.all && deleted >= max.unsigned_abs()))
}

/// Remembers the groups, so that records wait also for a group whose reader has not been started yet.
async fn store_groups(log: &Log, retention: &Retention) -> Result<(), StoreError> {
    let Some(next) = log.groups.lock().take_changes() else { return Ok(()) };
    sqlx::query(
        "INSERT INTO bus_group (topic, name, next, seen_us) \
         SELECT ?1, value ->> 0, value ->> 1, CAST(unixepoch('subsec') * 1000000 AS INTEGER) FROM json_each(?2) WHERE true \
         ON CONFLICT DO UPDATE SET next = excluded.next, seen_us = excluded.seen_us",
    )
    .bind(&log.topic)
    .bind(serde_json::to_string(&next).unwrap_or_default())
    .execute(&log.source.pools().writer)
    .await?;
    let forgotten: Vec<String> = sqlx::query_scalar(
        "DELETE FROM bus_group WHERE topic = ? AND seen_us < CAST(unixepoch('subsec') * 1000000 AS INTEGER) - ? \
         RETURNING name",
    )
    .bind(&log.topic)
    .bind(micros(retention.forget_group_ms))
    .fetch_all(&log.source.pools().writer)
    .await?;
    let mut groups = log.groups.lock();
    for name in forgotten {
        tracing::warn!(
            topic = log.topic,
            group = name,
            "group not seen for long: records no longer wait for it"
        );
        groups.by_name.remove(&name);
    }
    Ok(())
}
