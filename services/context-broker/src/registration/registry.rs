//! The registrations of all tenants: changed here for the API, indexed here for forwarding, counted here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ngsi::{
    Error, ErrorWord,
    query::EntitySelector,
    registration::{ForwardingCounters, Registration, RegistrationPatch},
};
use parking_lot::{Mutex, RwLock};
use scope::{PathPattern, QueryScope, ServicePath, Tenant};
use service_kit::Clock;
use store::StoreError;
use tokio_util::sync::CancellationToken;

use super::{
    Provided, RegistrationId, RegistrationView, StoredRegistration,
    index::TenantIndex,
    store::{Counted, RegistrationStore},
};
use crate::error::answer_of_store;

/// Changes of a registration that met another change of it.
const MAX_CONFLICTS: usize = 10;
const EVERY: Duration = Duration::from_secs(1);

type Key = (Tenant, RegistrationId);

pub(crate) struct Registrations {
    store: Arc<dyn RegistrationStore>,
    clock: Arc<dyn Clock>,
    indexes: RwLock<HashMap<Tenant, Arc<TenantIndex>>>,
    /// One at a time reads registrations.
    loading: tokio::sync::Mutex<()>,
    /// Counted since the last [`Registrations::keep`].
    counted: Mutex<HashMap<Key, ForwardingCounters>>,
}

impl Registrations {
    /// Reads all registrations.
    pub(crate) async fn open(
        store: Arc<dyn RegistrationStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let registrations = Self {
            store,
            clock,
            indexes: RwLock::default(),
            loading: tokio::sync::Mutex::new(()),
            counted: Mutex::default(),
        };
        registrations.follow().await?;
        Ok(registrations)
    }

    pub(crate) async fn create(
        &self,
        tenant: &Tenant,
        path: &ServicePath,
        registration: &Registration,
    ) -> Result<RegistrationId, Error> {
        let now_us = self.clock.now_us();
        let id = RegistrationId::generate(now_us);
        let stored = self.store.insert(tenant, path, &id, &definition(registration), now_us).await;
        stored.map_err(answer_of_store)?;
        self.load(tenant).await.map_err(answer_of_store)?;
        tracing::debug!(tenant = tenant.as_str(), registration = %id, "registration created");
        Ok(id)
    }

    pub(crate) async fn get(&self, tenant: &Tenant, id: &RegistrationId) -> Result<RegistrationView, Error> {
        self.view(tenant, self.stored(tenant, id).await?)
    }

