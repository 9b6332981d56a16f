//! The notifier's file `notifier.db`: written by one process.

use std::{collections::HashMap, path::Path, time::Duration};

use async_trait::async_trait;
use bus::{OutboxDb, outbox};
use scope::Tenant;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};
use store::{SqlitePools, StoreError, position};

use super::{
    Backlog, Bounds, DeliveryState, ENFORCED_AT_ONCE, Effect, Intake, Match, NotificationStore, Recorded,
    history_records,
    row::{
        BacklogRow, CountRow, MOST_WAITING, PendingRow, StateRow, States, counted, failing, immediate, pass,
        take_in, touched,
    },
    schema::{COMPONENT, MIGRATIONS, PENDING, STATE},
};
use crate::{
    notification::pending::{Completion, Pending, SubscriptionKey},
    subscription::SubscriptionId,
};

const WAITING: &str =
    "SELECT count(*) FROM (SELECT 1 FROM pending_delivery WHERE tenant = ? AND subscription = ? LIMIT ?)";

pub struct SqliteNotificationStore {
    pools: SqlitePools,
    wake_history: std::sync::OnceLock<bus::Waker>,
}

impl SqliteNotificationStore {
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        let pools = store::open_sqlite(file, COMPONENT, MIGRATIONS).await?;
        Ok(Self { pools, wake_history: std::sync::OnceLock::new() })
    }

    /// Where the outbox of topic `history` is.
    pub fn outbox(&self) -> OutboxDb {
        OutboxDb::Sqlite(self.pools.clone())
    }

    /// Called after each commit that appended to the history.
    pub fn wake_history(&self, waker: bus::Waker) {
        self.wake_history.set(waker).ok();
    }
}

