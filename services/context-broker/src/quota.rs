//! What a tenant may have and ask for. Off unless configured.
//!
//! Numbers of subscriptions and registrations are exact within a process. Entities are counted as they come and go and
//! recounted now and then, so that several replicas together may end a little above the limit. Rates are in the soft
//! state: with Redis all replicas share them; when it is away, nobody is held up.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ngsi::Error;
use parking_lot::Mutex;
use scope::{PathPattern, QueryScope, Tenant};
use serde::{Deserialize, Serialize};
use soft_state::{Rate, SoftState, Verdict};
use store::StoreError;
use tokio::time::Instant;

use crate::{
    store::{ContextStore, Selection},
    update::Write,
};

/// A count of entities is trusted for this long.
const RECOUNT_EVERY: Duration = Duration::from_secs(60);
/// At the limit it is made again, but not more often than this.
const RECOUNT_AT_LIMIT: Duration = Duration::from_secs(1);
const BUCKET: &str = "requests";

/// Limits of one tenant; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub entities: u64,
    pub subscriptions: u64,
    pub registrations: u64,
    /// Requests to `/v2` on average.
    pub requests_per_second: f64,
    /// Requests at once; 0: as many as in a second.
    pub requests_burst: f64,
}

/// Limits of every tenant, and of some by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaConfig {
    pub entities: u64,
    pub subscriptions: u64,
    pub registrations: u64,
    pub requests_per_second: f64,
    pub requests_burst: f64,
    /// These replace all of the above.
    pub tenants: Vec<TenantQuota>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantQuota {
    /// As in `Fiware-Service`; empty: the default tenant.
    pub tenant: String,
    pub limits: Limits,
}

#[derive(Clone, Copy)]
struct Count {
    entities: u64,
    counted: Instant,
}

pub(crate) struct Quotas {
    every: Limits,
    named: HashMap<Tenant, Limits>,
    soft_state: Arc<dyn SoftState>,
    counts: Mutex<HashMap<Tenant, Count>>,
    /// One at a time is counted and created.
    pub(crate) creating: tokio::sync::Mutex<()>,
}

impl Quotas {
    /// The error names the tenant that is none.
    pub(crate) fn new(config: &QuotaConfig, soft_state: Arc<dyn SoftState>) -> Result<Self, String> {
        let every = Limits {
            entities: config.entities,
            subscriptions: config.subscriptions,
            registrations: config.registrations,
            requests_per_second: config.requests_per_second,
            requests_burst: config.requests_burst,
        };
        let named = config.tenants.iter().map(|quota| {
            let tenant = Tenant::from_header(Some(&quota.tenant));
            Ok((tenant.map_err(|error| format!("quotas.tenants: {}: {error}", quota.tenant))?, quota.limits))
        });
        let named = named.collect::<Result<HashMap<_, _>, String>>()?;
        let rates = named
            .values()
            .chain([&every])
            .flat_map(|limits| [limits.requests_per_second, limits.requests_burst]);
        if rates.into_iter().any(|rate| !rate.is_finite() || rate < 0.0) {
            return Err("quotas: a rate is a number from 0 on".to_owned());
        }
        Ok(Self { every, named, soft_state, counts: Mutex::default(), creating: tokio::sync::Mutex::new(()) })
    }

    pub(crate) fn of(&self, tenant: &Tenant) -> &Limits {
        self.named.get(tenant).unwrap_or(&self.every)
    }

    /// Whether the tenant may make one more request now.
    pub(crate) async fn request(&self, tenant: &Tenant) -> Result<(), Error> {
        let limits = self.of(tenant);
        if limits.requests_per_second <= 0.0 {
            return Ok(());
        }
        let burst = match limits.requests_burst {
            0.0 => limits.requests_per_second.max(1.0),
            given => given.max(1.0),
        };
        let rate = Rate { per_second: limits.requests_per_second, burst };
        match self.soft_state.take(tenant, BUCKET, rate, 1.0).await {
            Ok(Verdict::Allowed) => Ok(()),
            Ok(Verdict::RetryAfter(_)) => Err(Error::too_many_requests(limits.requests_per_second)),
            Err(error) => {
                tracing::debug!(%error, "rate of requests not known");
                Ok(())
            }
        }
    }

    /// Refuses one more than `limit`. `limit` 0: any number.
    pub(crate) fn check(what: &str, number: u64, limit: u64) -> Result<(), Error> {
        if limit > 0 && number >= limit { Err(Error::quota_reached(what, limit)) } else { Ok(()) }
    }

    /// Whether the write may create an entity, if it would; answers whether a place is kept for it.
    /// A place that is not needed is given back.
    pub(crate) async fn admit(&self, store: &dyn ContextStore, write: &Write) -> Result<bool, AdmitError> {
        let tenant = &write.scope.tenant;
        let limit = self.of(tenant).entities;
        if limit == 0 || !write.operation.creates() {
            return Ok(false);
        }
        self.count(store, tenant, RECOUNT_EVERY).await?;
        if self.keep_place(tenant, limit) {
            return Ok(true);
        }
        if self.exists(store, write).await? {
            return Ok(false);
        }
        self.count(store, tenant, RECOUNT_AT_LIMIT).await?;
        if self.keep_place(tenant, limit) {
            return Ok(true);
        }
        Err(AdmitError::Refused(Error::quota_reached("entities", limit)))
    }

    fn keep_place(&self, tenant: &Tenant, limit: u64) -> bool {
        let mut counts = self.counts.lock();
        let Some(count) = counts.get_mut(tenant).filter(|count| count.entities < limit) else { return false };
        count.entities += 1;
        true
    }

    async fn count(
        &self,
        store: &dyn ContextStore,
        tenant: &Tenant,
        trusted: Duration,
    ) -> Result<(), StoreError> {
        let known = self.counts.lock().get(tenant).copied();
        if known.is_some_and(|count| count.counted.elapsed() < trusted) {
            return Ok(());
        }
        let scope = QueryScope::whole_tenant(tenant.clone());
        let entities = store.count(&scope, &Selection::default()).await?;
        self.counts.lock().insert(tenant.clone(), Count { entities, counted: Instant::now() });
        Ok(())
    }

    async fn exists(&self, store: &dyn ContextStore, write: &Write) -> Result<bool, StoreError> {
        let scope = QueryScope {
            tenant: write.scope.tenant.clone(),
            patterns: vec![PathPattern::Exact(write.scope.path.clone())],
        };
        let update = &write.operation.update;
        Ok(!store.find(&scope, &update.id, update.entity_type.as_deref()).await?.is_empty())
    }

    /// An entity went, or a place that was kept for one was not needed.
    pub(crate) fn give_back(&self, tenant: &Tenant) {
        if let Some(count) = self.counts.lock().get_mut(tenant) {
            count.entities = count.entities.saturating_sub(1);
        }
    }
}

/// Why a write was not admitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error(transparent)]
    Refused(#[from] Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}
