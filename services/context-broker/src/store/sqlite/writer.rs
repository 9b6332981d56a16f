//! The one writer: takes a batch of operations, commits it, and keeps what it committed in the cache.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use bus::outbox;
use parking_lot::Mutex;
use scope::Tenant;
use service_kit::Clock;
use sqlx::{Sqlite, Transaction};
use store::{SqlitePools, StoreError, group_commit::BatchExecutor};

use super::{
    Epochs,
    cache::EntityCache,
    packed::{column, unpack},
};
use crate::{
    error::WriteError,
    store::{
        Bulk, WakeSlot,
        row::{COLUMNS, encode_measures},
    },
    update::{Applied, Batch, GroupKey, Limits, Plan, PlannedRow, Slot, Write},
};

/// The rows of some ids.
pub(super) static LOAD: LazyLock<Bulk> = LazyLock::new(|| {
    let column = column("e.");
    Bulk::new(
        "WITH k(t, i) AS (VALUES ",
        "(?,?)",
        &format!(") SELECT {column} FROM k CROSS JOIN entity e ON e.tenant = k.t AND e.id = k.i"),
    )
});

static PUT: LazyLock<Bulk> = LazyLock::new(|| {
    put(", created_us = excluded.created_us, expires_us = excluded.expires_us, cell = excluded.cell")
});

/// Leaves the columns alone that are in the list indexes: SQLite rewrites an index when a column of it is set, also to the
/// value that it has.
static PUT_IN_PLACE: LazyLock<Bulk> = LazyLock::new(|| put(""));

/// All statements of the usual batch, which changes each of its entities once, in place: rows, their events, the sequence.
static WHOLE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::of_texts(|rows| {
        format!("{};{};{SEQUENCE}", put_statement(rows, ""), outbox::append_statement(rows))
    })
});

const SEQUENCE: &str = "UPDATE sequence SET value = ? WHERE name = 'entity_version'";

fn put(also_set: &'static str) -> Bulk {
    Bulk::of_texts(|rows| put_statement(rows, also_set))
}

fn put_statement(rows: usize, also_set: &str) -> String {
    let values = vec!["(?,?,?,?,?,?,?,?,?,?,?)"; rows].join(",");
    format!(
        "INSERT INTO entity ({COLUMNS}) VALUES {values} \
         ON CONFLICT (tenant, id, path, type) DO UPDATE SET attributes = excluded.attributes, \
         version = excluded.version, modified_us = excluded.modified_us, measures = excluded.measures{also_set}"
    )
}

/// Batches of more operations than this are applied off the runtime's workers.
const INLINE_BATCH: usize = 64;

pub(super) struct Parts {
    pub(super) pools: SqlitePools,
    pub(super) cache: Arc<EntityCache>,
    pub(super) epochs: Epochs,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) wake: WakeSlot,
    pub(super) limits: Limits,
}

pub(super) struct Writer {
    parts: Parts,
    /// The last version given out.
    version: Mutex<i64>,
}

type Results = Vec<Result<Applied, ngsi::Error>>;

impl Writer {
    pub(super) async fn open(parts: Parts) -> Result<Self, StoreError> {
        let version: i64 = sqlx::query_scalar("SELECT value FROM sequence WHERE name = 'entity_version'")
            .fetch_one(&parts.pools.writer)
            .await?;
        Ok(Self { parts, version: version.into() })
    }

    async fn commit(&self, batch: Vec<Write>) -> Result<Results, WriteError> {
        let mut transaction = self.parts.pools.begin().await?;
        let groups = self.load(&mut transaction, &batch).await?;
        let first_version = *self.version.lock() + 1;
        let now_us = self.parts.clock.now_us();
        let (results, plan, last_version) = self.plan(batch, groups, first_version, now_us).await?;
        if plan.events.is_empty() && plan.puts.is_empty() && plan.deletes.is_empty() {
            return Ok(results);
        }
        let last_event = write(&mut transaction, &plan, last_version).await?;
        if let Err(error) = transaction.commit().await {
            // A failed COMMIT may have been made durable all the same: trust nothing that is in memory.
            self.parts.cache.clear();
            return Err(match StoreError::from(error) {
                // The log's commit record is written last: when there was no room for all of it, nothing is committed.
                full @ StoreError::Full(_) => full.into(),
                other => WriteError::Unknown(other.to_string()),
            });
        }
        *self.version.lock() = last_version;
        for (key, group) in plan.groups {
            self.parts.cache.put(key, group);
        }
        if let Some(waker) = self.parts.wake.get() {
            waker.wake_with(last_event, now_us, plan.events);
        }
        Ok(results)
    }

