//! Commits a batch: missing rows are inserted sorted, all rows are locked sorted, changed, and written back (decision
//! 12). Deadlocks and serialization failures are tried again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bus::outbox;
use scope::{ServicePath, Tenant};
use service_kit::Clock;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use store::{StoreError, group_commit::BatchExecutor};

use crate::{
    error::WriteError,
    store::{
        WakeSlot,
        row::{COLUMNS, Row, encode_measures},
    },
    update::{Applied, Batch, BoxedWrite, GroupKey, GroupMap, Limits, Plan, Slot},
};

/// Tries of one batch.
const TRIES: u32 = 8;
/// Batches of more operations than this are applied off the runtime's workers.
const INLINE_BATCH: usize = 16;

pub(super) struct Writer {
    pub(super) pool: PgPool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) wake: WakeSlot,
    pub(super) limits: Limits,
}

type Results = Vec<Result<Applied, ngsi::Error>>;
type Groups = GroupMap<Vec<Slot>>;
/// Tenant, id, path, type.
type RowKey<'a> = (&'a str, &'a str, &'a str, &'a str);

#[async_trait]
impl BatchExecutor for Writer {
    type Request = BoxedWrite;
    type Response = Applied;
    type Error = WriteError;

    async fn execute(&self, batch: Vec<BoxedWrite>) -> Vec<Result<Applied, WriteError>> {
        let batch: Arc<[BoxedWrite]> = batch.into();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.commit(&batch).await {
                Ok(results) => {
                    return results.into_iter().map(|result| result.map_err(WriteError::from)).collect();
                }
                Err(Failure::NotDone(StoreError::Retry(reason))) if tries < TRIES => {
                    tracing::debug!(reason, tries, "batch is tried again");
                    let pause = rand::random_range(1..=10 * u64::from(tries));
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(Failure::NotDone(error)) => return all(&batch, error.into()),
                Err(Failure::Unknown(error)) => return all(&batch, WriteError::Unknown(error.to_string())),
            }
        }
    }
}

fn all(batch: &[BoxedWrite], error: WriteError) -> Vec<Result<Applied, WriteError>> {
    vec![Err(error); batch.len()]
}

enum Failure {
    NotDone(StoreError),
    /// The server may have committed.
    Unknown(StoreError),
}

impl<E: Into<StoreError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::NotDone(error.into())
    }
}

impl Writer {
    async fn commit(&self, batch: &Arc<[BoxedWrite]>) -> Result<Results, Failure> {
        let mut transaction = self.pool.begin().await?;
        let reserved = reservations(batch);
        reserve(&mut transaction, &reserved).await?;
        let groups = lock(&mut transaction, batch, &reserved).await?;
        let (epochs, versions) = draw(&mut transaction, batch).await?;
        let (results, plan) = self.plan(batch.clone(), groups, epochs, versions).await?;
        if plan.events.is_empty() {
            // Nothing but reservations, which go with the transaction.
            transaction.rollback().await?;
            return Ok(results);
        }
        write(&mut transaction, &plan).await?;
        match transaction.commit().await.map_err(StoreError::from) {
            Ok(()) => {}
            Err(error @ StoreError::Retry(_)) => return Err(Failure::NotDone(error)),
            Err(error) => return Err(Failure::Unknown(error)),
        }
        if let Some(waker) = self.wake.get() {
            waker.wake();
        }
        Ok(results)
    }

    async fn plan(
        &self,
        batch: Arc<[BoxedWrite]>,
        groups: Groups,
        epochs: HashMap<String, i64>,
        versions: Vec<i64>,
    ) -> Result<(Results, Plan), StoreError> {
        let (limits, now_us) = (self.limits, self.clock.now_us());
        let size = batch.len();
        let work = move || {
            let epoch_of = |tenant: &Tenant| epochs.get(tenant.as_str()).copied().unwrap_or(0);
            let mut planned = Batch::new(groups, &epoch_of, limits, now_us);
            let results =
                batch.iter().zip(versions).map(|(write, version)| planned.apply(write, version)).collect();
            (results, planned.finish())
        };
        if size <= INLINE_BATCH {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Internal(error.to_string()))
    }
}

