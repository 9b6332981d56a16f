//! What the broker can do, whoever asks: REST and gRPC handlers translate to these calls and back, nothing else.

use std::sync::Arc;

use bus::Bus;
use ngsi::{
    Entity, Error, UpdateAction,
    query::EntityQuery,
    registration::Registration,
    subscription::{Subscription, SubscriptionPatch},
};
use scope::{PathPattern, QueryScope, Scope, ServicePath, Tenant};
use service_kit::{Clock, RequestContext};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    administration::{Administration, Outgoing},
    error::{QueryError, answer_of, answer_of_query, answer_of_store},
    forwarding::Forwarding,
    metrics::BrokerMetrics,
    query::{self, Deadline, Found, Page, TypeSummary},
    quota::{AdmitError, Quotas},
    registration::{RegistrationId, Registrations},
    store::{ContextStore, SystemStore},
    subscription::{self, Registry, SubscriptionId, SubscriptionView},
    tokens::Tokens,
    update::{Applied, BoxedWrite, Operation, Write},
};

/// The broker. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    pub(crate) store: Arc<dyn ContextStore>,
    pub(crate) subscriptions: Arc<Registry>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: BrokerMetrics,
    pub(crate) tokens: Arc<Tokens>,
    /// A query that reads longer is refused, milliseconds; 0 = never.
    pub(crate) query_ms: u64,
    pub(crate) administration: Arc<Administration>,
    pub(crate) system: Arc<dyn SystemStore>,
    pub(crate) registrations: Arc<Registrations>,
    pub(crate) forwarding: Arc<Forwarding>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) changes: Changes,
}

/// Where committed changes are read, and until when.
#[derive(Clone)]
pub(crate) struct Changes {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) stop: CancellationToken,
    /// One permit for each watch.
    pub(crate) watches: Arc<Semaphore>,
}

impl Core {
    /// Applies operations, each on its own: one result per operation, in order. What is answered with `Ok`, or with
    /// `PartialUpdate`, is committed, durable and readable. Operations on one entity are applied in the order given.
    pub async fn apply(
        &self,
        scope: &Scope,
        operations: Vec<Operation>,
        cause: &RequestContext,
    ) -> Vec<Result<Applied, Error>> {
        let writes = operations.into_iter().zip(self.now_us()..).map(|(operation, accepted_us)| {
            let mut write = Write::new(scope.clone(), operation, cause.clone());
            write.accepted_us = Some(accepted_us);
            self.apply_one(write)
        });
        // Polled in order, so that they enter the queue of the group commit in order.
        futures::future::join_all(writes).await
    }

    /// The same of one operation.
    pub(crate) async fn apply_operation(
        &self,
        scope: Scope,
        operation: Operation,
        cause: RequestContext,
    ) -> Result<Applied, Error> {
        let mut write = Write::new(scope, operation, cause);
        write.accepted_us = Some(self.now_us());
        self.apply_one(write).await
    }

    pub(crate) async fn apply_one(&self, write: BoxedWrite) -> Result<Applied, Error> {
        let result = match write.has_storable_key() {
            true => self.apply_within_quota(write).await,
            false => Err(Error::bad_request("Too long entity id/type/servicePath combination")),
        };
        self.metrics.update(&result);
        result
    }

    async fn apply_within_quota(&self, write: BoxedWrite) -> Result<Applied, Error> {
        if self.quotas.of(&write.scope.tenant).entities == 0 {
            return self.store.apply(write).await.map_err(answer_of);
        }
        let tenant = write.scope.tenant.clone();
        let kept = match Box::pin(self.quotas.admit(&*self.store, &write)).await {
            Ok(kept) => kept,
            Err(AdmitError::Refused(error)) => return Err(error),
            Err(AdmitError::Store(error)) => return Err(answer_of_store(error)),
        };
        let operation = &write.operation;
        let deletes = operation.action == UpdateAction::Delete && operation.update.attributes.is_empty();
        let result = self.store.apply(write).await.map_err(answer_of);
        let gone = deletes && result.is_ok();
        let unused = kept && !result.as_ref().is_ok_and(|applied| applied.created);
        if gone || unused {
            self.quotas.give_back(&tenant);
        }
        result
    }

    /// The one entity of this id (and type): `NotFound` when there is none, `TooManyResults` when there are several.
    pub async fn get(
        &self,
        scope: &QueryScope,
        id: &str,
        entity_type: Option<&str>,
    ) -> Result<Arc<Entity>, Error> {
        self.get_found(scope, id, entity_type).await?.entity()
    }

    /// As [`Core::get`], not decoded yet.
    pub async fn get_found(
        &self,
        scope: &QueryScope,
        id: &str,
        entity_type: Option<&str>,
    ) -> Result<Found, Error> {
        let mut found = self.store.find(scope, id, entity_type).await.map_err(answer_of_store)?;
        match found.len() {
            0 => Err(Error::entity_not_found()),
            1 => Ok(Found::Text(found.remove(0))),
            _ => Err(Error::too_many_results()),
        }
    }