    /// Those whose path is exactly `path`, or all; oldest first, with their number.
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        path: Option<&ServicePath>,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<RegistrationView>, u64), Error> {
        let (_, mut stored) = self.store.all(tenant).await.map_err(answer_of_store)?;
        stored.retain(|one| path.is_none_or(|path| one.path == *path));
        let total = stored.len() as u64;
        let page = stored.into_iter().skip(offset).take(limit);
        Ok((page.map(|one| self.view(tenant, one)).collect::<Result<_, _>>()?, total))
    }

    pub(crate) async fn update(
        &self,
        tenant: &Tenant,
        id: &RegistrationId,
        patch: RegistrationPatch,
    ) -> Result<(), Error> {
        for _ in 0..MAX_CONFLICTS {
            let stored = self.stored(tenant, id).await?;
            let mut registration = Registration::parse(stored.body.as_bytes())?;
            registration.merge(patch.clone());
            let body = definition(&registration);
            let replaced = self.store.replace(tenant, id, stored.revision, &body).await;
            if replaced.map_err(answer_of_store)? {
                return self.load(tenant).await.map_err(answer_of_store);
            }
        }
        tracing::warn!(registration = %id, "a change of the registration met another one again and again");
        Err(Error::unavailable())
    }

    pub(crate) async fn delete(&self, tenant: &Tenant, id: &RegistrationId) -> Result<(), Error> {
        if !self.store.delete(tenant, id).await.map_err(answer_of_store)? {
            return Err(not_found());
        }
        self.counted.lock().remove(&(tenant.clone(), id.clone()));
        self.load(tenant).await.map_err(answer_of_store)
    }

    /// Whether a tenant has none: then nothing of it is forwarded.
    pub(crate) fn is_empty(&self, tenant: &Tenant) -> bool {
        self.number(tenant) == 0
    }

    /// How many a tenant has.
    pub(crate) fn number(&self, tenant: &Tenant) -> usize {
        self.indexes.read().get(tenant).map_or(0, |index| index.len())
    }

    async fn stored(&self, tenant: &Tenant, id: &RegistrationId) -> Result<StoredRegistration, Error> {
        self.store.find(tenant, id).await.map_err(answer_of_store)?.ok_or_else(not_found)
    }

    fn view(&self, tenant: &Tenant, stored: StoredRegistration) -> Result<RegistrationView, Error> {
        let mut counters = stored.counters;
        if let Some(counted) = self.counted.lock().get(&(tenant.clone(), stored.id.clone())) {
            counters.add(counted);
        }
        let registration = Registration::parse(stored.body.as_bytes())?;
        Ok(RegistrationView { id: stored.id, registration, counters })
    }

    /// The registrations that have entities of any of `selectors` in the scope: those with exact ids first.
    pub(crate) fn providers(&self, scope: &QueryScope, selectors: &[EntitySelector]) -> Vec<Provided> {
        self.providers_at(&scope.tenant, &scope.patterns, selectors)
    }

    pub(crate) fn providers_at(
        &self,
        tenant: &Tenant,
        patterns: &[PathPattern],
        selectors: &[EntitySelector],
    ) -> Vec<Provided> {
        let Some(index) = self.indexes.read().get(tenant).filter(|index| !index.is_empty()).cloned() else {
            return Vec::new();
        };
        let now_us = self.clock.now_us();
        let mut found: Vec<Provided> = Vec::new();
        let every = [EntitySelector::default()];
        let selectors = if selectors.is_empty() { &every } else { selectors };
        for selector in selectors {
            for provided in index.providers(patterns, selector, now_us) {
                match found.iter_mut().find(|known| known.entry.id == provided.entry.id) {
                    Some(known) => {
                        let fresh = provided.entities.into_iter().filter(|one| !known.entities.contains(one));
                        let fresh: Vec<_> = fresh.collect();
                        known.entities.extend(fresh);
                    }
                    None => found.push(provided),
                }
            }
        }
        found
    }

    /// Follows the changes of other processes and stores what was counted, once a second until `stop`.
    pub(crate) async fn upkeep(self: Arc<Self>, stop: CancellationToken) -> Result<(), StoreError> {
        let mut ticker = tokio::time::interval(EVERY);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticker.tick() => {}
                () = stop.cancelled() => break,
            }
            let round = async {
                self.follow().await?;
                self.keep().await
            };
            if let Err(error) = round.await {
                tracing::debug!(%error, "registrations not followed, it is tried again");
            }
        }
        if let Err(error) = self.keep().await {
            tracing::warn!(%error, "counters of forwards not stored");
        }
        Ok(())
    }

    /// Takes in what other processes changed.
    pub(crate) async fn follow(&self) -> Result<(), StoreError> {
        for (tenant, epoch) in self.store.epochs().await? {
            let known = self.indexes.read().get(&tenant).map_or(0, |index| index.epoch);
            if known < epoch {
                self.load(&tenant).await?;
            }
        }
        Ok(())
    }

    async fn load(&self, tenant: &Tenant) -> Result<(), StoreError> {
        let _turn = self.loading.lock().await;
        let (epoch, stored) = self.store.all(tenant).await?;
        let index = tokio::task::spawn_blocking(move || TenantIndex::build(epoch, stored))
            .await
            .map_err(|error| StoreError::Internal(error.to_string()))?;
        self.indexes.write().insert(tenant.clone(), Arc::new(index));
        Ok(())
    }

    /// Counts one forward.
    pub(crate) fn count(&self, tenant: &Tenant, id: &RegistrationId, succeeded: bool) {
        let now = Some(self.clock.now_us());
        let once = ForwardingCounters {
            times_sent: 1,
            last_forwarding_us: now,
            last_success_us: now.filter(|_| succeeded),
            last_failure_us: now.filter(|_| !succeeded),
        };
        self.counted.lock().entry((tenant.clone(), id.clone())).or_default().add(&once);
    }

    /// Stores what was counted.
    pub(crate) async fn keep(&self) -> Result<(), StoreError> {
        let counted: Vec<Counted> = self
            .counted
            .lock()
            .iter()
            .map(|((tenant, id), counters)| Counted {
                tenant: tenant.clone(),
                id: id.clone(),
                counters: *counters,
            })
            .collect();
        if counted.is_empty() {
            return Ok(());
        }
        // Shown twice for a moment rather than not at all.
        self.store.count(&counted).await?;
        let mut open = self.counted.lock();
        for Counted { tenant, id, counters } in counted {
            if let std::collections::hash_map::Entry::Occupied(mut entry) = open.entry((tenant, id)) {
                let left = entry.get().times_sent.saturating_sub(counters.times_sent);
                entry.get_mut().times_sent = left;
                if left == 0 {
                    entry.remove();
                }
            }
        }
        Ok(())
    }
}

fn definition(registration: &Registration) -> String {
    String::from_utf8_lossy(&registration.definition_json()).into_owned()
}

fn not_found() -> Error {
    Error::new(ErrorWord::NotFound, "The requested registration has not been found. Check id")
}
