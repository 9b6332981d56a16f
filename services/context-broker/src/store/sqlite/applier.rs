//! Puts committed changes into the rows, many at once, beside the writer.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use bus::{Journal, outbox};
use sqlx::{Sqlite, Transaction};
use store::{SqlitePools, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    cache::EntityCache,
    overlay::{Changed, Overlay, Taken},
};
use crate::{
    store::{
        Bulk, WakeSlot,
        row::{COLUMNS, encode_measures},
    },
    update::{GroupKey, PlannedRow},
};

/// Changes gather for so long, unless somebody wants to read rows: what changes again meanwhile is written once. The rows are
/// then written over the same time, while the next changes gather.
const GATHER: Duration = Duration::from_secs(2);
/// Ids whose rows are written in one transaction, when nobody waits for them.
const SLICE: usize = 256;
/// Pause between two looks at whether the next slice is due.
const LOOK: Duration = Duration::from_millis(2);
/// Pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

static PUT: LazyLock<Bulk> = LazyLock::new(|| {
    put(", created_us = excluded.created_us, expires_us = excluded.expires_us, cell = excluded.cell")
});

/// Leaves the columns alone that are in the list indexes: SQLite rewrites an index when a column of it is set, also to the
/// value that it has.
static PUT_IN_PLACE: LazyLock<Bulk> = LazyLock::new(|| put(""));

const POSITION: &str = "UPDATE sequence SET value = ? WHERE name = 'journal' AND value = ?";
const VERSION: &str = "UPDATE sequence SET value = ? WHERE name = 'entity_version'";

fn put(also_set: &'static str) -> Bulk {
    Bulk::of_texts(|rows| {
        let values = vec!["(?,?,?,?,?,?,?,?,?,?,?)"; rows].join(",");
        format!(
            "INSERT INTO entity ({COLUMNS}) VALUES {values} \
             ON CONFLICT (tenant, id, path, type) DO UPDATE SET attributes = excluded.attributes, \
             version = excluded.version, modified_us = excluded.modified_us, measures = excluded.measures{also_set}"
        )
    })
}

/// Where events go that are not read from the journal.
pub(super) struct Relayed {
    pub(super) wake: WakeSlot,
}

pub(super) struct Applier {
    pub(super) pools: SqlitePools,
    pub(super) cache: Arc<EntityCache>,
    pub(super) overlay: Arc<Overlay>,
    pub(super) journal: Journal,
    pub(super) relayed: Option<Relayed>,
}

/// How the rows of one turn are spread over time.
struct Pace<'a> {
    begun: Instant,
    stop: &'a CancellationToken,
}