#[async_trait]
impl NotificationStore for SqliteNotificationStore {
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        let mut reader = self.pools.reader.acquire().await?;
        position::load_sqlite(&mut reader, topic, partition).await
    }

    async fn record(&self, intake: Intake<'_>) -> Result<Option<Recorded>, StoreError> {
        let mut transaction = self.pools.begin().await?;
        let (expected, next) = (intake.expected, intake.next);
        let moved =
            position::advance_sqlite(&mut transaction, intake.topic, intake.partition, expected, next)
                .await?;
        if !moved {
            return Ok(None);
        }
        let mut states = load_states(&mut transaction, &touched(&intake.matches)).await?;
        let before = states.clone();
        let passed = pass(intake.matches, &mut states, intake.now_us);
        let (kept, immediate) = match intake.durable {
            true => (passed.deliveries, Vec::new()),
            false => (Vec::new(), immediate(passed.deliveries)),
        };
        let endpoints = insert(&mut transaction, &kept).await?;
        store_states(&mut transaction, &before, &states).await?;
        let records = history_records(intake.changes, passed.history);
        outbox::append_sqlite(&mut transaction, bus::HISTORY, &records).await?;
        transaction.commit().await?;
        if let Some(waker) = self.wake_history.get().filter(|_| !records.is_empty()) {
            waker.wake();
        }
        Ok(Some(Recorded {
            endpoints,
            deliveries: (kept.len() + immediate.len()) as u64,
            history_records: records.len() as u64,
            held_back: passed.held_back,
            immediate,
        }))
    }

    async fn state(&self, key: &SubscriptionKey) -> Result<DeliveryState, StoreError> {
        let statement =
            format!("SELECT {STATE} FROM subscription_state WHERE tenant = ? AND subscription = ?");
        let state = sqlx::query_as(AssertSqlSafe(statement))
            .bind(key.tenant.as_str())
            .bind(key.id.as_str())
            .fetch_optional(&self.pools.reader)
            .await?;
        Ok(state.unwrap_or_default())
    }

    async fn states(
        &self,
        tenant: &Tenant,
        ids: &[SubscriptionId],
    ) -> Result<Vec<(SubscriptionKey, DeliveryState)>, StoreError> {
        let statement = format!(
            "SELECT tenant, subscription, {STATE} FROM subscription_state \
             WHERE tenant = ? AND subscription IN (SELECT value FROM json_each(?))"
        );
        let ids: Vec<&str> = ids.iter().map(SubscriptionId::as_str).collect();
        let rows: Vec<StateRow> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(json(&ids))
            .fetch_all(&self.pools.reader)
            .await?;
        rows.into_iter().map(StateRow::decode).collect()
    }

    async fn forget(&self, key: &SubscriptionKey) -> Result<u64, StoreError> {
        let mut transaction = self.pools.begin().await?;
        sqlx::query("DELETE FROM subscription_state WHERE tenant = ? AND subscription = ?")
            .bind(key.tenant.as_str())
            .bind(key.id.as_str())
            .execute(&mut *transaction)
            .await?;
        let cancelled = cancel(&mut transaction, key, i64::MAX).await?;
        transaction.commit().await?;
        Ok(cancelled)
    }

    async fn cancel(&self, key: &SubscriptionKey, revision: i64) -> Result<u64, StoreError> {
        let mut transaction = self.pools.begin().await?;
        let cancelled = cancel(&mut transaction, key, revision).await?;
        transaction.commit().await?;
        Ok(cancelled)
    }

    async fn endpoints(&self) -> Result<Vec<String>, StoreError> {
        // One probe of the index per endpoint, however much waits for it.
        Ok(sqlx::query_scalar(
            "WITH RECURSIVE found(endpoint) AS (SELECT min(endpoint) FROM pending_delivery UNION ALL \
             SELECT (SELECT min(endpoint) FROM pending_delivery p WHERE p.endpoint > found.endpoint) FROM found \
             WHERE found.endpoint IS NOT NULL) SELECT endpoint FROM found WHERE endpoint IS NOT NULL",
        )
        .fetch_all(&self.pools.reader)
        .await?)
    }

    fn owns(&self, _: &str) -> bool {
        true
    }

    fn look_every(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn release(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn waiting(&self, endpoint: &str, limit: u32) -> Result<Vec<Pending>, StoreError> {
        let statement =
            format!("SELECT {PENDING} FROM pending_delivery WHERE endpoint = ? ORDER BY seq LIMIT ?");
        let rows: Vec<PendingRow> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(endpoint)
            .bind(limit)
            .fetch_all(&self.pools.reader)
            .await?;
        rows.into_iter().map(PendingRow::decode).collect()
    }

    async fn complete(
        &self,
        completions: Vec<Completion>,
    ) -> Result<Vec<(SubscriptionKey, i64)>, StoreError> {
        let mut keys: Vec<SubscriptionKey> = completions.iter().map(|one| one.subscription.clone()).collect();
        keys.sort();
        keys.dedup();
        let mut transaction = self.pools.begin().await?;
        let mut states = load_states(&mut transaction, &keys).await?;
        let before = states.clone();
        let mut waiting = HashMap::new();
        for key in failing(&completions) {
            let count: i64 = sqlx::query_scalar(WAITING)
                .bind(key.tenant.as_str())
                .bind(key.id.as_str())
                .bind(MOST_WAITING)
                .fetch_one(&mut *transaction)
                .await?;
            waiting.insert(key.clone(), count);
        }
        let tries = take_in(&completions, &mut states, &waiting);
        for (statement, seqs) in [
            ("DELETE FROM pending_delivery WHERE seq IN (SELECT value FROM json_each(?))", &tries.gone),
            (
                "UPDATE pending_delivery SET attempts = attempts + 1 \
                 WHERE seq IN (SELECT value FROM json_each(?))",
                &tries.again,
            ),
        ] {
            if !seqs.is_empty() {
                sqlx::query(statement).bind(json(seqs)).execute(&mut *transaction).await?;
            }
        }
        store_states(&mut transaction, &before, &states).await?;
        for (key, revision) in &tries.closed {
            cancel(&mut transaction, key, revision + 1).await?;
        }
        transaction.commit().await?;
        Ok(tries.closed)
    }

    async fn enforce(&self, bounds: Bounds) -> Result<u64, StoreError> {
        // Looked for on the side, so that what is to be stored does not wait for it.
        // They come in the order of time, but for a few: the oldest are the first.
        let oldest: Option<i64> =
            sqlx::query_scalar("SELECT commit_time_us FROM pending_delivery ORDER BY seq LIMIT 1")
                .fetch_optional(&self.pools.reader)
                .await?;
        let crowded: Vec<String> =
            sqlx::query_scalar("SELECT endpoint FROM pending_delivery GROUP BY endpoint HAVING count(*) > ?")
                .bind(bounds.max_per_endpoint)
                .fetch_all(&self.pools.reader)
                .await?;
        let has_old = oldest.is_some_and(|oldest| oldest < bounds.not_before_us);
        if !has_old && crowded.is_empty() {
            return Ok(0);
        }
        let mut transaction = self.pools.begin().await?;
        let mut dropped: Vec<(String, String)> = Vec::new();
        if has_old {
            let old = sqlx::query_as(
                "DELETE FROM pending_delivery WHERE commit_time_us < ? AND seq IN \
                 (SELECT seq FROM pending_delivery ORDER BY seq LIMIT ?) RETURNING tenant, subscription",
            );
            let old = old.bind(bounds.not_before_us).bind(ENFORCED_AT_ONCE);
            dropped.extend(old.fetch_all(&mut *transaction).await?);
        }
        for endpoint in crowded {
            let surplus = sqlx::query_as(
                "DELETE FROM pending_delivery WHERE endpoint = ?1 AND seq IN \
                 (SELECT seq FROM pending_delivery WHERE endpoint = ?1 ORDER BY seq LIMIT min(?2, \
                 max(0, (SELECT count(*) FROM pending_delivery WHERE endpoint = ?1) - ?3))) \
                 RETURNING tenant, subscription",
            );
            let surplus = surplus.bind(endpoint).bind(ENFORCED_AT_ONCE).bind(bounds.max_per_endpoint);
            dropped.extend(surplus.fetch_all(&mut *transaction).await?);
        }
        let count = dropped.len() as u64;
        if count > 0 {
            sqlx::query(
                "INSERT INTO subscription_state (tenant, subscription, times_sent, fails_counter, dropped) \
                 SELECT value ->> 0, value ->> 1, 0, 0, value ->> 2 FROM json_each(?) WHERE true \
                 ON CONFLICT (tenant, subscription) DO UPDATE SET dropped = dropped + excluded.dropped",
            )
            .bind(json(&counted(dropped)))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(count)
    }

    async fn backlog(
        &self,
        tenant: &Tenant,
        only: Option<&SubscriptionId>,
    ) -> Result<Vec<(SubscriptionKey, Backlog)>, StoreError> {
        let rows: Vec<BacklogRow> = sqlx::query_as(
            "SELECT tenant, subscription, count(*) AS pending, min(commit_time_us) AS oldest_us, \
             max(attempts) AS attempts FROM pending_delivery WHERE tenant = ? AND (? IS NULL OR subscription = ?) \
             GROUP BY tenant, subscription",
        )
        .bind(tenant.as_str())
        .bind(only.map(SubscriptionId::as_str))
        .bind(only.map(SubscriptionId::as_str))
        .fetch_all(&self.pools.reader)
        .await?;
        rows.into_iter().map(BacklogRow::decode).collect()
    }

    async fn longest(&self, limit: u32) -> Result<Vec<(SubscriptionKey, i64)>, StoreError> {
        let rows: Vec<CountRow> = sqlx::query_as(
            "SELECT tenant, subscription, count(*) AS count FROM pending_delivery GROUP BY tenant, subscription \
             ORDER BY count DESC, tenant, subscription LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.pools.reader)
        .await?;
        rows.into_iter().map(CountRow::decode).collect()
    }

    async fn pending(&self, at_most: u64) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM pending_delivery LIMIT $1)")
            .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
            .fetch_one(&self.pools.reader)
            .await?;
        Ok(count.unsigned_abs())
    }

    async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pools.reader).await?;
        Ok(())
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

async fn load_states(
    transaction: &mut Transaction<'_, Sqlite>,
    keys: &[SubscriptionKey],
) -> Result<States, StoreError> {
    if keys.is_empty() {
        return Ok(States::new());
    }
    let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.tenant.as_str(), key.id.as_str())).collect();
    let statement = format!(
        "SELECT s.tenant, s.subscription, {STATE} FROM json_each(?) k CROSS JOIN subscription_state s \
         ON s.tenant = k.value ->> 0 AND s.subscription = k.value ->> 1"
    );
    let rows: Vec<StateRow> =
        sqlx::query_as(AssertSqlSafe(statement)).bind(json(&pairs)).fetch_all(&mut **transaction).await?;
    rows.into_iter().map(StateRow::decode).collect()
}

