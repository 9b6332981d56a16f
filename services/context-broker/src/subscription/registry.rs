//! The subscriptions of all tenants: changed here for the API, indexed here for the notifier.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ngsi::{
    Error,
    subscription::{Counters, DeliveryHealth, Status, Subscription, SubscriptionPatch},
};
use parking_lot::{Mutex, RwLock};
use scope::{PathPattern, Tenant};
use service_kit::Clock;
use store::StoreError;

use super::{Entry, Known, StoredSubscription, SubscriptionId, SubscriptionView, TenantIndex};
use crate::{
    error::answer_of_store,
    metrics::BrokerMetrics,
    notification::{Backlog, DeliveryState, NotificationStore, SubscriptionKey},
    store::{ContextStore, Replacement},
};

/// Changes of a subscription that met another change of it.
const MAX_CONFLICTS: usize = 10;

/// Subscriptions that are read at once.
const READ_AT_ONCE: u32 = 1_000;

/// Which part of a list.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub offset: usize,
    pub limit: usize,
}

pub(crate) struct Registry {
    pub(crate) store: Arc<dyn ContextStore>,
    pub(crate) deliveries: Arc<dyn NotificationStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: BrokerMetrics,
    indexes: RwLock<HashMap<Tenant, Arc<TenantIndex>>>,
    /// One at a time reads subscriptions.
    loading: tokio::sync::Mutex<()>,
    /// Deliveries asked for by a revision below this are cancelled; until the index knows better.
    cancelled: Mutex<HashMap<SubscriptionKey, i64>>,
    /// How often an index was built.
    refreshes: AtomicU64,
}

impl Registry {
    pub(crate) fn new(
        store: Arc<dyn ContextStore>,
        deliveries: Arc<dyn NotificationStore>,
        clock: Arc<dyn Clock>,
        metrics: BrokerMetrics,
    ) -> Self {
        Self {
            store,
            deliveries,
            clock,
            metrics,
            indexes: RwLock::default(),
            loading: tokio::sync::Mutex::new(()),
            cancelled: Mutex::default(),
            refreshes: AtomicU64::new(0),
        }
    }

    pub(crate) async fn create(
        &self,
        tenant: &Tenant,
        path: &PathPattern,
        subscription: &Subscription,
    ) -> Result<SubscriptionId, Error> {
        let id = SubscriptionId::generate(self.clock.now_us());
        let body = definition(subscription);
        self.store.insert_subscription(tenant, path, &id, &body).await.map_err(answer_of_store)?;
        tracing::debug!(tenant = tenant.as_str(), subscription = %id, "subscription created");
        Ok(id)
    }

