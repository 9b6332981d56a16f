//! Rows of the notifier's tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use scope::Tenant;
use store::StoreError;

use super::{Backlog, DeliveryState, Effect, HistoryPart, Match};
use crate::notification::pending::{Completion, Fate, Pending, SubscriptionKey};
use crate::subscription::SubscriptionId;

#[derive(sqlx::FromRow, Debug)]
pub(super) struct PendingRow {
    seq: i64,
    tenant: String,
    subscription: String,
    revision: i64,
    lane: String,
    target: String,
    body: Vec<u8>,
    commit_time_us: i64,
    attempts: i64,
}

impl PendingRow {
    pub(super) fn decode(self) -> Result<Pending, StoreError> {
        let target = serde_json::from_str(&self.target)
            .map_err(|_| StoreError::Internal(format!("delivery {} has an unreadable target", self.seq)))?;
        Ok(Pending {
            seq: self.seq,
            subscription: key(&self.tenant, &self.subscription)?,
            revision: self.revision,
            lane: self.lane,
            target,
            body: self.body.into(),
            commit_time_us: self.commit_time_us,
            attempts: self.attempts,
        })
    }
}

#[derive(sqlx::FromRow, Debug)]
pub(super) struct StateRow {
    tenant: String,
    subscription: String,
    #[sqlx(flatten)]
    state: DeliveryState,
}

impl StateRow {
    pub(super) fn decode(self) -> Result<(SubscriptionKey, DeliveryState), StoreError> {
        Ok((key(&self.tenant, &self.subscription)?, self.state))
    }
}

#[derive(sqlx::FromRow, Debug)]
pub(super) struct BacklogRow {
    tenant: String,
    subscription: String,
    #[sqlx(flatten)]
    backlog: Backlog,
}

impl BacklogRow {
    pub(super) fn decode(self) -> Result<(SubscriptionKey, Backlog), StoreError> {
        Ok((key(&self.tenant, &self.subscription)?, self.backlog))
    }
}

/// A subscription, and a number that belongs to it.
#[derive(sqlx::FromRow, Debug)]
pub(super) struct CountRow {
    tenant: String,
    subscription: String,
    count: i64,
}

impl CountRow {
    pub(super) fn decode(self) -> Result<(SubscriptionKey, i64), StoreError> {
        Ok((key(&self.tenant, &self.subscription)?, self.count))
    }
}

/// The subscriptions of deleted rows, each with how many they were.
pub(super) fn counted(rows: Vec<(String, String)>) -> Vec<(String, String, i64)> {
    let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
    for row in rows {
        *counts.entry(row).or_default() += 1;
    }
    counts.into_iter().map(|((tenant, subscription), count)| (tenant, subscription, count)).collect()
}

fn key(tenant: &str, subscription: &str) -> Result<SubscriptionKey, StoreError> {
    let unreadable =
        || StoreError::Internal(format!("subscription {subscription} of {tenant} has no valid key"));
    Ok(SubscriptionKey {
        tenant: Tenant::from_header(Some(tenant)).map_err(|_| unreadable())?,
        id: SubscriptionId::parse(subscription).map_err(|_| unreadable())?,
    })
}

/// States by subscription, as they change in one transaction.
pub(super) type States = BTreeMap<SubscriptionKey, DeliveryState>;

/// The subscriptions whose state a batch of matches reads or changes, sorted.
pub(super) fn touched(matches: &[Match]) -> Vec<SubscriptionKey> {
    let mut keys: Vec<SubscriptionKey> = matches
        .iter()
        .filter(|one| !one.gate.is_open() || matches!(one.effect, Effect::History(_)))
        .map(|one| one.subscription.clone())
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// What passed the gates.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) deliveries: Vec<Match>,
    pub(super) history: Vec<HistoryPart>,
    pub(super) held_back: u64,
}

/// Sends matches through their gates, in order; what goes into the history is counted here (decision 17).
pub(super) fn pass(matches: Vec<Match>, states: &mut States, now_us: i64) -> Passed {
    let mut passed = Passed::default();
    for one in matches {
        if !one.gate.is_open() {
            let state = states.entry(one.subscription.clone()).or_default();
            if !one.gate.pass(state, one.revision, one.commit_time_us) {
                passed.held_back += 1;
                continue;
            }
        }
        match one.effect {
            Effect::Deliver(_) => passed.deliveries.push(one),
            Effect::History(part) => {
                let state = states.entry(one.subscription).or_default();
                state.times_sent += 1;
                state.last_notification_us = state.last_notification_us.max(Some(now_us));
                state.last_success_us = state.last_success_us.max(Some(now_us));
                state.last_success_code = Some(200);
                state.fails_counter = 0;
                passed.history.push(part);
            }
        }
    }
    passed
}

/// Deliveries that are not kept: sent once, from memory.
pub(super) fn immediate(deliveries: Vec<Match>) -> Vec<Pending> {
    let pending = deliveries.into_iter().filter_map(|one| match one.effect {
        Effect::History(_) => None,
        Effect::Deliver(delivery) => Some(Pending {
            seq: 0,
            subscription: one.subscription,
            revision: one.revision,
            lane: delivery.lane,
            target: delivery.target,
            body: delivery.body,
            commit_time_us: delivery.commit_time_us,
            attempts: 0,
        }),
    });
    pending.collect()
}

/// What a batch of tries changes.
#[derive(Default)]
pub(super) struct Tries {
    pub(super) gone: Vec<i64>,
    pub(super) again: Vec<i64>,
    /// Subscriptions that became inactive, with the revision: nothing more is sent for them.
    pub(super) closed: Vec<(SubscriptionKey, i64)>,
}

/// Most waiting notifications that are counted for `failsCounter`.
pub(super) const MOST_WAITING: i64 = 10_000;

/// The subscriptions whose waiting notifications count: those of which one has failed and waits on.
pub(super) fn failing(completions: &[Completion]) -> BTreeSet<&SubscriptionKey> {
    let waits = |one: &&Completion| one.seq != 0 && matches!(one.fate, Fate::Failed { .. });
    completions.iter().filter(waits).map(|one| &one.subscription).collect()
}

/// Takes tries into the states, in order; `waiting` has how many notifications wait for those of [`failing`].
pub(super) fn take_in(
    completions: &[Completion],
    states: &mut States,
    waiting: &HashMap<SubscriptionKey, i64>,
) -> Tries {
    let mut tries = Tries::default();
    for completion in completions {
        match completion.fate {
            // Not kept: there is no row.
            _ if completion.seq == 0 => {}
            Fate::Failed { .. } => tries.again.push(completion.seq),
            Fate::Delivered { .. } | Fate::Dropped { .. } | Fate::Cancelled => {
                tries.gone.push(completion.seq)
            }
        }
        if completion.fate == Fate::Cancelled {
            continue;
        }
        let state = states.entry(completion.subscription.clone()).or_default();
        let waiting = waiting.get(&completion.subscription).copied().unwrap_or(0);
        if state.record(completion, waiting) {
            tries.closed.push((completion.subscription.clone(), completion.revision));
        }
    }
    tries
}
