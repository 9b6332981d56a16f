//! Puts committed changes into the rows, many at once, beside the writer.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use bus::{Journal, outbox};
use sqlx::{Sqlite, Transaction};
use store::{SqlitePools, StoreError};
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

/// Changes gather for so long, unless somebody wants to read rows: what changes again meanwhile is written once.
const GATHER: Duration = Duration::from_secs(1);
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

impl Applier {
    /// Until `stop`, and then what is left; what cannot be applied then is, when the file is opened again.
    pub(super) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.overlay.filled.notified() => {}
                () = stop.cancelled() => break,
            }
            // An outbox is read by others, who wait for it.
            if self.relayed.is_none() {
                tokio::select! {
                    () = self.overlay.wanted.notified() => {}
                    () = tokio::time::sleep(GATHER) => {}
                    () = stop.cancelled() => {}
                }
            }
            // Once: what came meanwhile gathers again.
            while let Err(error) = self.step().await {
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
        while self.step().await? {}
        Ok(())
    }

    /// Writes what waits now; whether there was something.
    async fn step(&self) -> Result<bool, StoreError> {
        let Some(taken) = self.overlay.take() else { return Ok(false) };
        if let Err(error) = self.write(&taken).await {
            self.overlay.failed(&error);
            return Err(error);
        }
        for (key, changed) in &taken.groups {
            self.cache.put(key.clone(), changed.group.clone());
        }
        self.overlay.applied(&taken);
        self.journal.set_floor(taken.last + 1);
        if let Some(relayed) = &self.relayed {
            if let Some(waker) = relayed.wake.get() {
                waker.wake();
            }
            self.journal.forget_below_floor()?;
        }
        Ok(true)
    }

    async fn write(&self, taken: &Taken) -> Result<(), StoreError> {
        let mut transaction = self.pools.begin().await?;
        let moved = sqlx::query(POSITION)
            .bind(taken.last)
            .bind(taken.before)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if moved == 0 {
            // The answer to a commit got lost that was made all the same.
            return Ok(());
        }
        sqlx::query(VERSION).bind(taken.version).execute(&mut *transaction).await?;
        let mut puts = Vec::with_capacity(taken.groups.len());
        for (key, changed) in &taken.groups {
            self.rows(&mut transaction, key, changed, &mut puts).await?;
        }
        let (in_place, others): (Vec<_>, Vec<_>) = puts.into_iter().partition(|row| row.keeps_indexes);
        put_rows(&mut transaction, &PUT_IN_PLACE, &in_place).await?;
        put_rows(&mut transaction, &PUT, &others).await?;
        outbox::append_sqlite(&mut transaction, bus::CONTEXT_CHANGES, &taken.events).await?;
        Ok(transaction.commit().await?)
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
                tenant: key.tenant.clone(),
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
        let query = chunk.iter().fold(sqlx::query(statement), |query, PlannedRow { tenant, stored, .. }| {
            let entity = &stored.entity;
            query
                .bind(tenant.as_str())
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