impl Applier {
    /// Until `stop`, and then what is left; what cannot be applied then is, when the file is opened again.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut begun = Instant::now();
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.overlay.filled.notified() => {}
                () = stop.cancelled() => break,
            }
            // An outbox is read by others, who wait for it.
            let at_leisure = self.relayed.is_none()
                && tokio::select! {
                    () = self.overlay.wanted.notified() => false,
                    () = self.overlay.full.notified() => true,
                    () = tokio::time::sleep_until(begun + GATHER) => true,
                    () = stop.cancelled() => false,
                };
            begun = Instant::now();
            // Once: what came meanwhile gathers again.
            while let Err(error) = self.step(at_leisure.then_some(Pace { begun, stop: &stop })).await {
                tracing::warn!(%error, "committed changes are not in the rows yet, it is tried again");
                tokio::select! {
                    () = tokio::time::sleep(AFTER_FAILURE) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
        if let Err(error) = self.apply().await {
            tracing::warn!(%error, "committed changes stay in the journal until the next start");
        }
    }

    /// Writes all that waits.
    pub(super) async fn apply(&self) -> Result<(), StoreError> {
        while self.step(None).await? {}
        Ok(())
    }

    /// Writes what waits now, at once or at some pace; whether there was something.
    async fn step(&self, pace: Option<Pace<'_>>) -> Result<bool, StoreError> {
        let Some(taken) = self.overlay.take() else { return Ok(false) };
        if let Err(error) = self.write(&taken, pace).await {
            self.overlay.failed(&error);
            return Err(error);
        }
        self.overlay.applied(&taken);
        self.journal.set_floor(taken.last + 1);
        // Thousands of entities: whoever runs on this thread should not wait for it.
        drop(tokio::task::spawn_blocking(move || drop(taken)));
        if let Some(relayed) = &self.relayed {
            if let Some(waker) = relayed.wake.get() {
                waker.wake();
            }
            self.journal.forget_below_floor()?;
        }
        Ok(true)
    }

    /// In several transactions when there is time: all at once takes a core and the disk from those who commit to the journal.
    /// The position moves with the last; what the others wrote is written once more, the same, by a start after a kill.
    async fn write(&self, taken: &Taken, mut pace: Option<Pace<'_>>) -> Result<(), StoreError> {
        // In the order of their index: rows that lie beside each other are written once.
        let mut groups: Vec<_> = taken.groups.iter().collect();
        groups.sort_unstable_by_key(|(key, _)| *key);
        let all = groups.len();
        let mut rest = groups.as_slice();
        loop {
            let first = rest.len().min(if pace.is_some() { SLICE } else { usize::MAX });
            let (slice, others) = rest.split_at(first);
            let mut transaction = self.pools.begin().await?;
            self.put(&mut transaction, slice).await?;
            if others.is_empty() {
                self.finish(&mut transaction, taken).await?;
            }
            transaction.commit().await?;
            // The overlay comes first as long as it has them.
            for (key, changed) in slice {
                self.cache.put((*key).clone(), changed.group.clone());
            }
            if others.is_empty() {
                return Ok(());
            }
            rest = others;
            if let Some(Pace { begun, stop }) = &pace
                && self.rest(*begun, stop, (all - rest.len(), all)).await
            {
                pace = None;
            }
        }
    }

    /// Pauses until more than `done` of `all` rows should be written: by the time, or by how much has gathered since. Whether
    /// somebody waits for the rows.
    async fn rest(&self, begun: Instant, stop: &CancellationToken, (done, all): (usize, usize)) -> bool {
        let done = done as f64 / all as f64;
        let passed = || begun.elapsed().as_secs_f64() / GATHER.as_secs_f64();
        while done > passed().max(self.overlay.fill()) {
            tokio::select! {
                () = self.overlay.wanted.notified() => {
                    // What gathers meanwhile may be what is wanted.
                    self.overlay.wanted.notify_one();
                    return true;
                }
                () = stop.cancelled() => return true,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        false
    }

    async fn put(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        groups: &[(&GroupKey, &Changed)],
    ) -> Result<(), StoreError> {
        let mut puts = Vec::with_capacity(groups.len());
        for (key, changed) in groups {
            self.rows(transaction, key, changed, &mut puts).await?;
        }
        let (in_place, others): (Vec<_>, Vec<_>) = puts.into_iter().partition(|row| row.keeps_indexes);
        put_rows(transaction, &PUT_IN_PLACE, &in_place).await?;
        put_rows(transaction, &PUT, &others).await
    }

    /// Moves the position, and hands the events on.
    async fn finish(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        taken: &Taken,
    ) -> Result<(), StoreError> {
        let moved = sqlx::query(POSITION)
            .bind(taken.last)
            .bind(taken.before)
            .execute(&mut **transaction)
            .await?
            .rows_affected();
        if moved == 0 {
            // The answer to a commit got lost that was made all the same.
            return Ok(());
        }
        sqlx::query(VERSION).bind(taken.version).execute(&mut **transaction).await?;
        outbox::append_sqlite(transaction, bus::CONTEXT_CHANGES, &taken.events).await?;
        Ok(())
    }

    /// Deletes rows of one id, and lists those to be put.
    async fn rows(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        key: &GroupKey,
        changed: &Changed,
        puts: &mut Vec<PlannedRow>,
    ) -> Result<(), StoreError> {
        for row in &changed.rows {
            if row.deleted {
                sqlx::query("DELETE FROM entity WHERE tenant = ? AND id = ? AND path = ? AND type = ?")
                    .bind(key.tenant.as_str())
                    .bind(&*key.id)
                    .bind(row.path.as_str())
                    .bind(&*row.entity_type)
                    .execute(&mut **transaction)
                    .await?;
                continue;
            }
            let is_it =
                |entity: &ngsi::EntityText| entity.entity_type == row.entity_type && entity.path == row.path;
            puts.extend(changed.group.iter().find(|stored| is_it(&stored.entity)).map(|stored| PlannedRow {
                key: key.clone(),
                stored: stored.clone(),
                keeps_indexes: row.keeps_indexes,
            }));
        }
        Ok(())
    }
}

async fn put_rows(
    transaction: &mut Transaction<'_, Sqlite>,
    statements: &'static Bulk,
    rows: &[PlannedRow],
) -> Result<(), StoreError> {
    for (statement, chunk) in statements.chunks(rows) {
        let query = chunk.iter().fold(sqlx::query(statement), |query, PlannedRow { key, stored, .. }| {
            let entity = &stored.entity;
            query
                .bind(key.tenant.as_str())
                .bind(&*entity.id)
                .bind(entity.path.as_str())
                .bind(&*entity.entity_type)
                .bind(&*entity.attributes)
                .bind(entity.version)
                .bind(entity.created_us)
                .bind(entity.modified_us)
                .bind(stored.expires_us)
                .bind(encode_measures(&stored.measures))
                .bind(stored.cell)
        });
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}