/// The rows that operations may create.
fn reservations(batch: &[BoxedWrite]) -> BTreeSet<RowKey<'_>> {
    let creating = batch.iter().filter(|write| write.operation.creates());
    creating
        .map(|write| {
            let update = &write.operation.update;
            let entity_type = update.entity_type.as_deref().unwrap_or(ngsi::update::DEFAULT_ENTITY_TYPE);
            (write.scope.tenant.as_str(), update.id.as_str(), write.scope.path.as_str(), entity_type)
        })
        .collect()
}

/// Columns of sorted keys, for `unnest`.
fn columns<'a>(
    keys: impl IntoIterator<Item = RowKey<'a>>,
) -> (Vec<&'a str>, Vec<&'a str>, Vec<&'a str>, Vec<&'a str>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (tenant, id, path, entity_type) in keys {
        columns.0.push(tenant);
        columns.1.push(id);
        columns.2.push(path);
        columns.3.push(entity_type);
    }
    columns
}

/// Inserts rows that do not exist yet, with version 0: nobody sees them before this transaction has filled or deleted
/// them.
async fn reserve(
    transaction: &mut Transaction<'_, Postgres>,
    keys: &BTreeSet<RowKey<'_>>,
) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let (tenants, ids, paths, types) = columns(keys.iter().copied());
    sqlx::query(
        "INSERT INTO entity (tenant, id, path, type, attributes, version, created_us, modified_us, measures) \
         SELECT t, i, p, y, '{}', 0, 0, 0, '' FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) \
         WITH ORDINALITY AS k(t, i, p, y, n) ORDER BY n ON CONFLICT DO NOTHING",
    )
    .bind(tenants)
    .bind(ids)
    .bind(paths)
    .bind(types)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Locks all entities of the ids and paths at hand, in one order for all replicas.
async fn lock(
    transaction: &mut Transaction<'_, Postgres>,
    batch: &[BoxedWrite],
    reserved: &BTreeSet<RowKey<'_>>,
) -> Result<Groups, StoreError> {
    let keys: BTreeSet<RowKey<'_>> = batch
        .iter()
        .map(|write| {
            let id = write.operation.update.id.as_str();
            (write.scope.tenant.as_str(), id, write.scope.path.as_str(), "")
        })
        .collect();
    let selected = COLUMNS.split(", ").map(|column| format!("e.{column}")).collect::<Vec<_>>().join(", ");
    let statement = format!(
        "SELECT {selected} FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k(t, i, p, n) \
         JOIN entity e ON e.tenant = k.t AND e.id = k.i AND e.path = k.p ORDER BY k.n, e.type FOR UPDATE OF e"
    );
    let (tenants, ids, paths, _) = columns(keys);
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenants)
        .bind(ids)
        .bind(paths)
        .fetch_all(&mut **transaction)
        .await?;
    let missing = rows.iter().map(|row| (&*row.tenant, &*row.id, &*row.path, &*row.entity_type));
    let locked: BTreeSet<RowKey<'_>> = missing.collect();
    if !reserved.is_subset(&locked) {
        // It was there when this transaction wanted to insert it, and deleted before it was locked.
        return Err(StoreError::Retry("a row went away".to_owned()));
    }
    let mut groups = Groups::with_capacity_and_hasher(rows.len(), Default::default());
    for row in rows {
        let tenant = Tenant::from_header(Some(&row.tenant))
            .map_err(|_| StoreError::Internal(format!("entity {} has an unreadable tenant", row.id)))?;
        let key = GroupKey::new(tenant, row.id.as_str().into());
        let slot = if row.version == 0 {
            let path = ServicePath::parse(&row.path)
                .map_err(|_| StoreError::Internal(format!("entity {} has an unreadable path", row.id)))?;
            Slot::reserved(path, row.entity_type.into())
        } else {
            Slot::loaded(row.decode()?)
        };
        groups.entry(key).or_default().push(slot);
    }
    Ok(groups)
}