    /// The entities of this id (and type), oldest first.
    pub async fn find(
        &self,
        scope: &QueryScope,
        id: &str,
        entity_type: Option<&str>,
    ) -> Result<Vec<Arc<Entity>>, Error> {
        let found = self.store.find(scope, id, entity_type).await.map_err(answer_of_store)?;
        found.into_iter().map(|entity| Found::Text(entity).entity()).collect()
    }

    /// A page of entities, with the total when the query asks for it.
    pub async fn query(&self, scope: &QueryScope, query: &EntityQuery) -> Result<Page, Error> {
        let deadline = Deadline::after(self.query_ms);
        query::run(&*self.store, scope, query, deadline).await.map_err(|error| self.refused(error))
    }

    /// The types of the entities in scope, sorted by name.
    pub async fn types(&self, scope: &QueryScope) -> Result<Vec<TypeSummary>, Error> {
        let deadline = Deadline::after(self.query_ms);
        query::types(&*self.store, scope, None, deadline).await.map_err(|error| self.refused(error))
    }

    /// One type; `NotFound` when no entity has it.
    pub async fn get_type(&self, scope: &QueryScope, entity_type: &str) -> Result<TypeSummary, Error> {
        let deadline = Deadline::after(self.query_ms);
        let found = query::types(&*self.store, scope, Some(entity_type), deadline).await;
        let mut found = found.map_err(|error| self.refused(error))?;
        found.pop().ok_or_else(Error::type_not_found)
    }

    fn refused(&self, error: QueryError) -> Error {
        if matches!(error, QueryError::TooSlow { .. }) {
            self.metrics.slow_query();
        }
        answer_of_query(error)
    }

    /// Creates a subscription on the entities of `path`.
    pub async fn create_subscription(
        &self,
        tenant: &Tenant,
        path: &PathPattern,
        subscription: &Subscription,
    ) -> Result<SubscriptionId, Error> {
        let limit = self.quotas.of(tenant).subscriptions;
        if limit == 0 {
            return self.subscriptions.create(tenant, path, subscription).await;
        }
        let _turn = self.quotas.creating.lock().await;
        let known = self.store.count_subscriptions(tenant).await.map_err(answer_of_store)?;
        Quotas::check("subscriptions", known, limit)?;
        self.subscriptions.create(tenant, path, subscription).await
    }

    pub async fn get_subscription(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
        with_health: bool,
    ) -> Result<SubscriptionView, Error> {
        self.subscriptions.get(tenant, id, with_health).await
    }

    /// The subscriptions whose path is exactly `path`, or all of the tenant, oldest first, and how many there are in all.
    pub async fn list_subscriptions(
        &self,
        tenant: &Tenant,
        path: Option<&PathPattern>,
        page: subscription::Page,
        with_health: bool,
    ) -> Result<(Vec<SubscriptionView>, u64), Error> {
        self.subscriptions.list(tenant, path, page, with_health).await
    }

    /// Changes the fields that `patch` names; what waits to be delivered under the old ones is cancelled.
    pub async fn update_subscription(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
        patch: SubscriptionPatch,
    ) -> Result<(), Error> {
        self.subscriptions.update(tenant, id, patch).await
    }

    pub async fn delete_subscription(&self, tenant: &Tenant, id: &SubscriptionId) -> Result<(), Error> {
        self.subscriptions.delete(tenant, id).await
    }

    /// Registers a context provider for entities of `path`.
    pub(crate) async fn create_registration(
        &self,
        tenant: &Tenant,
        path: &ServicePath,
        registration: &Registration,
    ) -> Result<RegistrationId, Error> {
        let limit = self.quotas.of(tenant).registrations;
        if limit == 0 {
            return self.registrations.create(tenant, path, registration).await;
        }
        let _turn = self.quotas.creating.lock().await;
        Quotas::check("registrations", self.registrations.number(tenant) as u64, limit)?;
        self.registrations.create(tenant, path, registration).await
    }

    /// The ids of the subscriptions of all tenants.
    pub(crate) async fn subscription_ids(&self) -> Result<Vec<String>, Error> {
        for (tenant, epoch) in self.system.subscription_epochs().await.map_err(answer_of_store)? {
            self.subscriptions.index(&tenant, epoch).await.map_err(answer_of_store)?;
        }
        Ok(self.subscriptions.ids())
    }

    /// What the notifier and its index have counted.
    pub(crate) fn outgoing(&self) -> Outgoing {
        Outgoing { refreshes: self.subscriptions.refreshes(), ..self.metrics.outgoing() }
    }

    /// Microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        self.clock.now_us()
    }
}