    /// The entities that the batch touches, from memory or from the file.
    async fn load(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        batch: &[Write],
    ) -> Result<HashMap<GroupKey, Vec<Slot>>, StoreError> {
        let keys: BTreeSet<GroupKey> = batch.iter().map(GroupKey::of).collect();
        let mut groups = HashMap::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            match self.parts.cache.get(&key) {
                Some(group) => {
                    groups.insert(key, group.iter().cloned().map(Slot::loaded).collect());
                }
                None => missing.push(key),
            }
        }
        for (statement, chunk) in LOAD.chunks(&missing) {
            let mut query = sqlx::query_scalar::<_, String>(statement);
            for key in chunk {
                query = query.bind(key.tenant.as_str()).bind(&*key.id);
            }
            for row in query.fetch_all(&mut **transaction).await? {
                let (tenant, stored) = unpack(row)?;
                let key = GroupKey { tenant, id: stored.entity.id.clone() };
                groups.entry(key).or_insert_with(Vec::new).push(Slot::loaded(stored));
            }
        }
        Ok(groups)
    }

    async fn plan(
        &self,
        batch: Vec<Write>,
        groups: HashMap<GroupKey, Vec<Slot>>,
        first_version: i64,
        now_us: i64,
    ) -> Result<(Results, Plan, i64), WriteError> {
        let epochs = self.parts.epochs.clone();
        let limits = self.parts.limits;
        let size = batch.len();
        let work = move || {
            let epoch_of = |tenant: &Tenant| epochs.read().get(tenant).copied().unwrap_or(0);
            let mut planned = Batch::new(groups, &epoch_of, limits, now_us);
            let mut version = first_version - 1;
            let mut apply = |write: &Write| {
                version += 1;
                planned.apply(write, version)
            };
            let results = batch.iter().map(&mut apply).collect();
            (results, planned.finish(), version)
        };
        if size <= INLINE_BATCH {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(|error| WriteError::Internal(error.to_string()))
    }
}

#[async_trait]
impl BatchExecutor for Writer {
    type Request = Write;
    type Response = Applied;
    type Error = WriteError;

    async fn execute(&self, batch: Vec<Write>) -> Vec<Result<Applied, WriteError>> {
        let size = batch.len();
        match self.commit(batch).await {
            Ok(results) => results.into_iter().map(|result| result.map_err(WriteError::from)).collect(),
            Err(error) => vec![Err(error); size],
        }
    }
}

/// Writes the plan; answers the offset of its last event.
async fn write(
    transaction: &mut Transaction<'_, Sqlite>,
    plan: &Plan,
    last_version: i64,
) -> Result<i64, StoreError> {
    let in_place = plan.puts.len() == plan.events.len() && plan.puts.iter().all(|row| row.keeps_indexes);
    if let Some(statement) = WHOLE.of(plan.puts.len()).filter(|_| in_place && plan.deletes.is_empty()) {
        let query = bind_rows(sqlx::query(statement), &plan.puts);
        let query = outbox::bind_sqlite(query, bus::CONTEXT_CHANGES, &plan.events).bind(last_version);
        return Ok(query.execute(&mut **transaction).await?.last_insert_rowid());
    }
    for (tenant, id, path, entity_type) in &plan.deletes {
        sqlx::query("DELETE FROM entity WHERE tenant = ? AND id = ? AND path = ? AND type = ?")
            .bind(tenant.as_str())
            .bind(&**id)
            .bind(path.as_str())
            .bind(&**entity_type)
            .execute(&mut **transaction)
            .await?;
    }
    let (in_place, others): (Vec<_>, Vec<_>) = plan.puts.iter().partition(|row| row.keeps_indexes);
    put_rows(transaction, &PUT_IN_PLACE, &in_place).await?;
    put_rows(transaction, &PUT, &others).await?;
    let last = outbox::append_sqlite(transaction, bus::CONTEXT_CHANGES, &plan.events).await?;
    sqlx::query(SEQUENCE).bind(last_version).execute(&mut **transaction).await?;
    Ok(last)
}

async fn put_rows(
    transaction: &mut Transaction<'_, Sqlite>,
    statements: &'static Bulk,
    rows: &[&PlannedRow],
) -> Result<(), StoreError> {
    for (statement, chunk) in statements.chunks(rows) {
        bind_rows(sqlx::query(statement), chunk.iter().copied()).execute(&mut **transaction).await?;
    }
    Ok(())
}

fn bind_rows<'q>(
    query: outbox::SqliteQuery<'q>,
    rows: impl IntoIterator<Item = &'q PlannedRow>,
) -> outbox::SqliteQuery<'q> {
    rows.into_iter().fold(query, |query, PlannedRow { tenant, stored, .. }| {
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
    })
}