/// Under the locks: the subscription epochs of the tenants at hand, and a version for each operation.
async fn draw(
    transaction: &mut Transaction<'_, Postgres>,
    batch: &[BoxedWrite],
) -> Result<(HashMap<String, i64>, Vec<i64>), StoreError> {
    let tenants: BTreeSet<&str> = batch.iter().map(|write| write.scope.tenant.as_str()).collect();
    let rows: Vec<(Option<String>, i64)> = sqlx::query_as(
        "SELECT tenant, epoch FROM subscription_epoch WHERE tenant = ANY($1) \
         UNION ALL SELECT NULL, nextval('entity_version') FROM generate_series(1, $2)",
    )
    .bind(tenants.into_iter().collect::<Vec<_>>())
    .bind(i32::try_from(batch.len()).unwrap_or(i32::MAX))
    .fetch_all(&mut **transaction)
    .await?;
    let (mut epochs, mut versions) = (HashMap::new(), Vec::with_capacity(batch.len()));
    for (tenant, value) in rows {
        match tenant {
            Some(tenant) => drop(epochs.insert(tenant, value)),
            None => versions.push(value),
        }
    }
    versions.sort_unstable();
    Ok((epochs, versions))
}

async fn write(transaction: &mut Transaction<'_, Postgres>, plan: &Plan) -> Result<(), StoreError> {
    if !plan.deletes.is_empty() {
        let deleted = plan.deletes.iter();
        let (tenants, ids, paths, types) =
            columns(deleted.map(|(key, path, t)| (key.tenant.as_str(), &*key.id, path.as_str(), &**t)));
        sqlx::query(
            "DELETE FROM entity e USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k(t, i, p, y) \
             WHERE e.tenant = k.t AND e.id = k.i AND e.path = k.p AND e.type = k.y",
        )
        .bind(tenants)
        .bind(ids)
        .bind(paths)
        .bind(types)
        .execute(&mut **transaction)
        .await?;
    }
    put(transaction, plan).await?;
    outbox::append_postgres(transaction, bus::CONTEXT_CHANGES, &plan.events).await?;
    Ok(())
}

async fn put(transaction: &mut Transaction<'_, Postgres>, plan: &Plan) -> Result<(), StoreError> {
    if plan.puts.is_empty() {
        return Ok(());
    }
    let entities = || plan.puts.iter().map(|put| &put.stored.entity);
    let (tenants, ids, paths, types) = columns(plan.puts.iter().map(|put| {
        let entity = &put.stored.entity;
        (put.key.tenant.as_str(), &*entity.id, entity.path.as_str(), &*entity.entity_type)
    }));
    let done = sqlx::query(
        "UPDATE entity e SET attributes = k.a, version = k.v, created_us = k.c, modified_us = k.m, \
         expires_us = k.x, measures = k.s, cell = k.l FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], \
         $5::bytea[], $6::int8[], $7::int8[], $8::int8[], $9::int8[], $10::bytea[], $11::int8[]) \
         AS k(t, i, p, y, a, v, c, m, x, s, l) \
         WHERE e.tenant = k.t AND e.id = k.i AND e.path = k.p AND e.type = k.y",
    )
    .bind(tenants)
    .bind(ids)
    .bind(paths)
    .bind(types)
    .bind(entities().map(|entity| &*entity.attributes).collect::<Vec<_>>())
    .bind(entities().map(|entity| entity.version).collect::<Vec<_>>())
    .bind(entities().map(|entity| entity.created_us).collect::<Vec<_>>())
    .bind(entities().map(|entity| entity.modified_us).collect::<Vec<_>>())
    .bind(plan.puts.iter().map(|put| put.stored.expires_us).collect::<Vec<_>>())
    .bind(plan.puts.iter().map(|put| encode_measures(&put.stored.measures)).collect::<Vec<_>>())
    .bind(plan.puts.iter().map(|put| put.stored.cell).collect::<Vec<_>>())
    .execute(&mut **transaction)
    .await?;
    if done.rows_affected() != plan.puts.len() as u64 {
        return Err(StoreError::Internal("a locked row is not there".to_owned()));
    }
    Ok(())
}