    pub(crate) async fn get(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
        with_health: bool,
    ) -> Result<SubscriptionView, Error> {
        let stored = self.stored(tenant, id).await?;
        let key = SubscriptionKey { tenant: tenant.clone(), id: id.clone() };
        // The backlog first: what it says was tried, the state, read later, gives the reason for.
        let backlog = match with_health {
            true => self.deliveries.backlog(tenant, Some(id)).await.map_err(answer_of_store)?,
            false => Vec::new(),
        };
        let state = self.deliveries.state(&key).await.map_err(answer_of_store)?;
        let mut view = view(stored, &state)?;
        view.health = with_health.then(|| health(&state, backlog.first().map(|(_, backlog)| *backlog)));
        Ok(view)
    }

    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        path: Option<&PathPattern>,
        page: Page,
        with_health: bool,
    ) -> Result<(Vec<SubscriptionView>, u64), Error> {
        let page = self.store.subscription_page(tenant, path, page.offset, page.limit).await;
        let (stored, total) = page.map_err(answer_of_store)?;
        let ids: Vec<SubscriptionId> = stored.iter().map(|one| one.id.clone()).collect();
        let backlogs: HashMap<SubscriptionKey, Backlog> = match with_health {
            true => {
                self.deliveries.backlog(tenant, None).await.map_err(answer_of_store)?.into_iter().collect()
            }
            false => HashMap::new(),
        };
        let states = self.deliveries.states(tenant, &ids).await.map_err(answer_of_store)?;
        let states: HashMap<SubscriptionId, DeliveryState> =
            states.into_iter().map(|(key, state)| (key.id, state)).collect();
        let nothing = DeliveryState::default();
        let views = stored.into_iter().map(|one| {
            let state = states.get(&one.id).unwrap_or(&nothing);
            let key = SubscriptionKey { tenant: tenant.clone(), id: one.id.clone() };
            let mut view = view(one, state)?;
            view.health = with_health.then(|| health(state, backlogs.get(&key).copied()));
            Ok(view)
        });
        Ok((views.collect::<Result<_, Error>>()?, total))
    }

    pub(crate) async fn update(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
        patch: SubscriptionPatch,
    ) -> Result<(), Error> {
        let key = SubscriptionKey { tenant: tenant.clone(), id: id.clone() };
        for _ in 0..MAX_CONFLICTS {
            let stored = self.stored(tenant, id).await?;
            let state = self.deliveries.state(&key).await.map_err(answer_of_store)?;
            let mut subscription = Subscription::parse(stored.body.as_bytes())?;
            let closed = state.closes(stored.revision);
            // What made itself inactive stays so unless the patch says otherwise.
            if closed {
                subscription.status = Status::Inactive;
            }
            let now_us = self.clock.now_us();
            let was_active = subscription.is_active(now_us);
            subscription.merge(patch.clone());
            let body = definition(&subscription);
            let reactivated = !was_active && subscription.is_active(now_us);
            let replacement = Replacement { expected: stored.revision, body: &body, reactivated };
            let replaced = self.store.replace_subscription(tenant, id, replacement).await;
            if let Some(replaced) = replaced.map_err(answer_of_store)? {
                self.cancel(&key, replaced.revision);
                let cancelled = self.deliveries.cancel(&key, replaced.revision).await;
                self.metrics.cancelled(cancelled.map_err(answer_of_store)?);
                return Ok(());
            }
        }
        tracing::warn!(subscription = %id, "a change of the subscription met another one again and again");
        Err(Error::unavailable())
    }

    pub(crate) async fn delete(&self, tenant: &Tenant, id: &SubscriptionId) -> Result<(), Error> {
        let key = SubscriptionKey { tenant: tenant.clone(), id: id.clone() };
        // Before the index can learn of the deletion, which ends it.
        self.cancel(&key, i64::MAX);
        let deleted = self.store.delete_subscription(tenant, id).await;
        if !matches!(deleted, Ok(true)) {
            self.cancelled.lock().remove(&key);
        }
        if !deleted.map_err(answer_of_store)? {
            return Err(Error::subscription_not_found());
        }
        let cancelled = self.deliveries.forget(&key).await.map_err(answer_of_store)?;
        self.metrics.cancelled(cancelled);
        Ok(())
    }

    async fn stored(&self, tenant: &Tenant, id: &SubscriptionId) -> Result<StoredSubscription, Error> {
        let found = self.store.find_subscription(tenant, id).await.map_err(answer_of_store)?;
        found.ok_or_else(Error::subscription_not_found)
    }

    /// The tenant's index, complete at least for `epoch`.
    pub(crate) async fn index(&self, tenant: &Tenant, epoch: i64) -> Result<Arc<TenantIndex>, StoreError> {
        if let Some(index) = self.fresh(tenant, epoch) {
            return Ok(index);
        }
        let _turn = self.loading.lock().await;
        if let Some(index) = self.fresh(tenant, epoch) {
            return Ok(index);
        }
        let known = self.indexes.read().get(tenant).cloned();
        let index = self.catch_up(tenant, known).await?;
        self.refreshes.fetch_add(1, Ordering::Relaxed);
        self.indexes.write().insert(tenant.clone(), index.clone());
        Ok(index)
    }

    /// Reads what is new since `before`; all, where there is none.
    async fn catch_up(
        &self,
        tenant: &Tenant,
        before: Option<Arc<TenantIndex>>,
    ) -> Result<Arc<TenantIndex>, StoreError> {
        let mut known = before.as_ref().map_or_else(Known::default, |index| Known {
            revision: index.epoch(),
            deletions: Some(index.epoch()),
        });
        let mut index = before.unwrap_or_default();
        let mut from_scratch = known.deletions.is_none();
        loop {
            let read = self.store.subscription_changes(tenant, known, READ_AT_ONCE).await?;
            let Some(deleted) = read.deleted else {
                (known, index, from_scratch) = (Known::default(), Arc::default(), true);
                continue;
            };
            let is_all = read.changed.len() < READ_AT_ONCE as usize;
            let last = read.changed.last().map_or(read.epoch, |last| last.revision);
            known = Known { revision: last, deletions: Some(read.epoch) };
            let (target, changed) = (index.clone(), read.changed);
            let taken = tokio::task::spawn_blocking(move || {
                target.take_in(&changed, &deleted);
                (changed, deleted)
            });
            let (changed, deleted) = taken.await.map_err(|error| StoreError::Internal(error.to_string()))?;
            let changed = changed.into_iter().map(|one| (one.id, one.revision));
            let deleted = deleted.into_iter().map(|id| (id, i64::MAX));
            for (id, revision) in changed.chain(deleted) {
                self.knows(&SubscriptionKey { tenant: tenant.clone(), id }, revision);
            }
            if is_all {
                break index.completed(read.epoch);
            }
        }
        if from_scratch {
            // What was deleted before is in no list of deletions.
            self.cancelled.lock().retain(|key, below| {
                key.tenant != *tenant || index.get(&key.id).is_some_and(|entry| entry.revision < *below)
            });
        }
        Ok(index)
    }

    /// Notes that nothing below `revision` of the subscription is sent any more.
    fn cancel(&self, key: &SubscriptionKey, revision: i64) {
        let mut cancelled = self.cancelled.lock();
        // Another one may have taken the change into the index already; if not, it will come by `knows`.
        if self.known(key).is_none_or(|entry| entry.revision < revision) {
            cancelled.insert(key.clone(), revision);
        }
    }

    /// The index has this revision of the subscription, or has forgotten it.
    fn knows(&self, key: &SubscriptionKey, revision: i64) {
        let mut cancelled = self.cancelled.lock();
        if cancelled.get(key).is_some_and(|below| *below <= revision) {
            cancelled.remove(key);
        }
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.refreshes.load(Ordering::Relaxed)
    }

    /// The ids of all subscriptions that are in memory.
    pub(crate) fn ids(&self) -> Vec<String> {
        let indexes: Vec<Arc<TenantIndex>> = self.indexes.read().values().cloned().collect();
        indexes.iter().flat_map(|index| index.ids()).map(|id| id.to_string()).collect()
    }

    fn fresh(&self, tenant: &Tenant, epoch: i64) -> Option<Arc<TenantIndex>> {
        self.indexes.read().get(tenant).filter(|index| index.epoch() >= epoch).cloned()
    }

    /// Takes in what other processes changed: reloads the indexes in use that are behind `epochs`.
    pub(crate) async fn follow(&self, epochs: Vec<(Tenant, i64)>) -> Result<(), StoreError> {
        for (tenant, epoch) in epochs {
            let used = self.indexes.read().contains_key(&tenant);
            if used {
                self.index(&tenant, epoch).await?;
            }
        }
        Ok(())
    }

    /// Whether a delivery that `revision` of the subscription asked for is still wanted.
    pub(crate) async fn wants(&self, key: &SubscriptionKey, revision: i64, now_us: i64) -> bool {
        if self.cancelled.lock().get(key).is_some_and(|below| revision < *below) {
            return false;
        }
        match self.index(&key.tenant, revision).await {
            Ok(index) => index
                .get(&key.id)
                .is_some_and(|entry| entry.revision <= revision && !entry.subscription.is_expired(now_us)),
            Err(error) => {
                // Better sent once too often than lost.
                tracing::warn!(%error, "subscriptions not read");
                true
            }
        }
    }

    /// The entry as far as it is known here.
    pub(crate) fn known(&self, key: &SubscriptionKey) -> Option<Arc<Entry>> {
        self.indexes.read().get(&key.tenant)?.get(&key.id)
    }

    /// What `revision` asked for is no longer sent: it failed too often.
    pub(crate) fn close(&self, key: &SubscriptionKey, revision: i64) {
        self.cancel(key, revision + 1);
    }
}

