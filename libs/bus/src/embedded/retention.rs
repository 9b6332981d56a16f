//! What the embedded log forgets, and when.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use store::{SqlitePools, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Log;
use crate::outbox;

/// How much of a log is kept. A record that some known group has not read is kept until `hard_bytes`.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Read records are kept this long, for whoever wants to look back.
    pub keep: Duration,
    /// Beyond this size (estimated), read records go at once.
    pub soft_bytes: u64,
    /// Beyond this size the oldest records go even if a group has not read them: loudly, and counted. The disk of a
    /// device must not fill up because a consumer was switched off for ever.
    pub hard_bytes: u64,
    /// A group that was not seen for this long no longer holds records back.
    pub forget_group: Duration,
    /// Pause between sweeps.
    pub every: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(3600),
            soft_bytes: 256 << 20,
            hard_bytes: 16 << 30,
            forget_group: Duration::from_secs(7 * 86_400),
            every: Duration::from_secs(2),
        }
    }
}

/// Rows deleted by one statement: short enough not to be noticed by the writer.
const CHUNK: i64 = 1000;

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

    /// The live groups, to be stored; `None` when nothing changed.
    fn take_changes(&mut self) -> Option<Vec<(String, i64)>> {
        let live = self.by_name.iter().filter(|(_, group)| group.live);
        std::mem::take(&mut self.dirty)
            .then(|| live.map(|(name, group)| (name.clone(), group.next)).collect())
    }
}

/// Deletes what the retention no longer keeps, until stopped.
pub(super) async fn sweep(log: &Log, retention: &Retention, lost: &AtomicU64, stop: &CancellationToken) {
    let mut pause = tokio::time::interval(retention.every);
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
        .fetch_one(&log.pools.reader)
        .await?;
    let keep_us = i64::try_from(retention.keep.as_micros()).unwrap_or(i64::MAX);
    let read_by_all = log.groups.lock().read_by_all();
    delete(log, read_by_all, now_us.saturating_sub(keep_us), stop).await?;

    let bounds = outbox::bounds(&log.pools.reader).await?;
    let fits = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX) / bounds.row_bytes.max(1);
    delete(log, read_by_all.min(bounds.next - fits(retention.soft_bytes)), i64::MAX, stop).await?;

    let below = bounds.next - fits(retention.hard_bytes);
    if below > bounds.first.max(read_by_all) {
        let deleted = delete(log, below, i64::MAX, stop).await?;
        lost.fetch_add(deleted, Ordering::Relaxed);
        tracing::error!(
            topic = log.topic, deleted, groups = ?log.groups.lock().by_name,
            "log is beyond its hard limit: records deleted that a group has not read"
        );
    }
    Ok(())
}

async fn delete(log: &Log, below: i64, before_us: i64, stop: &CancellationToken) -> Result<u64, StoreError> {
    let mut total = 0;
    while below > 0 && !stop.is_cancelled() {
        let deleted = outbox::delete_below(&log.pools.writer, &log.topic, below, before_us, CHUNK).await?;
        total += deleted;
        if deleted < CHUNK.unsigned_abs() {
            break;
        }
    }
    Ok(total)
}

/// Remembers the groups, so that records wait also for a group whose reader has not been started yet.
async fn store_groups(log: &Log, retention: &Retention) -> Result<(), StoreError> {
    let Some(next) = log.groups.lock().take_changes() else { return Ok(()) };
    let forget_us = i64::try_from(retention.forget_group.as_micros()).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO bus_group (topic, name, next, seen_us) \
         SELECT ?1, value ->> 0, value ->> 1, CAST(unixepoch('subsec') * 1000000 AS INTEGER) FROM json_each(?2) WHERE true \
         ON CONFLICT DO UPDATE SET next = excluded.next, seen_us = excluded.seen_us",
    )
    .bind(&log.topic)
    .bind(serde_json::to_string(&next).unwrap_or_default())
    .execute(&log.pools.writer)
    .await?;
    let forgotten: Vec<String> = sqlx::query_scalar(
        "DELETE FROM bus_group WHERE topic = ? AND seen_us < CAST(unixepoch('subsec') * 1000000 AS INTEGER) - ? \
         RETURNING name",
    )
    .bind(&log.topic)
    .bind(forget_us)
    .fetch_all(&log.pools.writer)
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
