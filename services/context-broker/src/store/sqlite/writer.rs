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
use sqlx::{Connection, Sqlite, Transaction};
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

/// The usual batch, which changes each of its entities once, in place, and needs nothing but what is in memory: the whole
/// transaction in one text, because each statement by itself wakes two threads.
static WHOLE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::of_texts(|rows| {
        format!("BEGIN IMMEDIATE;{};{};COMMIT", put_statement(rows, ""), outbox::append_statement(rows))
    })
});

/// Versions are set aside in blocks, so that not every commit writes the page that holds the last one. What is left of a
/// block at the end of the process is never given out.
const BLOCK: i64 = 10_000;

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
    versions: Mutex<Versions>,
}

#[derive(Clone, Copy)]
struct Versions {
    /// The last one given out.
    last: i64,
    /// Up to here they are set aside: a process that starts later begins above.
    reserved: i64,
}

type Results = Vec<Result<Applied, ngsi::Error>>;
type Groups = HashMap<GroupKey, Vec<Slot>>;

/// A batch as it will be committed.
struct Planned {
    results: Results,
    plan: Plan,
    last_version: i64,
    now_us: i64,
}

const BEGIN: &str = "BEGIN IMMEDIATE";

impl Writer {
    pub(super) async fn open(parts: Parts) -> Result<Self, StoreError> {
        let last: i64 = sqlx::query_scalar("SELECT value FROM sequence WHERE name = 'entity_version'")
            .fetch_one(&parts.pools.writer)
            .await?;
        Ok(Self { parts, versions: Versions { last, reserved: last }.into() })
    }

    async fn commit(&self, batch: Vec<Write>) -> Result<Results, WriteError> {
        // Whoever holds the connection is the only writer, also before the transaction begins.
        let mut connection = self.parts.pools.hold().await?;
        let now_us = self.parts.clock.now_us();
        let versions = *self.versions.lock();
        let (groups, missing) = self.known(&batch);
        if !missing.is_empty() {
            let mut transaction = connection.begin_with(BEGIN).await.map_err(StoreError::from)?;
            let groups = load(&mut transaction, groups, &missing).await?;
            let planned = self.plan(batch, groups, versions.last + 1, now_us).await?;
            return self.commit_in(transaction, planned, versions).await;
        }
        let planned = self.plan(batch, groups, versions.last + 1, now_us).await?;
        let Planned { plan, last_version, .. } = &planned;
        let usual = plan.is_in_place() && *last_version <= versions.reserved;
        let Some(statement) = WHOLE.of(plan.puts.len()).filter(|_| usual) else {
            let transaction = connection.begin_with(BEGIN).await.map_err(StoreError::from)?;
            return self.commit_in(transaction, planned, versions).await;
        };
        let query = bind_rows(sqlx::query(statement), &plan.puts);
        let query = outbox::bind_sqlite(query, bus::CONTEXT_CHANGES, &plan.events);
        match query.execute(&mut *connection).await {
            Ok(done) => Ok(self.committed(planned, versions.reserved, done.last_insert_rowid())),
            Err(error) => {
                // Nothing to take back when SQLite did so itself.
                sqlx::query("ROLLBACK").execute(&mut *connection).await.ok();
                Err(self.not_committed(error))
            }
        }
    }

    /// Writes what was planned and commits it.
    async fn commit_in(
        &self,
        mut transaction: Transaction<'_, Sqlite>,
        planned: Planned,
        versions: Versions,
    ) -> Result<Results, WriteError> {
        if planned.plan.is_empty() {
            return Ok(planned.results);
        }
        let mut reserved = versions.reserved;
        if planned.last_version > reserved {
            reserved = planned.last_version + BLOCK;
            sqlx::query(SEQUENCE)
                .bind(reserved)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::from)?;
        }
        let last_event = write(&mut transaction, &planned.plan).await?;
        match transaction.commit().await {
            Ok(()) => Ok(self.committed(planned, reserved, last_event)),
            Err(error) => Err(self.not_committed(error)),
        }
    }

    /// Keeps what was committed, and tells the bus.
    fn committed(&self, planned: Planned, reserved: i64, last_event: i64) -> Results {
        let Planned { results, plan, last_version, now_us } = planned;
        *self.versions.lock() = Versions { last: last_version, reserved };
        for (key, group) in plan.groups {
            self.parts.cache.put(key, group);
        }
        if let Some(waker) = self.parts.wake.get() {
            waker.wake_with(last_event, now_us, plan.events);
        }
        results
    }

    fn not_committed(&self, error: sqlx::Error) -> WriteError {
        // A failed COMMIT may have been made durable all the same: trust nothing that is in memory.
        self.parts.cache.clear();
        match StoreError::from(error) {
            // The log's commit record is written last: when there was no room for all of it, nothing is committed.
            full @ StoreError::Full(_) => full.into(),
            other => WriteError::Unknown(other.to_string()),
        }
    }

    /// The entities that the batch touches and that are in memory, and the names of the others.
    fn known(&self, batch: &[Write]) -> (Groups, Vec<GroupKey>) {
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
        (groups, missing)
    }

    async fn plan(
        &self,
        batch: Vec<Write>,
        groups: Groups,
        first_version: i64,
        now_us: i64,
    ) -> Result<Planned, WriteError> {
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
            Planned { results, plan: planned.finish(), last_version: version, now_us }
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

/// The groups with those that only the file has.
async fn load(
    transaction: &mut Transaction<'_, Sqlite>,
    mut groups: Groups,
    missing: &[GroupKey],
) -> Result<Groups, StoreError> {
    for (statement, chunk) in LOAD.chunks(missing) {
        let mut query = sqlx::query_scalar::<_, String>(statement);
        for key in chunk {
            query = query.bind(key.tenant.as_str()).bind(&*key.id);
        }
        for row in query.fetch_all(&mut **transaction).await? {
            let (tenant, stored) = unpack(row)?;
            let key = GroupKey { tenant, id: stored.entity.id.clone() };
            groups.entry(key).or_default().push(Slot::loaded(stored));
        }
    }
    Ok(groups)
}

/// Writes the plan; answers the offset of its last event.
async fn write(transaction: &mut Transaction<'_, Sqlite>, plan: &Plan) -> Result<i64, StoreError> {
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
    outbox::append_sqlite(transaction, bus::CONTEXT_CHANGES, &plan.events).await
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