/// Writes the states that differ from what they were.
async fn store_states(
    transaction: &mut Transaction<'_, Sqlite>,
    before: &States,
    states: &States,
) -> Result<(), StoreError> {
    let changed: Vec<_> = states
        .iter()
        .filter(|(key, state)| before.get(*key) != Some(*state))
        .map(|(key, s)| {
            (
                (
                    key.tenant.as_str(),
                    key.id.as_str(),
                    s.times_sent,
                    s.last_notification_us,
                    s.last_success_us,
                ),
                (s.last_success_code, s.last_failure_us, s.last_failure_reason.as_deref()),
                (s.fails_counter, s.accepted_us, s.closed_revision, s.dropped),
            )
        })
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let statement = format!(
        "INSERT INTO subscription_state (tenant, subscription, {STATE}) SELECT value ->> '$[0][0]', \
         value ->> '$[0][1]', value ->> '$[0][2]', value ->> '$[0][3]', value ->> '$[0][4]', value ->> '$[1][0]', \
         value ->> '$[1][1]', value ->> '$[1][2]', value ->> '$[2][0]', value ->> '$[2][1]', value ->> '$[2][2]', \
         value ->> '$[2][3]' \
         FROM json_each(?) WHERE true ON CONFLICT (tenant, subscription) DO UPDATE SET \
         times_sent = excluded.times_sent, last_notification_us = excluded.last_notification_us, \
         last_success_us = excluded.last_success_us, last_success_code = excluded.last_success_code, \
         last_failure_us = excluded.last_failure_us, last_failure_reason = excluded.last_failure_reason, \
         fails_counter = excluded.fails_counter, accepted_us = excluded.accepted_us, \
         closed_revision = excluded.closed_revision, dropped = excluded.dropped"
    );
    sqlx::query(AssertSqlSafe(statement)).bind(json(&changed)).execute(&mut **transaction).await?;
    Ok(())
}

