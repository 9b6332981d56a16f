//! The one writer: takes a batch of operations, commits it to the journal, and keeps it in memory until it is in the rows.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use bus::Appender;
use scope::Tenant;
use service_kit::Clock;
use store::{SqlitePools, StoreError, group_commit::BatchExecutor};
use tokio::sync::Mutex;

use super::{
    Epochs,
    cache::EntityCache,
    overlay::Overlay,
    packed::{column, unpack},
};
use crate::{
    error::WriteError,
    store::{Bulk, WakeSlot},
    update::{Applied, Batch, GroupKey, Limits, Plan, Slot, Write},
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

/// Batches of more operations than this are applied off the runtime's workers.
const INLINE_BATCH: usize = 64;

pub(super) struct Parts {
    pub(super) pools: SqlitePools,
    pub(super) cache: Arc<EntityCache>,
    pub(super) overlay: Arc<Overlay>,
    pub(super) epochs: Epochs,
    pub(super) clock: Arc<dyn Clock>,
    /// Readers of the journal are woken here; `None`: events go to the outbox.
    pub(super) wake: Option<WakeSlot>,
    pub(super) limits: Limits,
}

pub(super) struct Writer {
    parts: Parts,
    /// One batch after the other.
    journal: Mutex<Appender>,
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

impl Writer {
    pub(super) fn new(parts: Parts, journal: Appender) -> Self {
        Self { parts, journal: Mutex::new(journal) }
    }

    async fn commit(&self, batch: Vec<Write>) -> Result<Results, WriteError> {
        let mut journal = self.journal.lock().await;
        let overlay = &self.parts.overlay;
        overlay.room().await?;
        let now_us = self.parts.clock.now_us();
        let (groups, missing) = self.known(&batch);
        let groups = self.load(groups, &missing).await?;
        let planned = self.plan(batch, groups, overlay.version() + 1, now_us).await?;
        let Planned { results, mut plan, last_version, now_us } = planned;
        if plan.events.is_empty() {
            return Ok(results);
        }
        let notes =
            plan.causes.iter().map(|cause| cause.as_ref().map_or(&[][..], |measure| measure.as_slice()));
        let last = journal.append(now_us, plan.events.iter().zip(notes)).await?;
        // In this order: whoever is told of a change finds it.
        let events = std::mem::take(&mut plan.events);
        match &self.parts.wake {
            None => overlay.add(&plan, events, last, last_version),
            Some(wake) => {
                overlay.add(&plan, Vec::new(), last, last_version);
                if let Some(waker) = wake.get() {
                    waker.wake_with(last, now_us, events);
                }
            }
        }
        Ok(results)
    }

    /// The entities that the batch touches and that are in memory, and the names of the others.
    fn known(&self, batch: &[Write]) -> (Groups, Vec<GroupKey>) {
        let keys: BTreeSet<GroupKey> = batch.iter().map(GroupKey::of).collect();
        let mut groups = HashMap::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            match self.parts.overlay.get(&key).or_else(|| self.parts.cache.get(&key)) {
                Some(group) => {
                    groups.insert(key, group.iter().cloned().map(Slot::loaded).collect());
                }
                None => missing.push(key),
            }
        }
        (groups, missing)
    }

    /// The groups with those that only the file has. Nothing of them waits to be applied, and nobody else commits.
    async fn load(&self, mut groups: Groups, missing: &[GroupKey]) -> Result<Groups, StoreError> {
        for (statement, chunk) in LOAD.chunks(missing) {
            let query = chunk.iter().fold(sqlx::query_scalar::<_, String>(statement), |query, key| {
                query.bind(key.tenant.as_str()).bind(&*key.id)
            });
            for row in query.fetch_all(&self.parts.pools.reader).await? {
                let (tenant, stored) = unpack(row)?;
                let key = GroupKey { tenant, id: stored.entity.id.clone() };
                groups.entry(key).or_default().push(Slot::loaded(stored));
            }
        }
        Ok(groups)
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