fn definition(subscription: &Subscription) -> String {
    String::from_utf8_lossy(&subscription.definition_json()).into_owned()
}

fn health(state: &DeliveryState, backlog: Option<Backlog>) -> DeliveryHealth {
    let waits = backlog.unwrap_or_default();
    DeliveryHealth {
        pending: waits.pending.unsigned_abs(),
        oldest_us: backlog.map(|backlog| backlog.oldest_us),
        attempts: waits.attempts.unsigned_abs(),
        dropped: state.dropped.unsigned_abs(),
        fails: state.fails_counter.unsigned_abs(),
        last_failure_reason: state.last_failure_reason.clone(),
    }
}

fn view(stored: StoredSubscription, state: &DeliveryState) -> Result<SubscriptionView, Error> {
    let counters = Counters {
        times_sent: state.times_sent.unsigned_abs(),
        last_notification_us: state.last_notification_us,
        last_success_us: state.last_success_us,
        last_success_code: state.last_success_code.and_then(|code| u16::try_from(code).ok()),
        last_failure_us: state.last_failure_us,
        last_failure_reason: state.last_failure_reason.clone(),
        fails: state.fails_counter.unsigned_abs(),
        closed: state.closes(stored.revision),
    };
    let subscription = Subscription::parse(stored.body.as_bytes())?;
    let counters = match subscription.notification.target.is_http() {
        true => counters,
        // Only HTTP has codes and texts (ngsi-v2.md 8).
        false => Counters { last_success_code: None, last_failure_reason: None, ..counters },
    };
    Ok(SubscriptionView { id: stored.id, path: stored.path, subscription, counters, health: None })
}
