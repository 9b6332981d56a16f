//! What the notifier keeps: its position, what is to be delivered, and how each subscription fares.

use std::time::Duration;

use async_trait::async_trait;
use bus::Outgoing;
use scope::Tenant;
use store::StoreError;

mod ownership;
mod postgres;
mod row;
mod schema;
mod sqlite;
mod state;
#[cfg(test)]
mod suite;

pub use postgres::PostgresNotificationStore;
pub use sqlite::SqliteNotificationStore;
pub use state::DeliveryState;

use super::pending::{Completion, NewDelivery, Pending, SubscriptionKey};
use crate::subscription::SubscriptionId;

/// One subscription matched by one change.
#[derive(Clone, Debug)]
pub struct Match {
    pub subscription: SubscriptionKey,
    pub revision: i64,
    pub gate: Gate,
    pub commit_time_us: i64,
    pub effect: Effect,
}

/// What has to be decided against the stored state, by compare-and-set on the commit time (decision 17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Changes within this time after an accepted one are dropped, microseconds.
    pub throttling_us: Option<i64>,
    pub oneshot: bool,
    /// It may have been closed by failures.
    pub max_fails: bool,
}

impl Gate {
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a change of `commit_time_us` passes; `state` is changed if it does.
    pub fn pass(&self, state: &mut DeliveryState, revision: i64, commit_time_us: i64) -> bool {
        if state.closes(revision) {
            return false;
        }
        if let (Some(guard), Some(last)) = (self.throttling_us, state.accepted_us)
            && commit_time_us < last.saturating_add(guard)
        {
            return false;
        }
        state.accepted_us = state.accepted_us.max(Some(commit_time_us));
        if self.oneshot {
            state.closed_revision = state.closed_revision.max(Some(revision));
        }
        true
    }
}

#[derive(Clone, Debug)]
pub enum Effect {
    /// To be sent over HTTP.
    Deliver(NewDelivery),
    /// To be appended to the mesh's own history; the record is made of all that pass for one change.
    History(HistoryPart),
}

/// What one subscription wants of one change in the history.
#[derive(Clone, Debug)]
pub struct HistoryPart {
    /// Index of the change in the batch.
    pub change: usize,
    /// The attributes as this subscription selects them: a JSON object.
    pub attributes: serde_json::Map<String, serde_json::Value>,
    pub time_index_attribute: String,
}

/// The effects of a batch of changes.
#[derive(Debug)]
pub struct Intake<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub expected: Option<i64>,
    pub next: i64,
    pub matches: Vec<Match>,
    /// The changes of the batch, for the history.
    pub changes: &'a [proto::v1::ContextChange],
    pub now_us: i64,
    /// Whether deliveries are kept until they are made; if not, they are handed back and sent once.
    pub durable: bool,
}

/// What was stored.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Endpoints that got something to do.
    pub endpoints: Vec<String>,
    pub deliveries: u64,
    pub history_records: u64,
    /// Matches that a gate held back.
    pub held_back: u64,
    /// What is not kept: to be sent now. Their `seq` is 0.
    pub immediate: Vec<Pending>,
}

/// What waits for one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Backlog {
    pub pending: i64,
    /// When the oldest of it was committed, microseconds since 1970.
    pub oldest_us: i64,
    /// Tries that the most tried of it has behind it.
    pub attempts: i64,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Deliveries committed before this are dropped, microseconds since 1970.
    pub not_before_us: i64,
    /// Deliveries per endpoint.
    pub max_per_endpoint: i64,
}

/// Old deliveries that are dropped in one round, at most.
pub(super) const ENFORCED_AT_ONCE: i64 = 10_000;

#[async_trait]
pub trait NotificationStore: Send + Sync + 'static {
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError>;

    /// Stores the effects and the position in one transaction; `None` when the position was not the expected one.
    async fn record(&self, intake: Intake<'_>) -> Result<Option<Recorded>, StoreError>;

    async fn state(&self, key: &SubscriptionKey) -> Result<DeliveryState, StoreError>;

    /// The states of those of the subscriptions that have any.
    async fn states(
        &self,
        tenant: &Tenant,
        ids: &[SubscriptionId],
    ) -> Result<Vec<(SubscriptionKey, DeliveryState)>, StoreError>;

    /// Deletes what is known of a subscription and what waits for it.
    async fn forget(&self, key: &SubscriptionKey) -> Result<u64, StoreError>;

    /// Deletes what waits under revisions below `revision`.
    async fn cancel(&self, key: &SubscriptionKey, revision: i64) -> Result<u64, StoreError>;

    /// Endpoints of this process that something waits for. Renews what the process owns.
    async fn endpoints(&self) -> Result<Vec<String>, StoreError>;

    /// Whether this process delivers to the endpoint now.
    fn owns(&self, endpoint: &str) -> bool;

    /// How often to look for endpoints that nobody called for.
    fn look_every(&self) -> Duration;

    /// Leaves the endpoints to other processes.
    async fn release(&self) -> Result<(), StoreError>;

    /// The oldest deliveries to an endpoint.
    async fn waiting(&self, endpoint: &str, limit: u32) -> Result<Vec<Pending>, StoreError>;

    /// Records tries; answers the subscriptions that became inactive, with the revision.
    async fn complete(&self, completions: Vec<Completion>)
    -> Result<Vec<(SubscriptionKey, i64)>, StoreError>;

    /// What waits for the subscriptions of a tenant, or for one of them; those for which nothing waits are left out.
    async fn backlog(
        &self,
        tenant: &Tenant,
        only: Option<&SubscriptionId>,
    ) -> Result<Vec<(SubscriptionKey, Backlog)>, StoreError>;

    /// The subscriptions for which most waits, of all tenants, with how much.
    async fn longest(&self, limit: u32) -> Result<Vec<(SubscriptionKey, i64)>, StoreError>;

    /// Drops what is beyond the bounds, counts it to its subscriptions; how many.
    async fn enforce(&self, bounds: Bounds) -> Result<u64, StoreError>;

    /// Deliveries that wait, in all; no more than `at_most` are counted.
    async fn pending(&self, at_most: u64) -> Result<u64, StoreError>;

    /// For readiness.
    async fn check(&self) -> Result<(), StoreError>;
}

/// The records for the history of what passed: one per change, with the union of the attributes (decision 14).
pub(super) fn history_records(
    changes: &[proto::v1::ContextChange],
    parts: Vec<HistoryPart>,
) -> Vec<Outgoing> {
    let mut records: Vec<HistoryPart> = Vec::new();
    for part in parts {
        // Parts come in the order of their changes.
        match records.last_mut() {
            Some(record) if record.change == part.change => record.attributes.extend(part.attributes),
            _ => records.push(part),
        }
    }
    records.into_iter().filter_map(|part| super::history::encode(changes.get(part.change)?, part)).collect()
}