/// Inserts deliveries; answers their endpoints, each once.
async fn insert(
    transaction: &mut Transaction<'_, Sqlite>,
    deliveries: &[Match],
) -> Result<Vec<String>, StoreError> {
    let mut endpoints = Vec::new();
    for (statement, chunk) in INSERT.chunks(deliveries) {
        let mut query = sqlx::query(statement);
        for one in chunk {
            let Effect::Deliver(delivery) = &one.effect else { continue };
            let endpoint = delivery.target.endpoint();
            query = query
                .bind(endpoint.clone().into_owned())
                .bind(one.subscription.tenant.as_str())
                .bind(one.subscription.id.as_str())
                .bind(one.revision)
                .bind(&delivery.lane)
                .bind(json(&delivery.target))
                .bind(&*delivery.body)
                .bind(delivery.commit_time_us);
            endpoints.push(endpoint.into_owned());
        }
        query.execute(&mut **transaction).await?;
    }
    endpoints.sort();
    endpoints.dedup();
    Ok(endpoints)
}

static INSERT: std::sync::LazyLock<crate::store::Bulk> = std::sync::LazyLock::new(|| {
    crate::store::Bulk::new(
        "INSERT INTO pending_delivery (endpoint, tenant, subscription, revision, lane, target, body, \
         commit_time_us) VALUES ",
        "(?,?,?,?,?,?,?,?)",
        "",
    )
});

/// Deletes what waits for a subscription under a revision below `revision`.
async fn cancel(
    transaction: &mut Transaction<'_, Sqlite>,
    key: &SubscriptionKey,
    revision: i64,
) -> Result<u64, StoreError> {
    let cancelled =
        sqlx::query("DELETE FROM pending_delivery WHERE tenant = ? AND subscription = ? AND revision < ?")
            .bind(key.tenant.as_str())
            .bind(key.id.as_str())
            .bind(revision)
            .execute(&mut **transaction)
            .await?;
    Ok(cancelled.rows_affected())
}
