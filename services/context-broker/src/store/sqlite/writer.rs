//! The one writer: takes a batch of operations, commits it to the journal, and keeps it in memory until it is in the rows.
//!
//! ```text
//! batch n+1   plan ──► journal: written, durable ──► overlay ──► answers
//! batch n+2              plan, upon n+1 ─────────► journal ──► overlay ──► answers
//! ```
//!
//! A batch is planned while the one before waits for the disk, and sees it; others do once it is durable. When a batch could
//! not be written, what was planned upon it is not written either.

use std::{
    collections::{VecDeque, hash_map::Entry},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bus::{Appender, Appending};
use scope::Tenant;
use service_kit::Clock;
use store::{SqlitePools, StoreError, group_commit::BatchExecutor};
use tokio::sync::{Mutex, oneshot};

use super::{
    Epochs,
    cache::EntityCache,
    overlay::Overlay,
    packed::{column, unpack},
};
use crate::{
    error::WriteError,
    store::{Bulk, WakeSlot},
    update::{Applied, Batch, BoxedWrite, GroupKey, GroupMap, Limits, Plan, Slot, Stored},
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
    /// One batch after the other is planned.
    front: Mutex<Front>,
}

type Results = Vec<Result<Applied, ngsi::Error>>;
type Groups = GroupMap<Vec<Slot>>;

/// Where the next batch begins.
struct Front {
    journal: Appender,
    /// What is planned and on its way to the journal: the next batch builds upon it, nobody else sees it.
    ahead: VecDeque<Ahead>,
    /// Tells that the batch before is published; ends without when it has failed. Those before it have ended then.
    before: Option<oneshot::Receiver<()>>,
}

struct Ahead {
    groups: GroupMap<Arc<[Stored]>>,
    /// Of the newest change.
    version: i64,
    /// Whether it is in the overlay.
    published: Arc<AtomicBool>,
}

/// A batch as it will be committed.
struct Planned {
    results: Results,
    plan: Plan,
    last_version: i64,
    now_us: i64,
}

/// A batch on its way to the journal.
struct Begun {
    planned: Planned,
    /// None: it changes nothing.
    appending: Option<Appending>,
    before: Option<oneshot::Receiver<()>>,
    done: oneshot::Sender<()>,
    published: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn new(parts: Parts, journal: Appender) -> Self {
        Self { parts, front: Mutex::new(Front { journal, ahead: VecDeque::new(), before: None }) }
    }

    async fn commit(&self, batch: Vec<BoxedWrite>) -> Result<Results, WriteError> {
        let Begun { planned, appending, before, done, published } = self.begin(batch).await?;
        let last = match appending {
            Some(appending) => Some(appending.durable().await),
            None => None,
        };
        let before = match before {
            Some(before) => before.await,
            None => Ok(()),
        };
        let last = match last {
            Some(last) => Some(last?),
            None => {
                // What it answers may follow from the batch before.
                before.map_err(|_| StoreError::Unavailable("what was written just before failed".into()))?;
                None
            }
        };
        let Planned { results, mut plan, last_version, now_us } = planned;
        if let Some(last) = last {
            // In this order: whoever is told of a change finds it.
            let overlay = &self.parts.overlay;
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
            published.store(true, Ordering::Release);
        }
        done.send(()).ok();
        Ok(results)
    }

    /// Plans a batch upon what is committed and what is about to be, and hands it to the journal.
    async fn begin(&self, batch: Vec<BoxedWrite>) -> Result<Begun, WriteError> {
        let mut front = self.front.lock().await;
        let overlay = &self.parts.overlay;
        overlay.room().await?;
        if front.journal.begin() {
            // All that is under way has failed, but for what was durable before: that is published when the last has ended.
            if let Some(before) = front.before.take() {
                before.await.ok();
            }
            front.ahead.clear();
        }
        while front.ahead.front().is_some_and(|ahead| ahead.published.load(Ordering::Acquire)) {
            front.ahead.pop_front();
        }
        let now_us = self.parts.clock.now_us();
        let version = front.ahead.back().map_or_else(|| overlay.version(), |ahead| ahead.version);
        let (groups, missing) = self.known(&batch, &front.ahead);
        let groups = self.load(groups, &missing).await?;
        let planned = self.plan(batch, groups, version + 1, now_us).await?;
        let plan = &planned.plan;
        let (done, ended) = oneshot::channel();
        let published = Arc::new(AtomicBool::new(false));
        let appending = match plan.events.is_empty() {
            true => None,
            false => {
                let notes = plan
                    .causes
                    .iter()
                    .map(|cause| cause.as_ref().map_or(&[][..], |measure| measure.as_slice()));
                let appending = front.journal.append(now_us, plan.events.iter().zip(notes))?;
                front.ahead.push_back(Ahead {
                    groups: plan.groups.iter().cloned().collect(),
                    version: planned.last_version,
                    published: published.clone(),
                });
                Some(appending)
            }
        };
        let before = front.before.replace(ended);
        Ok(Begun { planned, appending, before, done, published })
    }

    /// The entities that the batch touches and that are in memory, and the names of the others.
    fn known(&self, batch: &[BoxedWrite], ahead: &VecDeque<Ahead>) -> (Groups, Vec<GroupKey>) {
        let ahead = |key: &GroupKey| ahead.iter().rev().find_map(|ahead| ahead.groups.get(key).cloned());
        let mut groups = Groups::with_capacity_and_hasher(batch.len(), Default::default());
        let mut missing = Vec::new();
        for key in batch.iter().map(|write| write.key()) {
            let Entry::Vacant(place) = groups.entry(key.clone()) else { continue };
            let known = || self.parts.overlay.get(key).or_else(|| self.parts.cache.get(key));
            let slots = match ahead(key).or_else(known) {
                Some(group) => group.iter().cloned().map(Slot::loaded).collect(),
                None => {
                    missing.push(key.clone());
                    Vec::new()
                }
            };
            place.insert(slots);
        }
        // Neighbours in the index are read together.
        missing.sort_unstable();
        (groups, missing)
    }

    /// The groups with those that only the file has. Nothing of them waits to be applied, and nobody else plans.
    async fn load(&self, mut groups: Groups, missing: &[GroupKey]) -> Result<Groups, StoreError> {
        for (statement, chunk) in LOAD.chunks(missing) {
            let query = chunk.iter().fold(sqlx::query_scalar::<_, String>(statement), |query, key| {
                query.bind(key.tenant.as_str()).bind(&*key.id)
            });
            for row in query.fetch_all(&self.parts.pools.reader).await? {
                let (tenant, stored) = unpack(row)?;
                let key = GroupKey::new(tenant, stored.entity.id.clone());
                groups.entry(key).or_default().push(Slot::loaded(stored));
            }
        }
        Ok(groups)
    }

    async fn plan(
        &self,
        batch: Vec<BoxedWrite>,
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
            let versions = first_version..;
            let results = batch.iter().zip(versions).map(|(write, version)| planned.apply(write, version));
            let results: Results = results.collect();
            let last_version = first_version - 1 + i64::try_from(results.len()).unwrap_or(0);
            Planned { results, plan: planned.finish(), last_version, now_us }
        };
        if size <= INLINE_BATCH {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(|error| WriteError::Internal(error.to_string()))
    }
}

#[async_trait]
impl BatchExecutor for Writer {
    type Request = BoxedWrite;
    type Response = Applied;
    type Error = WriteError;

    async fn execute(&self, batch: Vec<BoxedWrite>) -> Vec<Result<Applied, WriteError>> {
        let size = batch.len();
        match self.commit(batch).await {
            Ok(results) => results.into_iter().map(|result| result.map_err(WriteError::from)).collect(),
            Err(error) => vec![Err(error); size],
        }
    }
}
